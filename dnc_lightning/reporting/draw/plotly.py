"""Neutral charts as plain plotly values, which a page places."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from dnc_lightning.reporting.charts.values import Chart, Line, Matrix
from dnc_lightning.reporting.draw.axes import (
    FEW_POINTS,
    apart,
    base_layout,
    cut,
    log_axis,
    nothing_to_draw,
    step_axis,
)
from dnc_lightning.reporting.draw.look import colour, dash, ramp, shade_ticks, shades, symbol
from dnc_lightning.reporting.read.views import unique_names
from dnc_lightning.reporting.theme import ROLES, Theme, faint

MOST_TICKS = 16
LONGEST_LABEL = 36  # of a vertical axis: it stands above the chart too
FEW_NAMES = 12  # up to here the names on an axis are slanted, not upright


def plotly_spec(chart: Chart | Matrix, theme: Theme = ROLES) -> dict[str, Any]:
    """Return "data" and "layout" of a chart, as plain JSON values.

    Args:
        chart: What to draw.
        theme: Colours; by default the names of those of the page's own.
    """
    if isinstance(chart, Matrix):
        return _heatmap(chart, theme)
    layout = base_layout(theme)
    layout["xaxis"] |= _horizontal(chart)
    layout["xaxis"]["title"]["text"] = chart.x.label
    low, high = chart.range
    layout["yaxis"] |= log_axis(low, high) if chart.y.scale == "log" else {"range": [low, high]}
    fits = len(chart.y.label) <= LONGEST_LABEL
    layout["yaxis"]["title"]["text"] = chart.y.label if fits else chart.y.unit
    layout["showlegend"] = len(chart.lines) + len(chart.rules) > 1
    if chart.empty:
        layout["annotations"] = [nothing_to_draw(theme)]
    log = chart.y.scale == "log"
    lines = [_line(line, theme, log) for line in chart.lines]
    return {"data": [*_areas(chart, theme), *lines, *_rules(chart, theme)], "layout": layout}


def _line(line: Line, theme: Theme, log: bool) -> dict[str, Any]:
    few = len(line.x) <= FEW_POINTS and line.role != "reference"
    trace: dict[str, Any] = {
        "type": "scatter",
        "name": line.name,
        "mode": "lines+markers" if few else "lines",
        "line": {
            "width": 2.5 if line.role != "reference" else 1.5,
            "color": colour(line, theme),
            "dash": " ".join(f"{length}px" for length in dash(line)) or "solid",
        },
        "marker": {"size": 6, "symbol": symbol(line)},
        "hovertemplate": "%{y:.4~r}",
        "x": list(line.x),
        "y": _digits(line.y, log),
    }
    if line.role == "method":  # which the page shows and hides
        trace["method"] = line.order
    return trace


def _areas(chart: Chart, theme: Theme) -> Iterable[dict[str, Any]]:
    """The bands between seeds, behind all lines."""
    log = chart.y.scale == "log"
    for line in chart.lines:
        if line.low is None or line.high is None or line.low == line.high or len(line.x) < 2:
            continue
        yield {
            "type": "scatter",
            "method": line.order,
            "mode": "lines",
            "line": {"width": 0},
            "fill": "toself",
            "fillcolor": faint(colour(line, theme)),
            "hoverinfo": "skip",
            "x": [*line.x, *line.x[::-1]],
            "y": [*_digits(line.high, log), *_digits(line.low[::-1], log)],
        }


def _rules(chart: Chart, theme: Theme) -> list[dict[str, Any]]:
    places = [place for line in chart.lines for place in line.x] or [1.0]
    ends = [min(places), max(places)]
    if chart.x.scale == "names":
        ends = [ends[0] - 1, ends[1] + 1]
    else:
        ends = [ends[0] / 10, max(11.0, ends[1]) * 10]  # past both ends of the axis
    return [
        {
            "type": "scatter",
            "name": f"{rule.name} {rule.value:.4g}",
            "mode": "lines",
            "x": ends,
            "y": _digits((rule.value, rule.value), chart.y.scale == "log"),
            "line": {"color": theme.muted, "width": 1.5, "dash": "6px 4px"},
            "hoverinfo": "skip",
        }
        for rule in chart.rules
    ]


def _horizontal(chart: Chart) -> dict[str, Any]:
    if chart.x.scale == "steps":
        places = sorted({place for line in chart.lines for place in line.x})
        steps = [round(place) - 1 for place in places]
        return step_axis(steps, chart.labels[: len(steps)])
    if chart.x.scale == "names":
        every = math.ceil(max(1, len(chart.labels)) / MOST_TICKS)
        return {
            "range": [-0.5, len(chart.labels) - 0.5],
            "tickvals": list(range(0, len(chart.labels), every)),
            "ticktext": [cut(name) for name in chart.labels[::every]],
            "showgrid": False,
        }
    places = list(map(float, chart.labels)) or [1.0, 10.0]
    low, high = math.log10(places[0]), math.log10(places[-1])
    pad = max(0.05 * (high - low), 0.04)
    return {
        "type": "log",
        "range": [low - pad, high + pad],
        "tickvals": (ticks := apart(places)),
        "ticktext": [f"{tick:,.0f}" for tick in ticks],
        "unifiedhovertitle": {"text": f"{chart.x.label} %{{x:,}}"},
    }


def _heatmap(chart: Matrix, theme: Theme) -> dict[str, Any]:
    log = chart.scale == "log"
    heights, low, high = shades(chart)
    colours = ramp(chart, theme)
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
    gap = 1 if max(heights.shape) <= 40 else 0
    trace: dict[str, Any] = {
        "type": "heatmap",
        "x": (columns := unique_names(chart.columns)),
        "y": (rows := unique_names(chart.rows)),
        "z": [_digits(row, False) for row in heights],
        "zmin": low,
        "zmax": high,
        "colorscale": [[i / (len(colours) - 1), c] for i, c in enumerate(colours)],
        "colorbar": bar,
        "xgap": gap,
        "ygap": gap,
        "hovertemplate": "%{y}, %{x}: <b>%{z:.4~r}</b><extra></extra>",
    }
    if log:  # the colours are of logarithms
        trace["customdata"] = [_digits(row, False) for row in chart.values]
        trace["hovertemplate"] = "%{y}, %{x}: <b>%{customdata:.4~r}</b><extra></extra>"
    layout = base_layout(theme)
    for axis, names, label in (("xaxis", columns, chart.x), ("yaxis", rows, chart.y)):
        every = math.ceil(len(names) / MOST_TICKS)
        ends = [-0.5, len(names) - 0.5]
        layout[axis] |= {
            "type": "category",
            "tickvals": list(range(0, len(names), every)),
            "ticktext": [cut(name) for name in names[::every]],
            "showgrid": False,
            "range": ends if axis == "xaxis" else ends[::-1],
        }
        layout[axis]["title"]["text"] = label
    layout["xaxis"]["tickangle"] = -45 if len(columns) <= FEW_NAMES else -90
    layout["xaxis"]["title"]["standoff"] = 28  # from the middle of slanted labels
    layout |= {
        "plot_bgcolor": theme.sunken,
        "hovermode": "closest",
        "margin": {"l": 8, "r": 8, "t": 40, "b": 8},
    }
    if chart.empty:
        layout["annotations"] = [nothing_to_draw(theme)]
    return {"data": [trace], "layout": layout}


def _digits(values: Iterable[float], log: bool) -> list[float | None]:
    return [float(f"{v:.5g}") if math.isfinite(v) and (v > 0 or not log) else None for v in values]
