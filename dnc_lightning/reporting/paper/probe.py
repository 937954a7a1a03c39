"""Pictures of one probe, for loggers that take images: pair matrices, and error against shots."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dnc_lightning.records.store import Record, Run
from dnc_lightning.reporting.charts.general import chart_of
from dnc_lightning.reporting.charts.values import Chart, Matrix, Rule
from dnc_lightning.reporting.compare.pictures import errors, together
from dnc_lightning.reporting.compare_runs import Method, Named
from dnc_lightning.reporting.draw.axes import padded
from dnc_lightning.reporting.draw.look import shade_ticks, shades
from dnc_lightning.reporting.draw.matplotlib import draw
from dnc_lightning.reporting.paper.figures import RC
from dnc_lightning.reporting.read.declared import declared
from dnc_lightning.reporting.read.few_shot import SERIES
from dnc_lightning.reporting.read.series import further
from dnc_lightning.reporting.read.views import METRICS, views
from dnc_lightning.reporting.theme import LIGHT

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Pixels = NDArray[np.uint8]

LEAST_CLASSES = 3  # that a matrix of pairs is drawn of: two have two numbers, which are scalars
NAMED = 24  # up to here rows and columns have their names on the axes
LONGEST_NAME = 16
PIXELS_PER_INCH = 96
WIDTH, HEIGHT = 518, 460  # pixels of a picture of a matrix, and of what is in it
LEFT, TOP, SIDE, BAR, GAP = 108, 28, 332, 14, 7


def probe_pictures(
    run: Run, matrices: Mapping[str, NDArray[np.floating]], *, curves: bool = True
) -> dict[str, Pixels]:
    """Draw everything there is to draw of one probe, for each encoder and task.

    Args:
        run: Header and a single record.
        matrices: "{encoder}/{task}/{metric}" -> [C, C]; those of two classes are not drawn.
        curves: Draw error and bounds against shots too.

    Returns:
        "{prefix}/charts/{name}" -> [H, W, 3], with "few_shot", each metric and each further array
        or curve over shots for a name.

    Raises:
        ModuleNotFoundError: If matplotlib is not installed.
    """
    return {
        key: matrix_picture(chart) if isinstance(chart, Matrix) else line_picture(chart)
        for key, chart in _charts(run, matrices, curves)
    }


def _charts(
    run: Run, matrices: Mapping[str, NDArray[np.floating]], curves: bool
) -> Iterator[tuple[str, Chart | Matrix]]:
    for view in views(run):
        method = Method("", (Named("", run),), view.encoder)
        if curves and (shown := errors([method], view.task, SERIES)):
            chart = together(shown).picture
            drawn = [value for line in chart.lines for value in line.y if value > 0]
            rule = Rule("above, a bound says nothing", 1.0)
            whole = replace(chart, rules=(rule,), range=padded(drawn or [0.1, 1.0]))
            yield f"{view.prefix}/charts/few_shot", whole
        for metric in METRICS:
            values = matrices.get(f"{view.encoder}/{view.task}/{metric}")
            if values is None or len(values) < LEAST_CLASSES or not np.isfinite(values).any():
                continue
            series = declared(run.header, metric)
            yield (
                f"{view.prefix}/charts/{metric}",
                Matrix(
                    title=series.title,
                    x="class j",
                    y="class i",
                    columns=view.classes,
                    rows=view.classes,
                    values=values.astype(np.float64),
                    scale="log",
                    role=series.role,
                ),
            )

    def read(_: Record, key: str) -> NDArray[np.float32] | None:
        return np.asarray(matrices[key], dtype=np.float32) if key in matrices else None

    for found in further(run, read_matrix=read):
        if found.kind in ("curve", "matrix"):
            key = found.series.key.replace("/{m}", "").replace("{m}", "")
            yield f"{found.place.prefix}charts/{key}", chart_of(found)


def matrix_picture(chart: Matrix) -> Pixels:
    """Draw a matrix, rows from the top, in the colours of its series, undefined cells in grey.

    Set by hand: axes, a mesh and a bar of colours take many times as long.

    Returns:
        An image, [HEIGHT, WIDTH, 3].

    Raises:
        ModuleNotFoundError: If matplotlib is not installed.
    """
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure

    size = (WIDTH / PIXELS_PER_INCH, HEIGHT / PIXELS_PER_INCH)
    figure = Figure(figsize=size, dpi=PIXELS_PER_INCH)

    def write(x: float, y: float, text: str, size: float, **style: Any) -> None:
        figure.text(x / WIDTH, 1 - y / HEIGHT, text, fontsize=size, color=LIGHT.ink, **style)

    heights, low, high = shades(chart)
    title = f"{chart.title} of {chart.y.lower()} (row) and {chart.x.lower()} (column)"
    write(LEFT + SIDE / 2, TOP - GAP, title, 9.5, ha="center")
    for place, text in shade_ticks(chart, low, high):
        height = TOP + SIDE * (high - place) / (high - low)
        write(LEFT + SIDE + 2 * GAP + BAR, height, text, 8, va="center")
    for names, across in ((chart.columns, True), (chart.rows, False)):
        for k, name in enumerate(names if len(names) <= NAMED else ()):
            middle, text = SIDE * (k + 0.5) / len(names), name[:LONGEST_NAME]
            if across:
                write(LEFT + middle, TOP + SIDE + GAP, text, 7, ha="center", va="top", rotation=90)
            else:
                write(LEFT - GAP, TOP + middle, text, 7, ha="right", va="center")
    picture = pixels(figure)
    plain = LinearSegmentedColormap.from_list("ramp", list(LIGHT.ramp(chart.role)))
    colours = plain.with_extremes(bad=LIGHT.sunken)
    cells = colours(np.ma.masked_invalid((heights - low) / (high - low)), bytes=True)[..., :3]
    rows, columns = (np.arange(SIDE) * count // SIDE for count in heights.shape)
    picture[TOP : TOP + SIDE, LEFT : LEFT + SIDE] = cells[np.ix_(rows, columns)]
    scale = colours(np.linspace(1, 0, SIDE), bytes=True)[:, None, :3]
    picture[TOP : TOP + SIDE, LEFT + SIDE + GAP :][:, :BAR] = scale
    return picture


def line_picture(chart: Chart) -> Pixels:
    """Draw lines with their title and legend; see `draw`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.4, 3.8), dpi=PIXELS_PER_INCH)
    ax = figure.add_axes((0.14, 0.18, 0.83, 0.74))  # a layout of its own would take half as long
    draw(ax, chart)
    ax.set_title(chart.title, fontsize=9.5)
    ax.tick_params(labelsize=RC["xtick.labelsize"])
    ax.grid(color=RC["grid.color"], lw=RC["grid.linewidth"])
    if len(chart.lines) + len(chart.rules) > 1:
        ax.legend(fontsize=8, framealpha=0.8, edgecolor="none")
    return pixels(figure)


def pixels(figure: Figure) -> Pixels:
    """Return a figure as an image, [H, W, 3]."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba(), dtype=np.uint8)[..., :3].copy()
