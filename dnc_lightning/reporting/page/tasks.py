"""Pictures of several tasks: the angles between their axes, and their curves.

As those of few-shot errors, each comes as a frame (`*_spec`) that the page fills with the chosen
probe, pair or average.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dnc_lightning.reporting.draw.axes import (
    FEW_POINTS,
    base_layout,
    cut,
    log_axis,
    nothing_to_draw,
    padded,
    positive,
    step_axis,
)
from dnc_lightning.reporting.read.tasks import TaskPairs
from dnc_lightning.reporting.read.views import METRICS
from dnc_lightning.reporting.theme import Theme

DASHES = ("solid", "dash", "dot", "dashdot")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star", "pentagon")
MOST_TICKS = 24
MOST_NUMBERS = 8  # tasks up to which the cells of the heatmap hold their values
MOST_COLOURS = 16  # tasks up to which each has a line of its own look
LEAST_CEILING = 0.1  # of the colour scale: less would blow noise up into a picture
LEAST_COSINE = 1e-3  # the axis of |cos| reaches no further
COSINE_NAMES = ("Bound", "Measured", "Random directions")


def task_heatmap_spec(numbers: TaskPairs, theme: Theme) -> dict[str, Any]:
    """Return the frame of mean |cos| of every two tasks at one probe, as the lower triangle.

    The colour scale is the same for every probe, so that pictures compare.
    """
    names, ramp = numbers.tasks, theme.cosine_ramp
    finite = numbers.abs_cos[np.isfinite(numbers.abs_cos)]
    ceiling = max(LEAST_CEILING, math.ceil(10 * float(finite.max(initial=0)) - 1e-9) / 10)
    trace: dict[str, Any] = {
        "type": "heatmap",
        "x": list(names[:-1]),
        "y": list(names[1:]),
        "zmin": 0,
        "zmax": ceiling,
        "colorscale": [[i / (len(ramp) - 1), colour] for i, colour in enumerate(ramp)],
        "colorbar": {
            "orientation": "h",
            "x": 0,
            "xanchor": "left",
            "len": 0.8,  # the rest is left to the button of the chart
            "y": 1.01,
            "yanchor": "bottom",
            "thickness": 9,
            "outlinewidth": 0,
            "nticks": 5,
            "tickfont": {"color": theme.muted, "size": 11},
        },
        "xgap": 2 if len(names) <= 40 else 0,
        "ygap": 2 if len(names) <= 40 else 0,
        "hoverongaps": False,
        "hovertemplate": "%{y} and %{x}<br>mean |cos| <b>%{z:.3f}</b>, largest %{customdata[1]:.3f}"
        "<br>bound %{customdata[0]:.3f}, random %{customdata[3]:.3f}"
        "<br>dependence of the labels %{customdata[2]:.3f}<extra></extra>",
    }
    if len(names) <= MOST_NUMBERS:
        trace |= {"texttemplate": "%{z:.2f}", "textfont": {"size": 13}}
    layout = base_layout(theme)
    for axis, shown in (("xaxis", names[:-1]), ("yaxis", names[1:])):
        every = math.ceil(len(shown) / MOST_TICKS)
        layout[axis] |= {
            "type": "category",
            "tickvals": list(range(0, len(shown), every)),
            "ticktext": [cut(name) for name in shown[::every]],
            "showgrid": False,
            "ticks": "",
            "range": [-0.5, len(shown) - 0.5][:: 1 if axis == "xaxis" else -1],
        }
    layout["xaxis"]["tickangle"] = 0 if len(names) <= 4 else -45 if len(names) <= 12 else -90
    layout |= {"hovermode": "closest", "margin": {"l": 8, "r": 8, "t": 40, "b": 8}}
    return {"data": [trace], "layout": layout}


def cosine_spec(numbers: TaskPairs, theme: Theme) -> dict[str, Any]:
    """Return the frame of |cos| of two tasks, its bound and that of random directions.

    They are over training, and the axes are the same for every pair.
    """
    looks = zip(
        COSINE_NAMES,
        (theme.certificate, theme.ink, theme.muted),
        ("solid", "solid", "6px 4px"),
        ("square", "circle", None),
        strict=True,
    )
    mode = "lines+markers" if len(numbers.steps) <= FEW_POINTS else "lines"
    traces = [
        {
            "type": "scatter",
            "name": name,
            "mode": mode if symbol else "lines",
            "line": {"color": colour, "dash": dash, "width": 2.5 if symbol else 1.5},
            "marker": {"size": 5, "symbol": symbol or "circle"},
            "hovertemplate": "%{y:.3~r}" if symbol else None,
            **({} if symbol else {"hoverinfo": "skip"}),
        }
        for name, colour, dash, symbol in looks
    ]
    shown = [v for v in (*numbers.abs_cos.ravel(), numbers.floor) if np.isfinite(v) and v > 0]
    low, _ = padded([*shown, 0.5])
    layout = base_layout(theme)
    layout["xaxis"] |= step_axis(numbers.steps.tolist(), numbers.labels)
    layout["yaxis"] |= log_axis(max(low, math.log10(LEAST_COSINE)), 0.06)
    layout["xaxis"]["title"]["text"] = "Optimizer steps"
    layout["yaxis"]["title"]["text"] = "Mean |cos|"
    if not np.isfinite(numbers.abs_cos).any():
        layout["annotations"] = [nothing_to_draw(theme)]
    return {"data": traces, "layout": layout}


def task_curves_spec(numbers: TaskPairs, theme: Theme) -> dict[str, Any]:
    """Return the frame of CDNV (left) and directional CDNV (right) of all tasks over training.

    Both panels have the same axes.
    """
    mode = "lines+markers" if len(numbers.steps) <= FEW_POINTS else "lines"
    many = len(numbers.tasks) > MOST_COLOURS
    traces = [
        {
            "type": "scatter",
            "name": name,
            "legendgroup": name,
            "showlegend": not many and panel == 0,
            "mode": "lines" if many else mode,
            "line": {"width": 1 if many else 2.5, **_look(t, theme, many)},
            "opacity": 0.45 if many else 1,
            "marker": {"size": 6, "symbol": SYMBOLS[t % len(SYMBOLS)]},
            "xaxis": ("x", "x2")[panel],
            "yaxis": ("y", "y2")[panel],
            "hovertemplate": "%{y:.3~r}",
        }
        for panel in range(len(METRICS))
        for t, name in enumerate(numbers.tasks)
    ]
    layout = base_layout(theme)
    tables = [table for found in numbers.curves.values() for table in found.values()]
    values = np.concatenate([table.ravel() for table in tables]) if tables else np.array([])
    shown = values[np.isfinite(values) & (values > 0)]
    layout["xaxis"] |= step_axis(numbers.steps.tolist(), numbers.labels)
    layout["xaxis"]["title"]["text"] = "Optimizer steps"
    layout["yaxis"] |= log_axis(*padded(shown.tolist() or [0.1, 10.0]))
    layout["yaxis"]["title"]["text"] = "Variance over squared distance"
    layout["xaxis2"] = layout["xaxis"] | {"anchor": "y2", "domain": [0.54, 1]}
    layout["yaxis2"] = layout["yaxis"] | {"anchor": "x2", "title": {"text": ""}}
    layout["xaxis"] |= {"domain": [0, 0.46]}
    if many:
        layout["hovermode"] = "closest"
        for trace in traces:
            trace["hovertemplate"] = "%{fullData.name} %{y:.3~r}, %{x}<extra></extra>"
    if not shown.size:
        layout["annotations"] = [nothing_to_draw(theme)]
    return {"data": traces, "layout": layout}


def task_curves_traces(numbers: TaskPairs, average: str) -> list[dict[str, Any]]:
    """Return what one average puts into the traces of `task_curves_spec`, in their order."""
    x = (numbers.steps + 1).tolist()
    tables = [numbers.curves[average][metric] for metric in METRICS]
    return [{"x": x, "y": positive(column)} for table in tables for column in table.T]


def _look(task: int, theme: Theme, many: bool) -> dict[str, Any]:
    if many:
        return {"color": theme.muted}
    cycle = task // len(theme.tasks)
    return {"color": theme.tasks[task % len(theme.tasks)], "dash": DASHES[cycle % len(DASHES)]}
