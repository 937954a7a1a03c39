"""Where the variance of a pair of classes goes: its decision axis against the rest."""

from __future__ import annotations

import math

import numpy as np

from dnc_lightning.reporting.charts.bars import Bar, Bars
from dnc_lightning.reporting.charts.collapse import VARIANCE
from dnc_lightning.reporting.charts.values import (
    STEPS_LABEL,
    Axis,
    Chart,
    Line,
    decades,
    place_of,
)
from dnc_lightning.reporting.draw.axes import cut
from dnc_lightning.reporting.read.tasks import EXTREMES, PARTS, VarianceParts
from dnc_lightning.reporting.theme import MARKERS

ONE_LINE = 12  # characters of two names that stand side by side
SHADES = (None, 4, 3, 2, 1)  # of the parts: the first is on the axis
DASHES = dict(zip(EXTREMES, ("dot", "solid", "dash"), strict=True))


def variance_bars(parts: VarianceParts, at: int = -1) -> Bars:
    """Return the variance of each pair at one probe, that on the axis first."""
    table = parts.parts[at]
    total = table.sum(axis=1)
    shares = table / np.where(total > 0, total, np.nan)[:, None]
    rows = zip(parts.names(at), parts.pairs[at], shares[:, 0], strict=True)
    return Bars(
        x=VARIANCE.label,
        rows=tuple(
            (f"{name.capitalize()} pair", *_pair(a, b), f"{_percent(share)} on axis")
            for name, (a, b), share in rows
        ),
        parts=tuple(
            Bar(
                name,
                tuple(table[:, k]),
                tuple(map(_percent, shares[:, k])),
                "directional" if shade is None else "standard",
                shade,
            )
            for k, (name, shade) in enumerate(zip(PARTS, SHADES, strict=True))
        ),
    )


def share_chart(parts: VarianceParts) -> Chart:
    """Return the part of the variance that lies on the decision axis over training."""
    alone = all(len(pairs) == 1 for pairs in parts.pairs)
    shown = {name: 100 * parts.shares[name] for name in (EXTREMES[1:2] if alone else EXTREMES)}
    low, high = decades(np.concatenate(list(shown.values())))
    return Chart(
        title="Share on the axis",
        x=Axis(STEPS_LABEL, "steps"),
        y=Axis("Of the pair's variance, on axis (%)", "log", "%"),
        lines=tuple(
            Line(
                "Only pair" if alone else f"{name.capitalize()} pair",
                place_of(parts.steps),
                tuple(values),
                "directional",
                dash=DASHES[name],
                marker=MARKERS[EXTREMES.index(name)],
            )
            for name, values in shown.items()
        ),
        labels=parts.labels,
        range=(low, min(high, 2.0)),
    )


def _pair(a: str, b: str) -> list[str]:
    one, other = cut(a), cut(b)
    return [f"{one} and {other}"] if len(a) + len(b) <= ONE_LINE else [f"{one} and", other]


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %" if math.isfinite(share) else ""
