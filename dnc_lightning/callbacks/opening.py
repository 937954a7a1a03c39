"""The records of a run when training starts: new ones, or those of the run that is resumed."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch import LightningModule, Trainer

from dnc_lightning.callbacks.clock import other_axis
from dnc_lightning.callbacks.deadlines import in_time
from dnc_lightning.callbacks.examples import write_examples
from dnc_lightning.callbacks.header import run_header
from dnc_lightning.callbacks.loggers import prepare_loggers, run_folder
from dnc_lightning.callbacks.run_state import RunState
from dnc_lightning.records.files import plain_parts


def open_records(callback: RunState, trainer: Trainer, pl_module: LightningModule) -> list[str]:
    """Open the records, and forget the last probe where they cannot go on from it.

    Args:
        callback: After its engine was built. Its `last_step_` is -1 afterwards on every rank where
            a curve begins.
        trainer: About to start.
        pl_module: The module that is trained.

    Returns:
        Problems.
    """
    problems = _leave_other_axis(callback, trainer)
    trial: bool = trainer.fast_dev_run  # type: ignore[attr-defined]
    if trainer.is_global_zero and not trial and callback.run_dir_ is None:
        problems += _open(callback, trainer, pl_module)
    recorder = callback._recorder_
    if callback._resumed_from_ is not None and callback.engine_.processes.decide(recorder.anew):
        callback.last_step_, recorder.anew = -1, False  # once: a second fit goes on
    return problems


def _leave_other_axis(callback: RunState, trainer: Trainer) -> list[str]:
    if (stranger := other_axis(trainer, callback.last_step_)) is None:
        return []
    callback.last_step_, callback._resumed_from_ = -1, None
    return [stranger]


def _open(callback: RunState, trainer: Trainer, pl_module: LightningModule) -> list[str]:
    """Make the folder ready for the records, and the loggers for the numbers."""
    recorder = callback._recorder_
    folder, problems = _folder(callback, trainer)
    header = run_header(callback, trainer, pl_module)
    problems += recorder.open(folder, header, callback._resumed_from_, callback.last_step_)
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
