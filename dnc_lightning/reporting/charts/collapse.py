"""Collapse over training, and of every pair of classes at one probe."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dnc_lightning.reporting.charts.values import (
    STEPS_LABEL,
    Axis,
    Chart,
    Line,
    Matrix,
    Points,
    decades,
    place_of,
)
from dnc_lightning.reporting.read.views import METRICS, Curves
from dnc_lightning.reporting.theme import LOOKS, Metric

VARIANCE = Axis("Variance over squared distance", "log")


def collapse_chart(curves: Curves) -> Chart:
    """Return CDNV and directional CDNV over training, and what they were before calibration."""
    looks = [LOOKS[metric] for metric in METRICS]
    tables = [curves.cdnv, curves.directional_cdnv]
    x = place_of(curves.steps)
    lines = [
        Line(look.title, x, tuple(y), look.role) for look, y in zip(looks, tables, strict=True)
    ]
    points = []
    if curves.uncalibrated is not None:
        step, *before = curves.uncalibrated
        tables.append(np.array(before))
        roles = tuple(look.role for look in looks)
        at = (step + 1.0,) * len(before)
        points.append(Points("Before BatchNorm calibration", at, tuple(before), roles))
    return Chart(
        title="Decision-axis collapse",
        x=Axis(STEPS_LABEL, "steps"),
        y=VARIANCE,
        lines=tuple(lines),
        labels=curves.labels,
        range=decades(np.concatenate(tables)),
        points=tuple(points),
    )


def pair_matrix(
    metric: Metric,
    classes: Sequence[str],
    values: NDArray[np.float64],
    bounds: tuple[float, float],
) -> Matrix:
    """Return one metric of every ordered pair of classes.

    Args:
        metric: Which it is.
        classes: Names, [C].
        values: [C, C], rows i, columns j, nan where undefined.
        bounds: log10 of the values at the two ends of the colours.
    """
    return Matrix(
        title=LOOKS[metric].title,
        x="Class j",
        y="Class i",
        columns=tuple(classes),
        rows=tuple(classes),
        values=values,
        scale="log",
        role=LOOKS[metric].role,
        range=bounds,
        between=" → ",
    )
