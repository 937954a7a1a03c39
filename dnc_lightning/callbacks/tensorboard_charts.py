"""What TensorBoard shows beside the scalars: charts of several of them, and pictures."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnc_lightning.records.store import Run
from dnc_lightning.reporting.read.few_shot import TRACKED
from dnc_lightning.reporting.read.places import further_keys
from dnc_lightning.reporting.read.views import METRICS


def write_layout(logger: Any, probes: Sequence[Any], header: Mapping[str, Any]) -> None:
    """Lay out the "Custom Scalars" page: for each task one chart of collapse and one of errors.

    Args:
        logger: A TensorBoardLogger.
        probes: Every ProbeCallback of the Trainer, before its first probe.
        header: Of the first of them: each series that it declares beyond has a chart too.
    """
    layout: dict[str, dict[str, Any]] = {}
    before = f"{logger._prefix}{logger.LOGGER_JOIN_CHAR}" if getattr(logger, "_prefix", "") else ""
    for probe in probes:
        engine, charts = probe.engine_, layout.setdefault(probe.name, {})
        for encoder in engine.names:
            for task in engine.tasks:
                key = before + engine.key(encoder, task)
                title = task if len(engine.names) == 1 else f"{encoder} · {task}"
                charts[f"{title}: collapse"] = _lines(f"{key}/{metric}" for metric in METRICS)
                for m in sorted(probe.shots)[len(probe.shots) // 2 :][:1]:
                    keys = (f"{key}/{name}/{m}" for name in TRACKED)
                    charts[f"{title}: error and bounds, m = {m}"] = _lines(keys)
    for series, place, logged in further_keys(header):
        of = [place.encoder if len(header["prefixes"]) > 1 else None, place.task]
        title = ": ".join([*filter(None, [" · ".join(filter(None, of))]), series.title])
        beside = (place.prefix + r.key for r in series.references if r.key is not None)
        charts = layout.setdefault(probes[0].name, {})
        charts[title] = _lines(before + key for key in (*logged, *beside))
    logger.experiment.add_custom_scalars(layout)


def log_probe(
    logger: Any,
    run: Run,
    matrices: Mapping[str, NDArray[Any]],
    pictures: Mapping[str, NDArray[np.uint8]],
) -> None:
    """Log pictures of one probe: error against shots, and the pair matrices.

    Args:
        logger: A TensorBoardLogger.
        run: Header and a single record.
        matrices: Not used: TensorBoard has no tables.
        pictures: Key -> [H, W, 3].
    """
    for key, picture in pictures.items():
        logger.experiment.add_image(key, picture, run.records[0].step, dataformats="HWC")


def _lines(keys: Any) -> list[Any]:
    # A chart takes its tags as regular expressions.
    return ["Multiline", [f"^{re.escape(key)}$" for key in keys]]
