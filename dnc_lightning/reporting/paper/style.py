"""How the figures of a paper look: sizes, type, colours and axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dnc_lightning.reporting.compare.figures import PALETTES, SYMBOLS
from dnc_lightning.reporting.compare.numbers import Band
from dnc_lightning.reporting.draw.axes import log_ticks, plain, short
from dnc_lightning.reporting.read.few_shot import Series
from dnc_lightning.reporting.theme import LIGHT, LOOKS, Metric

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTHS = {"single": 3.25, "double": 6.75}  # inches
COLUMNS = {"single": 2, "double": 4}  # panels beside each other, at most
DOTS_PER_INCH = 300
ROW_HEIGHT = 1.5  # inches
LEAST_ERROR = 1e-4
FEW_MARKERS = 40
MOST_TICKS = 5

# Fonttype 42 embeds outlines that stay text: journals refuse type 3.
RC: dict[str, Any] = {
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
    "font.family": "sans-serif",
    "font.sans-serif": ["Helvetica", "Arial", "Liberation Sans", "DejaVu Sans"],
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.size": 0,
    "ytick.minor.size": 1.5,
    "axes.grid": True,
    "axes.grid.which": "major",
    "grid.color": "#e3e5e1",
    "grid.linewidth": 0.5,
    "axes.axisbelow": True,
    "lines.linewidth": 1.3,
    "lines.markersize": 3,
}
MARKERS = {
    "circle": "o",
    "square": "s",
    "diamond": "D",
    "triangle-up": "^",
    "triangle-down": "v",
    "cross": "P",
    "x": "X",
    "star": "*",
}
DASHES: tuple[Any, ...] = (
    "-",
    (0, (4, 1.5)),
    (0, (1, 1.2)),
    (0, (4, 1.2, 1, 1.2)),
    (0, (7, 1.5)),
    (0, (3, 1, 1, 1, 1, 1)),
)


def require_matplotlib() -> None:
    """Check that figures for a paper can be drawn.

    Raises:
        ModuleNotFoundError: If matplotlib is not installed; the message names the extra.
    """
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'figures for a paper need matplotlib: pip install "dnc_lightning[figures]"'
        ) from error


def panels(tasks: Sequence[str], rows: int, width: str) -> tuple[Figure, list[list[Axes]]]:
    """Make an empty panel for each task and row; tasks that do not fit go below.

    Args:
        tasks: Titles.
        rows: Panels of each task.
        width: A key of `WIDTHS`.

    Returns:
        The figure, and its axes as [rows][tasks].
    """
    from matplotlib.figure import Figure

    columns = min(len(tasks), COLUMNS[width])
    lines = math.ceil(len(tasks) / columns)
    size = (WIDTHS[width], 0.55 + ROW_HEIGHT * rows * lines + (0.4 if columns < 2 else 0))
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(rows * lines, columns, squeeze=False)
    axes = [
        [grid[(c // columns) * rows + r][c % columns] for c in range(len(tasks))]
        for r in range(rows)
    ]
    for empty in grid[-rows:, len(tasks) - (lines - 1) * columns :].flat:
        empty.set_visible(False)
    for c, task in enumerate(tasks):
        axes[0][c].set_title(task)
    return figure, axes


def draw_band(ax: Axes, found: Band, label: str, style: dict[str, Any], *, shift: int) -> bool:
    """Draw the mean of the seeds and the band between their extremes; say whether there is any."""
    if not found.x:
        return False
    x = np.array(found.x) + shift
    positive = np.where(found.mean > 0, found.mean, np.nan)
    markers: dict[str, Any] = (
        {} if len(x) <= FEW_MARKERS else {"markevery": math.ceil(len(x) / FEW_MARKERS)}
    )
    ax.plot(x, positive, label=label, **style, **markers)
    if not np.array_equal(found.low, found.high):
        ax.fill_between(x, found.low, found.high, color=style["color"], alpha=0.18, lw=0)
    return True


def method_style(index: int) -> dict[str, Any]:
    """Return colour, marker and dash of the i-th method, the same in every figure."""
    palette = PALETTES["light"]
    return {
        "color": palette[index % len(palette)],
        "marker": MARKERS[SYMBOLS[index % len(SYMBOLS)]],
        "linestyle": DASHES[(index + index // len(SYMBOLS)) % len(DASHES)],
    }


def metric_style(metric: Metric) -> dict[str, Any]:
    """Return the line of a metric where there is one method."""
    marker, dash = {"cdnv": ("s", DASHES[1])}.get(metric, ("o", "-"))
    return {"color": LIGHT.role(metric), "marker": marker, "linestyle": dash}


def series_style(series: Series) -> dict[str, Any]:
    """Return the line of a measured error or bound where there is one method, and its name."""
    marker, dash = {
        "few_shot_error": ("o", "-"),
        "certificate": ("s", "-"),
        "joint": ("P", DASHES[3]),
        "theorem_4_1": ("D", DASHES[1]),
        "luthra_2025": ("^", DASHES[2]),
    }[series]
    colour = LIGHT.role(series)
    return {"name": LOOKS[series].title, "color": colour, "marker": marker, "linestyle": dash}


def step_ticks(ax: Axes, last: float) -> None:
    """Make a logarithmic axis of step + 1 whose ticks show true steps."""
    ax.set_xscale("log")
    decades = [10**k for k in range(1, 12) if 10**k <= max(last, 10)]
    every = math.ceil(len(decades) / 3)
    ticks = [0, *([1] if len(decades) < 3 else []), *decades[::-1][::every][::-1]]
    ax.set_xticks([tick + 1 for tick in ticks], [short(tick) for tick in ticks])
    ax.set_xlim(0.85, 1.15 * (max(last, 10) + 1))


def shots_ticks(ax: Axes, shots: Sequence[float]) -> None:
    """Make a logarithmic axis whose ticks are the numbers of shots, as far as they have room."""
    from matplotlib.ticker import NullLocator

    ax.set_xscale("log")
    ax.xaxis.set_minor_locator(NullLocator())  # not seen, but half the time of drawing a picture
    kept: list[float] = []
    for m in shots:
        if not kept or math.log10(m / kept[-1]) > 0.2 * math.log10(shots[-1] / shots[0]):
            kept.append(m)
    ax.set_xticks(kept, [f"{m:,.0f}" for m in kept])


def value_ticks(ax: Axes) -> None:
    """Make a logarithmic vertical axis whose ticks are plain numbers, four or so."""
    from matplotlib.ticker import NullLocator

    ax.set_yscale("log")
    low, high = ax.get_ylim()
    ticks = log_ticks(math.log10(low), math.log10(high))
    ticks = ticks[:: math.ceil(len(ticks) / MOST_TICKS)]
    ax.set_yticks(ticks, [plain(tick) for tick in ticks])
    ax.yaxis.set_minor_locator(NullLocator())
    ax.set_ylim(low, high)


def floor_at(values: Sequence[float]) -> float:
    """Return the lower end of an axis of error rates."""
    return max(LEAST_ERROR, 0.7 * min([0.5, *values]))
