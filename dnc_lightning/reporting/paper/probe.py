"""Pictures of one probe, for loggers that take images: pair matrices, and error against shots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from dnc_lightning.records.store import Run
from dnc_lightning.reporting.draw.axes import log_ticks, plain
from dnc_lightning.reporting.draw.cells import shades
from dnc_lightning.reporting.paper.further import further_pictures
from dnc_lightning.reporting.paper.style import RC, series_style, shots_ticks, value_ticks
from dnc_lightning.reporting.read.few_shot import SERIES, few_shot
from dnc_lightning.reporting.read.views import METRICS, View, log_bounds, views
from dnc_lightning.reporting.theme import LIGHT, LOOKS, Metric

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEAST_CLASSES = 3  # that a matrix of pairs is drawn of
NAMED_CLASSES = 24  # up to here classes have their names on the axes
LONGEST_NAME = 16
PIXELS_PER_INCH = 96
WIDTH, HEIGHT = 518, 460  # pixels of a picture of pairs, and of what is in it
LEFT, TOP, SIDE, BAR, GAP = 108, 28, 332, 14, 7


def pair_picture(
    matrix: NDArray[np.floating], classes: Sequence[str], metric: Metric
) -> NDArray[np.uint8]:
    """Draw one metric of every ordered pair of classes, with logarithmic colours.

    Args:
        matrix: [C, C], rows i, columns j, nan where undefined.
        classes: Names, [C].
        metric: Which metric it is.

    Returns:
        An image, [HEIGHT, WIDTH, 3].

    Raises:
        ModuleNotFoundError: If matplotlib is not installed.
    """
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure

    low, high = log_bounds(matrix)
    figure = Figure(
        figsize=(WIDTH / PIXELS_PER_INCH, HEIGHT / PIXELS_PER_INCH), dpi=PIXELS_PER_INCH
    )

    def write(x: float, y: float, text: str, size: float, **style: Any) -> None:
        figure.text(x / WIDTH, 1 - y / HEIGHT, text, fontsize=size, color=LIGHT.ink, **style)

    title = f"{LOOKS[metric].title} of class i (row) and class j (column)"
    write(LEFT + SIDE / 2, TOP - GAP, title, 9.5, ha="center")
    for tick in log_ticks(low, high):
        height = TOP + SIDE * (high - np.log10(tick)) / (high - low)
        write(LEFT + SIDE + 2 * GAP + BAR, height, plain(tick), 8, va="center")
    if len(classes) <= NAMED_CLASSES:
        for k, name in enumerate(classes):
            middle, text = SIDE * (k + 0.5) / len(classes), name[:LONGEST_NAME]
            write(LEFT + middle, TOP + SIDE + GAP, text, 7, ha="center", va="top", rotation=90)
            write(LEFT - GAP, TOP + middle, text, 7, ha="right", va="center")
    picture = pixels(figure)
    # Set by hand: to make and draw axes takes longer than all the rest.
    colours = LinearSegmentedColormap.from_list(metric, list(LIGHT.ramp(metric)))
    ramp = colours.with_extremes(bad=LIGHT.sunken)
    cells = np.arange(SIDE) * len(matrix) // SIDE
    places = (shades(matrix, low) - low) / (high - low)
    pairs = ramp(np.ma.masked_invalid(places), bytes=True)[..., :3]
    picture[TOP : TOP + SIDE, LEFT : LEFT + SIDE] = pairs[np.ix_(cells, cells)]
    scale = ramp(np.linspace(1, 0, SIDE), bytes=True)[:, None, :3]
    picture[TOP : TOP + SIDE, LEFT + SIDE + GAP :][:, :BAR] = scale
    return picture


def shots_picture(run: Run, view: View) -> Figure | None:
    """Draw error and bounds against shots at the last probe of a run, or None if there are none.

    Raises:
        ModuleNotFoundError: If matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    found = few_shot(run, view, max_probes=2)
    if found is None:
        return None
    figure = Figure(figsize=(5.4, 3.8), dpi=PIXELS_PER_INCH)
    ax = figure.add_axes((0.14, 0.14, 0.83, 0.83))
    for name in SERIES:
        style: dict[str, Any] = series_style(name)
        values = found.values[name][-1]
        if not np.isfinite(values).any():
            continue
        label = style.pop("name")
        ax.plot(found.shots, np.where(values > 0, values, np.nan), label=label, **style)
    shots_ticks(ax, found.shots)
    ax.axhline(1, color=LIGHT.muted, lw=0.8)
    value_ticks(ax)
    ax.set_xlabel("labelled samples per class", fontsize=8)
    ax.set_ylabel("error rate; a bound above 1 says nothing", fontsize=8)
    ax.tick_params(labelsize=RC["xtick.labelsize"])
    ax.grid(color=RC["grid.color"], lw=RC["grid.linewidth"])
    ax.legend(frameon=False, fontsize=8, loc="lower left")
    return figure


def probe_pictures(
    run: Run, matrices: Mapping[str, NDArray[np.floating]], *, curves: bool = True
) -> dict[str, NDArray[np.uint8]]:
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
    drawn = {}
    for view in views(run):
        figure = shots_picture(run, view) if curves else None
        if figure is not None:
            drawn[f"{view.prefix}/charts/few_shot"] = pixels(figure)
        for metric in METRICS:
            matrix = matrices.get(f"{view.encoder}/{view.task}/{metric}")
            if _worth_drawing(matrix):
                picture = pair_picture(matrix, view.classes, metric)
                drawn[f"{view.prefix}/charts/{metric}"] = picture
    return drawn | {key: pixels(fig) for key, fig in further_pictures(run, matrices).items()}


def _worth_drawing(matrix: NDArray[np.floating] | None) -> TypeGuard[NDArray[np.floating]]:
    # Two classes have two numbers, which are scalars already.
    return matrix is not None and len(matrix) >= LEAST_CLASSES and bool(np.isfinite(matrix).any())


def pixels(figure: Figure) -> NDArray[np.uint8]:
    """Return a figure as an image, [H, W, 3]."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba(), dtype=np.uint8)[..., :3].copy()
