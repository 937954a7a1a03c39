"""Pictures of where the variance of a pair of classes goes: its decision axis against the rest."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dnc_lightning.reporting.draw.axes import (
    FEW_POINTS,
    base_layout,
    cut,
    log_axis,
    padded,
    positive,
    step_axis,
)
from dnc_lightning.reporting.page.tasks import SYMBOLS
from dnc_lightning.reporting.read.tasks import EXTREMES, PARTS, VarianceParts
from dnc_lightning.reporting.theme import Theme

ONE_LINE = 12  # characters of two names that stand side by side


def variance_spec(theme: Theme) -> dict[str, Any]:
    """Return the frame of the variance of each pair: a bar of parts, that on the axis first."""
    colours = (theme.directional_cdnv, *(theme.cdnv_ramp[i] for i in (4, 3, 2, 1)))
    traces = [
        {
            "type": "bar",
            "orientation": "h",
            "name": name,
            "marker": {"color": colour, "line": {"color": theme.panel, "width": 1}},
            "hovertemplate": "%{x:.3~r} d², %{customdata}",
        }
        for name, colour in zip(PARTS, colours, strict=True)
    ]
    layout = base_layout(theme)
    layout["xaxis"] |= {"rangemode": "tozero", "fixedrange": True, "nticks": 6}
    layout["xaxis"]["title"]["text"] = "Variance over squared distance"
    layout["yaxis"] |= {"type": "category", "autorange": "reversed", "showgrid": False}
    layout["yaxis"]["tickfont"] = {"color": theme.ink, "size": 12}
    layout |= {"barmode": "stack", "bargap": 0.42, "hovermode": "y unified"}
    layout["legend"] |= {"traceorder": "normal"}
    return {"data": traces, "layout": layout}


def variance_traces(parts: VarianceParts, at: int) -> list[dict[str, Any]]:
    """Return what one probe puts into the traces of `variance_spec`, in their order."""
    table = parts.parts[at]
    total = table.sum(axis=1)
    shares = [_percent(share) for share in table[:, 0] / np.where(total > 0, total, np.nan)]
    rows = [
        f"<b>{name.capitalize()} pair</b><br>{_pair(a, b)}<br>{share} on axis"
        for name, (a, b), share in zip(parts.names(at), parts.pairs[at], shares, strict=True)
    ]
    return [
        {
            "y": rows,
            "x": [_four(value) for value in column],
            "customdata": [_percent(v) for v in column / np.where(total > 0, total, np.nan)],
        }
        for column in table.T
    ]


def axis_share_spec(parts: VarianceParts, theme: Theme) -> dict[str, Any]:
    """Return the part of the variance that lies on the decision axis over training."""
    mode = "lines+markers" if len(parts.steps) <= FEW_POINTS else "lines"
    looks = list(zip(EXTREMES, ("dot", "solid", "dash"), SYMBOLS, strict=False))
    if all(len(pairs) == 1 for pairs in parts.pairs):
        looks = looks[1:2]
    traces = [
        {
            "type": "scatter",
            "name": "Only pair" if len(looks) == 1 else f"{name.capitalize()} pair",
            "showlegend": len(looks) > 1,
            "x": (parts.steps + 1).tolist(),
            "y": positive(100 * parts.shares[name]),
            "mode": mode,
            "line": {"color": theme.directional_cdnv, "width": 2.5, "dash": dash},
            "marker": {"size": 6, "symbol": symbol},
            "hovertemplate": "%{y:.3~r} %",
        }
        for name, dash, symbol in looks
    ]
    shown = [value for trace in traces for value in trace["y"] if value is not None]
    layout = base_layout(theme)
    layout["xaxis"] |= step_axis(parts.steps.tolist(), parts.labels)
    layout["xaxis"]["title"]["text"] = "Optimizer steps"
    low, high = padded(shown or [1.0, 100.0])
    layout["yaxis"] |= log_axis(low, min(high, 2.0))
    layout["yaxis"]["title"]["text"] = "Of the pair's variance, on the axis (%)"
    return {"data": traces, "layout": layout}


def _pair(a: str, b: str) -> str:
    between = " " if len(a) + len(b) <= ONE_LINE else "<br>"
    return f"{cut(a)} and{between}{cut(b)}"


def _four(value: float) -> float | None:
    return float(f"{value:.4g}") if math.isfinite(value) else None


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %" if math.isfinite(share) else ""
