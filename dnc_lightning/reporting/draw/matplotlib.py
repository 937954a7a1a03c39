"""Neutral charts as panels of matplotlib, for papers and for loggers that take images."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from dnc_lightning.reporting.charts.values import Chart, Line, Matrix
from dnc_lightning.reporting.paper.style import (
    DASHES,
    FEW_MARKERS,
    MARKERS,
    method_style,
    shots_ticks,
    step_ticks,
    value_ticks,
)
from dnc_lightning.reporting.theme import LIGHT

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAMED = 12  # up to here the rows and columns of a matrix have their names
LONGEST_NAME = 12


def draw(ax: Axes, chart: Chart | Matrix) -> None:
    """Draw a chart into a panel, without its title and legend."""
    if isinstance(chart, Matrix):
        _matrix(ax, chart)
        return
    for line in chart.lines:
        style = _style(line)
        if len(line.x) > FEW_MARKERS:
            style["markevery"] = math.ceil(len(line.x) / FEW_MARKERS)
        ax.plot(line.x, line.y, label=line.name, **style)
        if line.low is not None and line.high is not None and line.low != line.high:
            ax.fill_between(line.x, line.low, line.high, color=style["color"], alpha=0.18, lw=0)
    for rule in chart.rules:
        ax.axhline(rule.value, color=LIGHT.muted, lw=0.8, dashes=(4, 3), label=rule.name)
    places = sorted({place for line in chart.lines for place in line.x})
    if chart.x.scale == "steps":
        step_ticks(ax, max(places, default=1) - 1)
    elif chart.x.scale == "shots":
        shots_ticks(ax, places)
    else:
        every = math.ceil(max(1, len(chart.labels)) / NAMED)
        names = [name[:LONGEST_NAME] for name in chart.labels[::every]]
        ax.set_xticks(range(0, len(chart.labels), every), names, rotation=45, ha="right")
    low, high = chart.range
    if chart.y.scale == "log":
        ax.set_yscale("log")
        ax.set_ylim(10**low, 10**high)
        value_ticks(ax)
    else:
        ax.set_ylim(low, high)
    ax.set_xlabel(chart.x.label)
    ax.set_ylabel(chart.y.unit)


def _style(line: Line) -> dict[str, Any]:
    if line.role == "method":
        return method_style(line.order)
    if line.role == "task":
        style = method_style(line.order)
        return style | {"color": LIGHT.tasks[line.order % len(LIGHT.tasks)]}
    dash = {"dash": DASHES[1], "dot": DASHES[2], "dashdot": DASHES[3]}.get(line.dash, "-")
    marker = "" if line.role == "reference" else MARKERS["circle"]
    return {"color": LIGHT.role(line.role), "linestyle": dash, "marker": marker}


def _matrix(ax: Axes, chart: Matrix) -> None:
    from matplotlib.colors import LinearSegmentedColormap, LogNorm

    values = np.ma.masked_invalid(chart.values)
    log = chart.scale == "log"
    if log:
        values = np.ma.masked_less_equal(values, 0)
    colours = LinearSegmentedColormap.from_list("plain", list(LIGHT.cosine_ramp))
    # Cells of a mesh stay vectors in a PDF, where an image would be one of pixels.
    mesh = ax.pcolormesh(
        values,
        cmap=colours.with_extremes(bad=LIGHT.sunken),
        norm=LogNorm() if log and values.count() else None,
    )
    ax.invert_yaxis()
    ax.grid(visible=False)
    ax.set_facecolor(LIGHT.sunken)
    ax.set_box_aspect(len(chart.rows) / len(chart.columns))
    for axis, names in ((ax.xaxis, chart.columns), (ax.yaxis, chart.rows)):
        every = math.ceil(len(names) / NAMED)
        axis.set_ticks(
            [k + 0.5 for k in range(0, len(names), every)],
            [name[:LONGEST_NAME] for name in names[::every]],
        )
    ax.tick_params(axis="x", rotation=90)
    ax.set_xlabel(chart.x)
    ax.set_ylabel(chart.y)
    if values.count():
        ax.figure.colorbar(mesh, ax=ax, shrink=0.8)
