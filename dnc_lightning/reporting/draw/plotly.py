"""Neutral charts as plain plotly values, which a page places."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields, is_dataclass, replace
from html import escape
from itertools import pairwise
from typing import Any

from dnc_lightning.reporting.charts.bars import Bars
from dnc_lightning.reporting.charts.values import Chart, Line, Matrix
from dnc_lightning.reporting.draw.axes import (
    FEW_POINTS,
    apart,
    base_layout,
    digits,
    log_axis,
    log_ticks,
    name_ticks,
    nothing_to_draw,
    plain,
    step_axis,
)
from dnc_lightning.reporting.draw.cells import heatmap, stacked
from dnc_lightning.reporting.draw.look import colour, dash, symbol
from dnc_lightning.reporting.theme import ROLES, Theme, faint

LONGEST_LABEL = 36  # of a vertical axis: it stands above the chart too
FAR = 1e9  # past the end of every axis of error rates
VACUOUS = "above 1 a bound says nothing<br>(compressed scale)"
PANEL = 0.46  # width of one of two panels


def plotly_spec(chart: Chart | Matrix | Bars, theme: Theme = ROLES) -> dict[str, Any]:
    """Return "data" and "layout" of a chart, as plain JSON values.

    Args:
        chart: What to draw.
        theme: Colours; by default the names of those of the page's own.
    """
    chart = literal(chart)
    if isinstance(chart, Matrix):
        return heatmap(chart, theme)
    if isinstance(chart, Bars):
        return stacked(chart, theme)
    layout = base_layout(theme)
    layout["xaxis"] |= _horizontal(chart)
    layout["xaxis"]["title"]["text"] = chart.x.label
    layout["yaxis"] |= _vertical(chart)
    fits = len(chart.y.label) <= LONGEST_LABEL
    layout["yaxis"]["title"]["text"] = chart.y.label if fits else chart.y.unit
    layout["showlegend"] = len(chart.lines) + len(chart.rules) > 1 and not chart.crowd
    if chart.crowd:
        layout["hovermode"] = "closest"
    if chart.y.squeeze < 1:
        layout |= _vacuous(theme)
    if chart.empty:
        layout.setdefault("annotations", []).append(nothing_to_draw(theme))
    lines = [_line(line, chart, theme) for line in chart.lines]
    drawn = [*_areas(chart, theme), *lines, *_points(chart, theme), *_rules(chart, theme)]
    return {"data": drawn, "layout": layout}


def literal(value: Any) -> Any:
    """Return a chart whose texts plotly, which reads some HTML in them, shows as they are."""
    if isinstance(value, str):
        return escape(value, quote=False)
    if isinstance(value, tuple):
        return tuple(map(literal, value))
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: literal(getattr(value, f.name)) for f in fields(value)})
    return value


def side_by_side(left: Chart, right: Chart, theme: Theme = ROLES) -> dict[str, Any]:
    """Return two charts of the same lines and axes in one frame, with one legend and their titles.

    A line is hidden in both.
    """
    spec, other = plotly_spec(left, theme), plotly_spec(right, theme)
    layout = spec["layout"]
    layout["xaxis2"] = layout["xaxis"] | {"anchor": "y2", "domain": [1 - PANEL, 1]}
    layout["yaxis2"] = layout["yaxis"] | {"anchor": "x2", "title": {"text": ""}}
    layout["xaxis"] |= {"domain": [0, PANEL]}
    layout.setdefault("annotations", []).extend(
        {
            "text": f"<b>{literal(chart.title)}</b>",
            "x": 1,
            "y": 1,
            "xref": f"x{number} domain",
            "yref": f"y{number} domain",
            "xanchor": "right",
            "yanchor": "top",
            "showarrow": False,
        }
        for chart, number in ((left, ""), (right, "2"))
    )
    for trace in spec["data"]:
        trace["legendgroup"] = trace["name"]
    for trace in other["data"]:
        trace |= {"legendgroup": trace["name"], "showlegend": False, "xaxis": "x2", "yaxis": "y2"}
    return {"data": [*spec["data"], *other["data"]], "layout": layout}


def _line(line: Line, chart: Chart, theme: Theme) -> dict[str, Any]:
    reference = line.role == "reference"
    few = len(line.x) <= FEW_POINTS and not (reference or chart.crowd)
    trace: dict[str, Any] = {
        "type": "scatter",
        "name": line.name,
        "mode": "lines+markers" if few else "lines",
        "line": {
            "width": 1.5 if reference else 2.5,
            "color": colour(line, theme),
            "dash": " ".join(f"{length}px" for length in dash(line)) or "solid",
        },
        "marker": {"size": 6, "symbol": symbol(line)},
        "hovertemplate": f"%{{y:.4~r}} {chart.y.unit}".strip(),
        "showlegend": any(map(math.isfinite, line.y)),
        "x": list(line.x),
        "y": _heights(line.y, chart),
    }
    if line.role == "measured":
        trace["legendrank"] = 1  # though it is drawn in front, and so last
    if line.words:
        trace |= {"hovertemplate": "%{text}", "text": list(line.words)}
    if line.error is not None:
        bars = {"type": "data", "array": digits(line.error), "thickness": 1.5, "width": 5}
        trace["error_y"] = bars
    if line.low is not None:
        trace["legendgroup"] = line.name  # its band goes with it
    if line.role == "method":  # which the page shows and hides
        trace["method"] = line.order
    if chart.crowd:
        trace |= {"line": {"width": 1, "color": theme.muted}, "opacity": 0.45, "showlegend": False}
        trace["hovertemplate"] = "%{fullData.name} %{y:.4~r}, %{x}<extra></extra>"
    return trace


def _areas(chart: Chart, theme: Theme) -> Iterator[dict[str, Any]]:
    """The bands around lines, behind all of them."""
    for line in chart.lines:
        if line.low is None or line.high is None:
            continue
        known = {"method": line.order} if line.role == "method" else {}
        if known and (line.low == line.high or len(line.x) < 2):
            continue
        yield {
            "type": "scatter",
            "name": f"{line.name}, band",
            "legendgroup": line.name,
            "showlegend": False,
            "mode": "lines",
            "line": {"width": 0},
            "fill": "toself",
            "fillcolor": faint(colour(line, theme)),
            "hoverinfo": "skip",
            **known,
            **_outline(line.x, _heights(line.low, chart), _heights(line.high, chart)),
        }


def _outline(
    x: Sequence[float], low: Sequence[float | None], high: Sequence[float | None]
) -> dict[str, Any]:
    """One closed polygon for each stretch of a band without a gap; a lone point has no area."""
    gaps = [k for k in range(len(x)) if low[k] is None or high[k] is None]
    xs: list[float | None] = []
    ys: list[float | None] = []
    for before, after in pairwise([-1, *gaps, len(x)]):
        part = slice(before + 1, after)
        if after - before > 2:
            xs += [*([None] if xs else []), *x[part], *x[part][::-1]]
            ys += [*([None] if ys else []), *high[part], *low[part][::-1]]
    return {"x": xs, "y": ys}


def _points(chart: Chart, theme: Theme) -> list[dict[str, Any]]:
    return [
        {
            "type": "scatter",
            "name": points.name,
            "mode": "markers",
            "x": list(points.x),
            "y": _heights(points.y, chart),
            "marker": {
                "symbol": "circle-open",
                "size": 11,
                "line": {"width": 2},
                "color": [theme.role(role) for role in points.roles],
            },
            "hovertemplate": f"%{{y:.4~r}}, {points.name.lower()}<extra></extra>",
        }
        for points in chart.points
    ]


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
            "name": f"{rule.name} {rule.value:.3g}",
            "mode": "lines",
            "x": ends,
            "y": [None if math.isnan(at := chart.place(rule.value)) else at] * 2,
            "line": {"color": theme.muted, "width": 1.5, "dash": "6px 4px"},
            "hoverinfo": "skip",
        }
        for rule in chart.rules
    ]


def _vacuous(theme: Theme) -> dict[str, Any]:
    """The shade and the note on what lies above 1."""
    zone = {"type": "rect", "xref": "paper", "x0": 0, "x1": 1, "y0": 1, "y1": FAR}
    style = {"layer": "below", "fillcolor": theme.sunken, "line": {"color": theme.rule, "width": 1}}
    note = {"text": VACUOUS, "x": 1, "xanchor": "right", "y": 1, "yanchor": "top", "align": "right"}
    note |= {"xref": "paper", "yref": "paper", "showarrow": False, "bgcolor": theme.sunken}
    note["font"] = {"color": theme.muted, "size": 12}
    return {"shapes": [zone | style], "annotations": [note]}


def _vertical(chart: Chart) -> dict[str, Any]:
    low, high = chart.range
    if chart.y.scale != "log":
        return {"range": [low, high]}
    if chart.y.squeeze == 1:
        return log_axis(low, high)
    reach = high / chart.y.squeeze
    every = max(1, math.ceil(reach / 4))
    decades = [10.0**decade for decade in range(every, math.floor(reach) + 1, every)]
    ticks = [*log_ticks(low, 0.0), *decades]
    return {
        "type": "log",
        "range": [low, high],
        "tickvals": [chart.place(tick) for tick in ticks],
        "ticktext": [
            plain(t) if t < 1e5 else f"10<sup>{round(math.log10(t))}</sup>" for t in ticks
        ],
    }


def _horizontal(chart: Chart) -> dict[str, Any]:
    drawn = sorted({place for line in chart.lines for place in line.x})
    if chart.x.scale == "steps":
        steps = [round(place) - 1 for place in drawn]
        return step_axis(steps, chart.labels[: len(steps)])
    if chart.x.scale == "names":
        return name_ticks(chart.labels) | {"range": [-0.5, len(chart.labels) - 0.5]}
    places = list(map(float, chart.labels)) or drawn or [1.0, 10.0]
    low, high = math.log10(places[0]), math.log10(places[-1])
    pad = max(0.05 * (high - low), 0.04)
    return {
        "type": "log",
        "range": [low - pad, high + pad],
        "tickvals": (ticks := apart(places)),
        "ticktext": [f"{tick:,.0f}" for tick in ticks],
        "unifiedhovertitle": {"text": f"{chart.x.label} = %{{x:,}}"},
    }


def _heights(values: Iterable[float], chart: Chart) -> list[float | None]:
    return digits(map(chart.place, values))
