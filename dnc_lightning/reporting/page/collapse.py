"""Pictures of collapse as plain plotly values, which need no plotly and take no time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnc_lightning.reporting.draw.axes import (
    FEW_POINTS,
    base_layout,
    cut,
    log_axis,
    log_ticks,
    nothing_to_draw,
    padded,
    plain,
    positive,
    step_axis,
)
from dnc_lightning.reporting.read.views import METRICS, Curves, unique_names
from dnc_lightning.reporting.theme import Metric, Theme

__all__ = ["collapse_spec", "heat", "pair_spec"]

TITLES: dict[Metric, str] = {"cdnv": "CDNV", "directional_cdnv": "Directional CDNV"}
MOST_TICKS = 24
FEW_CLASSES = 12  # up to here their names stand at 45 degrees


def collapse_spec(curves: Curves, theme: Theme) -> dict[str, Any]:
    """Return CDNV against directional CDNV over training, both axes logarithmic.

    The horizontal position is step + 1, so that the probe before the first step has a place; labels
    and hovering show true steps. Where no value is positive and finite the figure says so.

    Args:
        curves: What to draw.
        theme: Colours.

    Returns:
        Two lines and, if there is one, a pair of hollow uncalibrated markers.
    """
    values = {"cdnv": curves.cdnv, "directional_cdnv": curves.directional_cdnv}
    traces: list[dict[str, Any]] = [
        {
            "type": "scatter",
            "name": TITLES[metric],
            "x": (curves.steps + 1).tolist(),
            "y": positive(values[metric]),
            "mode": "lines+markers" if len(curves.steps) <= FEW_POINTS else "lines",
            "line": {"color": theme.series(metric), "width": 2.5},
            "marker": {"size": 6},
            "hovertemplate": "%{y:.4~r}",
        }
        for metric in METRICS
    ]
    if curves.uncalibrated is not None:
        step, *before = curves.uncalibrated
        traces.append(
            {
                "type": "scatter",
                "name": "Before BatchNorm calibration",
                "x": [step + 1, step + 1],
                "y": positive(before),
                "mode": "markers",
                "marker": {
                    "symbol": "circle-open",
                    "size": 11,
                    "line": {"width": 2},
                    "color": [theme.series(metric) for metric in METRICS],
                },
                "hovertemplate": "%{y:.4~r} before calibration<extra></extra>",
            }
        )
    shown = [value for trace in traces for value in trace["y"] if value is not None]
    layout = base_layout(theme)
    layout["xaxis"] |= step_axis(curves.steps.tolist(), curves.labels)
    layout["xaxis"]["title"]["text"] = "Optimizer steps"
    layout["yaxis"] |= log_axis(*padded(shown or [0.1, 10.0]))
    layout["yaxis"]["title"]["text"] = "Variance over squared distance"
    if not shown:
        layout["annotations"] = [nothing_to_draw(theme)]
    return {"data": traces, "layout": layout}


def pair_spec(
    classes: Sequence[str], metric: Metric, bounds: tuple[float, float], theme: Theme
) -> dict[str, Any]:
    """Return the frame of one metric of every ordered pair of classes, with logarithmic colours.

    Args:
        classes: Names, [C].
        metric: Which metric it is.
        bounds: log10 of the values at the two ends of the colour scale.
        theme: Colours.

    Returns:
        A heatmap without its matrix, rows i and columns j (`z`, `customdata`); undefined cells are
        left in the background colour.
    """
    names = unique_names(classes)
    ramp = theme.ramp(metric)
    ticks = log_ticks(*bounds)
    gap = 1 if len(names) <= 40 else 0
    trace = {
        "type": "heatmap",
        "x": names,
        "y": names,
        "zmin": bounds[0],
        "zmax": bounds[1],
        "colorscale": [[i / (len(ramp) - 1), colour] for i, colour in enumerate(ramp)],
        "colorbar": {
            "orientation": "h",
            "x": 0.5,
            "y": 1.01,
            "yanchor": "bottom",
            "thickness": 9,
            "outlinewidth": 0,
            "tickvals": [math.log10(tick) for tick in ticks],
            "ticktext": [plain(tick) for tick in ticks],
            "tickfont": {"color": theme.muted, "size": 11},
        },
        "xgap": gap,
        "ygap": gap,
        "hovertemplate": f"%{{y}} → %{{x}}<br>{TITLES[metric]} "
        "<b>%{customdata:.4~r}</b><extra></extra>",
    }
    every = math.ceil(len(names) / MOST_TICKS)
    few = len(names) <= FEW_CLASSES
    axis = {
        "type": "category",
        "tickvals": list(range(0, len(names), every)),
        "ticktext": [cut(name) for name in names[::every]],
        "showgrid": False,
        "tickfont": {"color": theme.muted, "size": 11 if few else 10},
    }
    ends = [-0.5, len(names) - 0.5]
    layout = base_layout(theme)
    layout["xaxis"] |= {**axis, "range": ends, "tickangle": -45 if few else -90}
    layout["yaxis"] |= {**axis, "range": ends[::-1]}
    # The distance is measured from the middle of slanted labels, not from their end.
    layout["xaxis"]["title"] |= {"text": "Class j", "standoff": 28}
    layout["yaxis"]["title"]["text"] = "Class i"
    layout |= {
        "plot_bgcolor": theme.sunken,
        "hovermode": "closest",
        "margin": {"l": 8, "r": 8, "t": 40, "b": 8},
    }
    return {"data": [trace], "layout": layout}


def heat(matrix: NDArray[np.floating], bounds: tuple[float, float]) -> NDArray[np.float64]:
    """Return log10 of a matrix for colouring: zero at the lower bound, undefined entries nan."""
    positive = np.isfinite(matrix) & (matrix > 0)
    logs = np.log10(np.where(positive, matrix, 1.0).astype(np.float64))
    return np.where(positive, logs, np.where(matrix == 0, bounds[0], np.nan))
