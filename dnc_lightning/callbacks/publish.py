"""Where a probe's numbers go: to callbacks; on rank zero to loggers, records and charts."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from lightning.pytorch import Trainer

from dnc_lightning.callbacks.loggers import log_charts, log_scalars
from dnc_lightning.callbacks.recorder import Recorder
from dnc_lightning.probe.engine import ProbeEngine
from dnc_lightning.probe.results import ProbeResult
from dnc_lightning.records.store import Record


def show_to_callbacks(trainer: Trainer, engine: ProbeEngine, scalars: Mapping[str, float]) -> None:
    """Put a probe's numbers where ModelCheckpoint and EarlyStopping look; call on every rank."""
    # What the first and last probe alone give must not stay there as if it were current.
    stale = dict.fromkeys(engine.keys(thorough=True), float("nan"))
    for key, value in (stale | dict(scalars)).items():
        trainer.callback_metrics[key] = torch.tensor(value, device=engine.device)


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
    later: Collection[str] = (),
) -> list[str]:
    """Log and record one probe; call on rank zero.

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
        later: Keys that loggers will be told when their values are final.

    Returns:
        Problems, those of the probe first.
    """
    news = _news(result.scalars, before or {})
    failures = log_scalars(trainer, {k: v for k, v in news.items() if k not in later}, step)
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
