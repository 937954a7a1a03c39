"""Where a run's files lie, and its numbers and charts in every logger."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from torch import Tensor

from dnc_lightning.callbacks import tensorboard_charts, wandb_charts
from dnc_lightning.callbacks.deadlines import in_time
from dnc_lightning.callbacks.probes import probes_of
from dnc_lightning.records.files import plain_parts
from dnc_lightning.records.store import Record, Run
from dnc_lightning.reporting.optional import installed
from dnc_lightning.reporting.paper.probe import probe_pictures


def run_folder(trainer: Trainer) -> Path:
    """The folder of this run, where ModelCheckpoint would put its own; call on rank zero.

    Parts of a logger's name or version that mean another folder, such as "..", are written out.
    """
    if not trainer.loggers:
        return Path(trainer.default_root_dir)
    logger = trainer.loggers[0]
    save_dir = logger.save_dir or trainer.default_root_dir
    if "://" in str(save_dir):
        save_dir = "."
    version = logger.version if isinstance(logger.version, str) else f"version_{logger.version}"
    return Path(save_dir).joinpath(*plain_parts(f"{logger.name}/{version}"))


def log_scalars(trainer: Trainer, scalars: Mapping[str, float], step: int) -> list[str]:
    """Log to every logger, each on its own; return what went wrong, in words."""
    failures = []
    for logger in trainer.loggers:
        try:
            in_time(logger, partial(logger.log_metrics, dict(scalars), step=step))
        except Exception as error:
            failures.append(f"{type(logger).__name__} failed to log: {error!r}. Training goes on.")
    return failures


def send_alert(trainer: Trainer, *, title: str, text: str) -> list[str]:
    """Alert whoever follows a run in W&B; return what went wrong, in words."""
    failures = []
    for logger in trainer.loggers:
        if _is(logger, "WandbLogger"):
            run: Any = logger
            try:
                alert = partial(run.experiment.alert, title=title, text=text, level="WARN")
                in_time(logger, alert)
            except Exception as error:
                failures.append(f"{type(logger).__name__} failed to alert: {error!r}.")
    return failures


def prepare_loggers(trainer: Trainer, callback: Any, header: Mapping[str, Any]) -> list[str]:
    """Tell each logger, before the first probe of a process, how its numbers belong together.

    Args:
        trainer: With the loggers.
        callback: The ProbeCallback whose numbers will come.
        header: Of its run, for the series that it declares.

    Returns:
        What went wrong, in words.
    """
    failures = []
    for logger in trainer.loggers:
        try:
            if _is(logger, "WandbLogger"):
                axis = partial(wandb_charts.define_axis, logger, callback.name, header)
                in_time(logger, axis)
            elif _is(logger, "TensorBoardLogger"):
                probes = [c for c in probes_of(trainer) if hasattr(c, "engine_")]
                # TensorBoard reads one layout a run: the first probe's callback speaks for all.
                if probes and probes[0] is callback:
                    layout = partial(tensorboard_charts.write_layout, logger, probes, header)
                    in_time(logger, layout)
        except Exception as error:
            failures.append(_failure(logger, error))
    return failures


def log_charts(
    trainer: Trainer,
    header: Mapping[str, Any],
    record: Record,
    matrices: Mapping[str, Tensor],
    *,
    pictures: bool,
) -> list[str]:
    """Log the curves over shots and the pairs of one probe where a logger can show them.

    Args:
        trainer: With the loggers.
        header: The run's.
        record: The probe.
        matrices: "{encoder}/{task}/{metric}" -> [C, C].
        pictures: Also what has to be drawn, which takes longer than all other logging together.

    Returns:
        What went wrong, in words.
    """
    chosen = [
        (logger, charts)
        for logger in trainer.loggers
        for name, charts in (
            ("WandbLogger", wandb_charts.log_probe),
            ("TensorBoardLogger", tensorboard_charts.log_probe),
        )
        if _is(logger, name)
    ]
    if not chosen:
        return []
    failures: list[str] = []
    run = Run(folder=Path(), header=header, records=(record,), problems=())
    arrays = {key: value.cpu().numpy() for key, value in matrices.items()}
    # W&B draws the curves over shots itself.
    curves = any(_is(logger, "TensorBoardLogger") for logger, _ in chosen)
    drawn = _pictures(run, arrays, failures, curves=curves) if pictures else {}
    for logger, log_probe in chosen:
        try:
            in_time(logger, partial(log_probe, logger, run, arrays, drawn))
        except Exception as error:
            failures.append(_failure(logger, error))
    return failures


def _pictures(
    run: Run, arrays: Mapping[str, Any], failures: list[str], *, curves: bool
) -> dict[str, Any]:
    if not (installed("matplotlib") and installed("PIL")):
        return {}  # tables and scalars are there without
    try:
        return probe_pictures(run, arrays, curves=curves)
    except Exception as error:
        failures.append(f"The pictures of a probe were not drawn: {error!r}. Training goes on.")
        return {}


def _is(logger: Any, name: str) -> bool:
    # By name: a logger of lightning and one of pytorch_lightning are different classes.
    return any(base.__name__ == name for base in type(logger).__mro__)


def _failure(logger: Any, error: Exception) -> str:
    return f"{type(logger).__name__} failed to log charts: {error!r}. Training goes on."
