"""What rank zero does with a probe: every logger, the records, the charts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from lightning.pytorch import LightningModule, Trainer

from dnc_lightning.callbacks.deadlines import in_time
from dnc_lightning.callbacks.examples import write_examples
from dnc_lightning.callbacks.header import run_header
from dnc_lightning.callbacks.loggers import (
    log_charts,
    log_scalars,
    prepare_loggers,
    run_folder,
)
from dnc_lightning.callbacks.recorder import Recorder
from dnc_lightning.callbacks.run_state import RunState
from dnc_lightning.probe.results import ProbeResult
from dnc_lightning.records.files import plain_parts
from dnc_lightning.records.store import Record


def open_records(
    callback: RunState,
    recorder: Recorder,
    trainer: Trainer,
    pl_module: LightningModule,
    previous: Path | None,
) -> list[str]:
    """Make the folder of a run ready for the records, and the loggers for the numbers.

    Args:
        callback: After its engine was built.
        recorder: Opened here.
        trainer: About to start.
        pl_module: The module that is trained.
        previous: Folder of the run that is resumed, if any.

    Returns:
        Problems.
    """
    folder, problems = _folder(callback, trainer)
    header = run_header(callback, trainer, pl_module)
    problems += recorder.open(folder, header, previous, callback.last_step_)
    problems += prepare_loggers(trainer, callback, header)
    if recorder.writer is not None and callback.examples:
        folder, bank = recorder.writer.folder, callback.engine_.bank
        problems += write_examples(folder, callback.probe.tasks, bank)
    return problems


def _folder(callback: RunState, trainer: Trainer) -> tuple[Path, list[str]]:
    """Where the records of a run should lie, and problems with finding out."""
    if callback.dirpath:
        return Path(callback.dirpath), []
    folder, problems = Path(trainer.default_root_dir), []
    if trainer.logger is not None:
        try:
            folder = in_time(trainer.logger, lambda: run_folder(trainer))
        except Exception as error:
            problems.append(
                f"{type(trainer.logger).__name__} failed to name the run's folder: {error!r}. The "
                f"records lie below {folder}; training goes on."
            )
    return folder.joinpath("dnc", *plain_parts(callback.name)), problems


def publish(
    trainer: Trainer,
    recorder: Recorder,
    result: ProbeResult,
    step: int,
    elapsed: float,
    *,
    before: Mapping[str, float] | None,
    charts: bool,
    pictures: bool,
) -> list[str]:
    """Log and record one probe.

    Args:
        trainer: With the loggers.
        recorder: Of the run.
        result: The probe.
        step: That it was made at.
        elapsed: Seconds of training so far.
        before: Scalars of the probe that the step has had already: this one's record replaces
            that one's, and loggers are given what is new.
        charts: Also log the curves over shots and the tables of pairs.
        pictures: Also what has to be drawn.

    Returns:
        Problems, those of the probe first.
    """
    failures = log_scalars(trainer, _news(result.scalars, before or {}), step)
    record = Record(
        step=step,
        epoch=trainer.current_epoch,
        time=elapsed,
        scalars=result.scalars,
        uncalibrated=result.uncalibrated,
        notes=tuple(result.notes),
        warnings=(*result.warnings, *failures),
    )
    written = recorder.write(record, result.matrices, again=before is not None)
    problems = [*record.warnings, *written]
    if charts:
        problems += log_charts(
            trainer,
            recorder.header,
            record,
            result.matrices,
            pictures=pictures,
        )
    return problems


def _news(scalars: Mapping[str, float], before: Mapping[str, float]) -> dict[str, float]:
    return {k: v for k, v in scalars.items() if k not in before or str(v) != str(before[k])}


def untold(problems: Sequence[str], told: set[str]) -> Iterator[str]:
    """Yield problems of a kind that was not `told` before; numbers make no new kind."""
    for problem in problems:
        kind = re.sub(r"[\d.]+", "", problem)
        if kind not in told:
            told.add(kind)
            yield problem
