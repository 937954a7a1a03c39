"""Where a run's files lie, and its scalars in every logger."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lightning.pytorch import Trainer


def run_folder(trainer: Trainer) -> Path:
    """The folder of this run, where ModelCheckpoint would put its own; call on rank zero."""
    if not trainer.loggers:
        return Path(trainer.default_root_dir)
    logger = trainer.loggers[0]
    save_dir = logger.save_dir or trainer.default_root_dir
    if "://" in str(save_dir):
        save_dir = "."
    version = logger.version if isinstance(logger.version, str) else f"version_{logger.version}"
    return Path(save_dir) / str(logger.name) / version


def log_scalars(trainer: Trainer, scalars: Mapping[str, float], step: int) -> list[str]:
    """Log to every logger, each on its own; return what went wrong, in words."""
    failures = []
    for logger in trainer.loggers:
        try:
            logger.log_metrics(dict(scalars), step=step)
        except Exception as error:
            failures.append(f"{type(logger).__name__} failed to log: {error!r}. Training goes on.")
    return failures
