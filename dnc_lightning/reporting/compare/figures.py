"""Lines of several methods in one picture, as plain values that a page colours for its theme.

A method keeps its colour, its dash and its marker in every picture, so that no two are told apart
by colour alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from dnc_lightning.reporting.compare.numbers import Band
from dnc_lightning.reporting.draw.axes import (
    FEW_POINTS,
    base_layout,
    log_axis,
    nothing_to_draw,
    padded,
    step_axis,
)
from dnc_lightning.reporting.theme import ROLES

# Eight colours that differ in lightness too; a ninth method repeats the first with another dash.
PALETTES = {
    "light": [
        "#0f62b4",
        "#c2500b",
        "#00786b",
        "#9c3d9e",
        "#77650a",
        "#1a2026",
        "#c22f6d",
        "#3b8fbf",
    ],
    "dark": [
        "#6fb1ee",
        "#ff9d5c",
        "#3fc9b0",
        "#dd9be4",
        "#d6bd55",
        "#e8ebed",
        "#ff8db4",
        "#a8dcff",
    ],
}
DASHES = ("solid", "8px 3px", "2px 3px", "8px 3px 2px 3px", "14px 4px", "5px 2px 1px 2px 1px 2px")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "x", "star")
LEAST_ERROR = 1e-3


def dash(index: int) -> str:
    """Return the dash of the i-th method, as SVG and plotly both take it."""
    return DASHES[(index + index // len(SYMBOLS)) % len(DASHES)]


def symbol(index: int) -> str:
    """Return the marker of the i-th method."""
    return SYMBOLS[index % len(SYMBOLS)]


def frame(title: str) -> dict[str, Any]:
    """Return the layout that every picture of a comparison starts from.

    Args:
        title: Of the vertical axis.
    """
    layout = base_layout(ROLES)
    layout["yaxis"]["title"]["text"] = title
    layout["showlegend"] = False
    layout["margin"] = {"l": 8, "r": 12, "t": 12, "b": 8}
    layout["nothing"] = nothing_to_draw(ROLES)
    return layout


def training_picture(bands: Sequence[Band], names: Sequence[str]) -> dict[str, Any]:
    """Return lines over training, both axes logarithmic, as `traces` and `axes`.

    Args:
        bands: One for each method; may be empty.
        names: What hovering calls them.
    """
    steps = sorted({int(step) for band in bands for step in band.x})
    ends = [v for band in bands for v in (*band.low, *band.high) if math.isfinite(v) and v > 0]
    return {
        "traces": _traces(bands, names, shift=1),
        "axes": {
            "xaxis": {
                **step_axis(steps, [f"step {step:,}" for step in steps]),
                "title": {"text": "Optimizer steps"},
            },
            "yaxis": log_axis(*padded(ends or [0.1, 10.0])),
        },
    }


def shots_picture(
    bands: Sequence[Band], names: Sequence[str], shots: Sequence[int], lowest: float
) -> dict[str, Any]:
    """Return error rates against shots, both axes logarithmic, as `traces` and `axes`.

    Args:
        bands: One for each method; may be empty.
        names: What hovering calls them.
        shots: Every number of shots on the axis.
        lowest: Lower end of the vertical axis, so that two pictures have the same.
    """
    low, high = math.log10(min(shots, default=1)), math.log10(max(shots, default=10))
    pad = max(0.05 * (high - low), 0.04)
    foot = math.log10(lowest)
    return {
        "traces": _traces(bands, names, shift=0),
        "axes": {
            "xaxis": {
                "type": "log",
                "range": [low - pad, high + pad],
                "tickvals": list(shots),
                "ticktext": [f"{m:,}" for m in shots],
                "title": {"text": "Labelled samples per class, m"},
                "unifiedhovertitle": {"text": "%{x:,} labelled samples per class"},
            },
            "yaxis": log_axis(foot * 1.06, -0.04 * foot),
        },
    }


def lowest_error(bands: Sequence[Band]) -> float:
    """Return the lower end of an axis that shows all error rates, at most a half."""
    values = [v for band in bands for v in band.low if math.isfinite(v) and v > 0]
    return min(0.5, max(LEAST_ERROR, min(values, default=0.1)))


def _traces(bands: Sequence[Band], names: Sequence[str], *, shift: int) -> list[dict[str, Any]]:
    areas, lines = [], []
    for index, (band, name) in enumerate(zip(bands, names, strict=True)):
        if not band.x:
            continue
        x = [value + shift for value in band.x]
        if len(x) > 1 and not np.array_equal(band.low, band.high):
            areas.append(
                {
                    "type": "scatter",
                    "method": index,
                    "mode": "lines",
                    "line": {"width": 0},
                    "fill": "toself",
                    "hoverinfo": "skip",
                    "x": [*x, *x[::-1]],
                    "y": [*_digits(band.high), *_digits(band.low[::-1])],
                }
            )
        lines.append(
            {
                "type": "scatter",
                "method": index,
                "name": name,
                "mode": "lines+markers" if len(x) <= FEW_POINTS else "lines",
                "line": {"width": 2.5, "dash": dash(index)},
                "marker": {"size": 7, "symbol": symbol(index)},
                "hovertemplate": "%{y:.4~r}",
                "x": x,
                "y": _digits(band.mean),
            }
        )
    return [*areas, *lines]


def _digits(values: Sequence[float] | np.ndarray[Any, Any]) -> list[float | None]:
    # A zero has no place on a logarithmic axis.
    return [float(f"{v:.5g}") if math.isfinite(v) and v > 0 else None for v in values]
