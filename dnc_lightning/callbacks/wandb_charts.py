"""What W&B shows beside the scalars: curves over shots, tables and pictures of class pairs.

Everything goes through the logger, whose own axis is `trainer/global_step`: a second axis beside it
would reorder a run that is resumed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnc_lightning.records.files import plain_parts
from dnc_lightning.records.store import Run
from dnc_lightning.reporting.read.few_shot import SERIES, few_shot
from dnc_lightning.reporting.read.places import further_keys
from dnc_lightning.reporting.read.views import METRICS, View, views, worst_classes
from dnc_lightning.reporting.theme import LOOKS

AXIS = "trainer/global_step"
MOST_CLASSES = 100  # of a table: W&B shows 10,000 rows
COLUMNS = (
    "class i",
    "class j",
    "CDNV",
    "directional CDNV",
    "directional CDNV, reverse",
    "distance of means",
)


def define_axis(logger: Any, prefix: str, header: Mapping[str, Any]) -> None:
    """Plot all keys of a probe over the optimizer step, also in a run that the user began.

    Of a series that no special chart shows and that has a better direction, the summary of the run
    holds the best value beside the last.
    """
    given = getattr(logger, "_prefix", "")
    before = f"{given}{logger.LOGGER_JOIN_CHAR}" if given else ""
    logger.experiment.define_metric(AXIS)
    logger.experiment.define_metric(f"{before}{prefix}/*", step_metric=AXIS)
    for series, _, keys in further_keys(header):
        if series.direction is not None:
            best = "min" if series.direction == "lower" else "max"
            for key in keys:
                logger.experiment.define_metric(
                    before + key, step_metric=AXIS, summary=f"{best},last"
                )


def log_probe(
    logger: Any,
    run: Run,
    matrices: Mapping[str, NDArray[Any]],
    pictures: Mapping[str, NDArray[np.uint8]],
) -> None:
    """Log one probe's charts below "{prefix}/charts/".

    Args:
        logger: A WandbLogger.
        run: Header and a single record.
        matrices: "{encoder}/{task}/{metric}" -> [C, C].
        pictures: Key -> [H, W, 3].
    """
    import wandb

    found: dict[str, Any] = {}
    for view in views(run):
        found |= _bounds(run, view) | _pairs(view, matrices)
    # A native chart takes the place of the picture of the same name.
    found |= {key: wandb.Image(pictures[key]) for key in pictures.keys() - found.keys()}
    if found:
        # Tables and pictures become files under their keys, which must not lead elsewhere.
        named = {"/".join(plain_parts(key)): value for key, value in found.items()}
        logger.log_metrics(named, step=run.records[0].step)


def _bounds(run: Run, view: View) -> dict[str, Any]:
    import wandb

    numbers = few_shot(run, view, max_probes=1)
    if numbers is None:
        return {}
    lines = {LOOKS[name].title: numbers.values[name][0] for name in SERIES}
    # A bound far above 1 says nothing, and would flatten the lines that do.
    drawn = {n: [_known(min(v, 1.0)) for v in line] for n, line in lines.items()}
    drawn = {name: line for name, line in drawn.items() if any(v is not None for v in line)}
    chart = wandb.plot.line_series(
        xs=list(numbers.shots),
        ys=list(drawn.values()),
        keys=list(drawn),
        title=f"{view.task}: few-shot error and bounds, at most 1",
        xname="labelled samples per class",
    )
    return {f"{view.prefix}/charts/few_shot": chart}


def _pairs(view: View, matrices: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    import wandb

    cdnv, directional = (matrices.get(f"{view.encoder}/{view.task}/{m}") for m in METRICS)
    if cdnv is None or directional is None:
        return {}
    kept = worst_classes(directional, MOST_CLASSES)
    distance = distances(cdnv, matrices[f"{view.encoder}/{view.task}/class_variance"])
    rows = [
        [view.classes[i], view.classes[j], *map(_known, values)]
        for i in kept
        for j in kept
        if i != j
        for values in [(cdnv[i, j], directional[i, j], directional[j, i], distance[i, j])]
    ]
    return {f"{view.prefix}/charts/pairs": wandb.Table(columns=list(COLUMNS), data=rows)}


def distances(cdnv: NDArray[Any], variance: NDArray[Any]) -> NDArray[np.float64]:
    """Return |mu_i - mu_j| from the CDNV [C, C] and the variance of each class [C]; [C, C].

    In the units of the features; nan where the CDNV is undefined, or zero.
    """
    total = variance[:, None] + variance.astype(np.float64)
    return np.sqrt(total / np.where(cdnv > 0, cdnv, np.nan))


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
