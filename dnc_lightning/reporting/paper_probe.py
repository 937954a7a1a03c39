"""Pictures of one probe, for loggers that take images: pair matrices, and error against shots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dnc_lightning.reporting.few_shot import SERIES, few_shot
from dnc_lightning.reporting.figures import TITLES, heat
from dnc_lightning.reporting.paper_style import RC, series_style, shots_ticks, value_ticks
from dnc_lightning.reporting.plotting import log_ticks, plain
from dnc_lightning.reporting.records import Run
from dnc_lightning.reporting.theme import LIGHT, Metric
from dnc_lightning.reporting.views import METRICS, View, log_bounds, views

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAMED_CLASSES = 24  # up to here classes have their names on the axes
LONGEST_NAME = 16
PIXELS_PER_INCH = 110


def pair_picture(matrix: NDArray[np.floating], classes: Sequence[str], metric: Metric) -> Figure:
    """Draw one metric of every ordered pair of classes, with logarithmic colours.

    Args:
        matrix: [C, C], rows i, columns j, nan where undefined.
        classes: Names, [C].
        metric: Which metric it is.

    Raises:
        ModuleNotFoundError: If matplotlib is not installed.
    """
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure

    bounds = log_bounds(matrix)
    ramp = LinearSegmentedColormap.from_list(metric, list(LIGHT.ramp(metric)))
    # Fixed places: finding the best ones takes longer than drawing.
    figure = Figure(figsize=(5.4, 4.8), dpi=PIXELS_PER_INCH)
    ax = figure.add_axes((0.21, 0.21, 0.64, 0.72))
    ax.set_facecolor(LIGHT.sunken)
    image = ax.imshow(heat(matrix, bounds), cmap=ramp, vmin=bounds[0], vmax=bounds[1])
    ticks = log_ticks(*bounds)
    bar = figure.colorbar(image, cax=figure.add_axes((0.87, 0.21, 0.025, 0.72)))
    bar.set_ticks([float(np.log10(tick)) for tick in ticks], labels=[plain(t) for t in ticks])
    bar.outline.set_visible(False)
    ax.set_title(TITLES[metric], fontsize=10)
    ax.set_xlabel("class j", fontsize=8)
    ax.set_ylabel("class i", fontsize=8)
    ax.spines[:].set_visible(False)
    if len(classes) <= NAMED_CLASSES:
        names = [name[:LONGEST_NAME] for name in classes]
        ax.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
        ax.set_yticks(range(len(names)), names, fontsize=7)
    return figure


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
        label = style.pop("name")
        ax.plot(found.shots, np.where(values > 0, values, np.nan), label=label, **style)
    shots_ticks(ax, found.shots)
    ax.axhline(1, color=LIGHT.muted, lw=0.8)
    value_ticks(ax)
    ax.set_xlabel("labelled samples per class", fontsize=8)
    ax.set_ylabel("error rate; a bound above 1 says nothing", fontsize=8)
    ax.tick_params(labelsize=RC["xtick.labelsize"])
    ax.grid(color=RC["grid.color"], lw=RC["grid.linewidth"])
    ax.legend(frameon=False, fontsize=8)
    return figure


def probe_pictures(
    run: Run, matrices: Mapping[str, NDArray[np.floating]]
) -> dict[str, NDArray[np.uint8]]:
    """Draw everything there is to draw of one probe, for each encoder and task.

    Args:
        run: Header and a single record.
        matrices: "{encoder}/{task}/{metric}" -> [C, C].

    Returns:
        "{prefix}/charts/{name}" -> [H, W, 3], with "few_shot" and each metric for a name.

    Raises:
        ModuleNotFoundError: If matplotlib is not installed.
    """
    drawn = {}
    for view in views(run):
        figures = {"few_shot": shots_picture(run, view)}
        for metric in METRICS:
            matrix = matrices.get(f"{view.encoder}/{view.task}/{metric}")
            if matrix is not None and np.isfinite(matrix).any():
                figures[metric] = pair_picture(matrix, view.classes, metric)
        for name, figure in figures.items():
            if figure is not None:
                drawn[f"{view.prefix}/charts/{name}"] = pixels(figure)
    return drawn


def pixels(figure: Figure) -> NDArray[np.uint8]:
    """Return a figure as an image, [H, W, 3]."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba(), dtype=np.uint8)[..., :3].copy()
