"""Matrices and stacked bars as plain plotly values."""

from __future__ import annotations

from typing import Any

import numpy as np

from dnc_lightning.reporting.charts.bars import Bars
from dnc_lightning.reporting.charts.values import Matrix
from dnc_lightning.reporting.draw.axes import (
    base_layout,
    digits,
    name_ticks,
    nothing_to_draw,
)
from dnc_lightning.reporting.draw.look import shade_ticks, shades
from dnc_lightning.reporting.read.views import unique_names
from dnc_lightning.reporting.theme import Theme

FEW_NAMES = 12  # up to here the names on an axis are slanted, not upright
LEVEL_NAMES = 3  # up to here they are level
FEW_CELLS = 40  # of a side, up to which there are gaps between them


def heatmap(chart: Matrix, theme: Theme) -> dict[str, Any]:
    """Return a matrix as plotly values, its first row at the top."""
    log = chart.scale == "log"
    heights, low, high = shades(chart)
    ramp = theme.ramp(chart.role)
    bar: dict[str, Any] = {
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
    }
    if log:
        places, texts = zip(*shade_ticks(chart, low, high), strict=True)
        bar |= {"tickvals": list(places), "ticktext": list(texts)}
    gap = 1 if max(len(chart.rows), len(chart.columns)) <= FEW_CELLS else 0
    value = "%{customdata:.4~r}" if log else "%{z:.4~r}"  # the colours are of logarithms
    more = "".join(
        f"<br>{name} %{{customdata[{k}]:.3~r}}" for k, (name, _) in enumerate(chart.more)
    )
    trace: dict[str, Any] = {
        "type": "heatmap",
        "x": (columns := unique_names(chart.columns)),
        "y": (rows := unique_names(chart.rows)),
        "z": [digits(row) for row in heights],
        "zmin": low,
        "zmax": high,
        "colorscale": [[i / (len(ramp) - 1), colour] for i, colour in enumerate(ramp)],
        "colorbar": bar,
        "xgap": gap,
        "ygap": gap,
        "hoverongaps": not chart.lower,
        "hovertemplate": f"%{{y}}{chart.between}%{{x}}<br>{chart.title} <b>{value}</b>{more}"
        "<extra></extra>",
    }
    if chart.more:
        cells = np.stack([table for _, table in chart.more], axis=-1)
        trace["customdata"] = [[digits(cell) for cell in row] for row in cells]
    elif log:
        trace["customdata"] = [digits(row) for row in chart.values]
    if chart.numbers:
        trace |= {"texttemplate": "%{z:.2f}", "textfont": {"size": 13}}
    layout = base_layout(theme)
    for axis, names, label in (("xaxis", columns, chart.x), ("yaxis", rows, chart.y)):
        ends = [-0.5, len(names) - 0.5]
        layout[axis] |= {"type": "category", "range": ends if axis == "xaxis" else ends[::-1]}
        layout[axis] |= name_ticks(names) | {"ticks": ""}
        layout[axis]["title"]["text"] = label
    level, few = (len(columns) <= most for most in (LEVEL_NAMES, FEW_NAMES))
    layout["xaxis"]["tickangle"] = 0 if level else -45 if few else -90
    if chart.x:
        layout["xaxis"]["title"]["standoff"] = 28  # from the middle of slanted labels
    layout |= {
        "plot_bgcolor": theme.panel if chart.lower else theme.sunken,
        "hovermode": "closest",
        "margin": {"l": 8, "r": 8, "t": 40, "b": 8},
    }
    if chart.empty:
        layout["annotations"] = [nothing_to_draw(theme)]
    return {"data": [trace], "layout": layout}


def stacked(chart: Bars, theme: Theme) -> dict[str, Any]:
    """Return stacked bars as plotly values, the first at the top."""
    rows = ["<br>".join((f"<b>{heading}</b>", *lines)) for heading, *lines in chart.rows]
    traces = [
        {
            "type": "bar",
            "orientation": "h",
            "name": part.name,
            "y": rows,
            "x": digits(part.values),
            "customdata": list(part.words),
            "marker": {
                "color": theme.role(part.role)
                if part.shade is None
                else theme.ramp(part.role)[part.shade],
                "line": {"color": theme.panel, "width": 1},
            },
            "hovertemplate": "%{x:.3~r}, %{customdata}",
        }
        for part in chart.parts
    ]
    layout = base_layout(theme)
    layout["xaxis"] |= {"rangemode": "tozero", "fixedrange": True, "nticks": 6}
    layout["xaxis"]["title"]["text"] = chart.x
    layout["yaxis"] |= {"type": "category", "autorange": "reversed", "showgrid": False}
    layout["yaxis"]["tickfont"] = {"color": theme.ink, "size": 12}
    layout |= {"barmode": "stack", "bargap": 0.42, "hovermode": "y unified"}
    layout["legend"] |= {"traceorder": "normal"}
    return {"data": traces, "layout": layout}
