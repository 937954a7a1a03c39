"""Neutral charts as panels of matplotlib, for papers and for loggers that take images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dnc_lightning.reporting.charts.bars import GroupedBars
from dnc_lightning.reporting.charts.values import Chart, Line, Matrix
from dnc_lightning.reporting.draw.axes import log_ticks, plain, short
from dnc_lightning.reporting.draw.look import colour, dash, shade_ticks, shades, symbol
from dnc_lightning.reporting.theme import LIGHT, MARKERS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

NAMED = 12  # up to here rows, columns and positions have their names
LONGEST_NAME = 12
FEW_MARKERS = 40
MOST_TICKS = 5
BAR = 0.16  # of the distance between two groups of bars
SYMBOLS = dict(zip(MARKERS, "osD^vPX*", strict=True))


def draw(ax: Axes, picture: Chart | Matrix | GroupedBars) -> None:
    """Draw a picture into a panel, without its title and legend."""
    if isinstance(picture, Matrix):
        _matrix(ax, picture)
    elif isinstance(picture, GroupedBars):
        _bars(ax, picture)
    else:
        _lines(ax, picture)


def _lines(ax: Axes, chart: Chart) -> None:
    for line in chart.lines:
        look = _look(line)
        ax.plot(line.x, _drawn(line.y, chart), label=line.name, **look)
        if line.low is not None and line.high is not None and line.low != line.high:
            ax.fill_between(line.x, line.low, line.high, color=look["color"], alpha=0.18, lw=0)
    for rule in chart.rules:
        ax.axhline(rule.value, color=LIGHT.muted, lw=0.8, dashes=(4, 3), label=rule.name)
    if chart.x.scale == "steps":
        _step_ticks(ax, max((place for line in chart.lines for place in line.x), default=1) - 1)
    elif chart.x.scale == "shots":
        _shots_ticks(ax, [float(name) for name in chart.labels])
    else:
        _names(ax.xaxis, chart.labels, 0.0, rotation=45, ha="right")
    _value_axis(ax, chart.y.scale == "log", *chart.range)
    ax.set_xlabel(chart.x.label)
    ax.set_ylabel(chart.y.unit)


def _look(line: Line) -> dict[str, Any]:
    # Lengths of dashes count in widths of the line, about two pixels.
    dashes = tuple(length / 2 for length in dash(line))
    return {
        "color": colour(line, LIGHT),
        "linestyle": (0, dashes) if dashes else "-",
        "marker": "" if line.role == "reference" else SYMBOLS[symbol(line)],
        "markevery": max(1, math.ceil(len(line.x) / FEW_MARKERS)),
    }


def _drawn(values: Sequence[float], chart: Chart) -> Sequence[float]:
    # A zero has no place on a logarithmic axis: the line has a gap there.
    return [v if v > 0 else math.nan for v in values] if chart.y.scale == "log" else values


def _bars(ax: Axes, chart: GroupedBars) -> None:
    from matplotlib.patheffects import withStroke

    colours = (LIGHT.directional_cdnv, *(LIGHT.cdnv_ramp[k] for k in (5, 3, 2, 1)))
    outline = [withStroke(linewidth=2.4, foreground="white")]
    groups = len(chart.groups)
    for k, part in enumerate(chart.parts):
        at = np.arange(groups) + (k - (len(chart.parts) - 1) / 2) * BAR
        ax.bar(at, chart.values[:, k], BAR * 0.92, color=colours[k], label=part)
        if np.isfinite(before := chart.before[:, k]).any():
            label = "first probe" if k == 0 else None
            look: dict[str, Any] = {"marker": "_", "markersize": 5, "color": LIGHT.ink}
            ax.plot(at, before, linestyle="none", path_effects=outline, label=label, **look)
    ax.set_yscale("log")
    low, high = ax.get_ylim()
    _value_axis(ax, True, math.log10(low), math.log10(high))
    room = 0.6 if groups > 1 else 1.0
    ax.set_xlim(-room, groups - 1 + room)
    ax.set_xticks(range(groups), chart.groups, fontsize=6)
    ax.grid(visible=False, axis="x")
    ax.set_xlabel(chart.x)
    ax.set_ylabel(chart.y)


def _matrix(ax: Axes, chart: Matrix) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    heights, low, high = shades(chart)
    colours = LinearSegmentedColormap.from_list("ramp", list(LIGHT.ramp(chart.role)))
    # Cells of a mesh stay vectors in a PDF, where an image would be one of pixels.
    mesh = ax.pcolormesh(
        np.ma.masked_invalid(heights),
        cmap=colours.with_extremes(bad=LIGHT.sunken),
        vmin=low,
        vmax=high,
    )
    ax.invert_yaxis()
    ax.grid(visible=False)
    ax.set_facecolor(LIGHT.sunken)
    ax.set_box_aspect(len(chart.rows) / len(chart.columns))
    _names(ax.xaxis, chart.columns, 0.5, rotation=90)
    _names(ax.yaxis, chart.rows, 0.5)
    ax.set_xlabel(chart.x)
    ax.set_ylabel(chart.y)
    bar = ax.figure.colorbar(mesh, ax=ax, shrink=0.8)
    places, texts = zip(*shade_ticks(chart, low, high), strict=True)
    bar.set_ticks(places, labels=texts)
    bar.minorticks_off()


def _names(axis: Axis, names: Sequence[str], shift: float, **style: Any) -> None:
    every = math.ceil(max(1, len(names)) / NAMED)
    places = [k + shift for k in range(0, len(names), every)]
    axis.set_ticks(places, [name[:LONGEST_NAME] for name in names[::every]], **style)


def _step_ticks(ax: Axes, last: float) -> None:
    """Make a logarithmic axis of step + 1 whose ticks show true steps."""
    ax.set_xscale("log")
    decades = [10**k for k in range(1, 12) if 10**k <= max(last, 10)]
    every = math.ceil(len(decades) / 3)
    ticks = [0, *([1] if len(decades) < 3 else []), *decades[::-1][::every][::-1]]
    ax.set_xticks([tick + 1 for tick in ticks], [short(tick) for tick in ticks])
    ax.set_xlim(0.85, 1.15 * (max(last, 10) + 1))


def _shots_ticks(ax: Axes, shots: Sequence[float]) -> None:
    """Make a logarithmic axis whose ticks are the numbers of shots, as far as they have room."""
    from matplotlib.ticker import NullLocator

    ax.set_xscale("log")
    ax.xaxis.set_minor_locator(NullLocator())  # not seen, but half the time of drawing a picture
    kept = list(shots[:1])
    for m in shots[1:]:
        if math.log10(m / kept[-1]) > 0.2 * math.log10(shots[-1] / shots[0]):
            kept.append(m)
    ax.set_xticks(kept, [f"{m:,.0f}" for m in kept])
    room = (shots[-1] / shots[0]) ** 0.05 * 1.02
    ax.set_xlim(shots[0] / room, shots[-1] * room)


def _value_axis(ax: Axes, log: bool, low: float, high: float) -> None:
    """Set the ends of the vertical axis, of a logarithmic one in decades with four or so ticks."""
    from matplotlib.ticker import NullLocator

    if not log:
        ax.set_ylim(low, high)
        return
    ax.set_yscale("log")
    ticks = log_ticks(low, high)
    ticks = ticks[:: math.ceil(len(ticks) / MOST_TICKS)]
    ax.set_yticks(ticks, [plain(tick) for tick in ticks])
    ax.yaxis.set_minor_locator(NullLocator())
    ax.set_ylim(10**low, 10**high)
