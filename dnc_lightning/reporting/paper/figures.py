"""Figures for a paper, drawn with matplotlib: vector PDF with embedded fonts, and PNG."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dnc_lightning.reporting.compare.numbers import (
    Band,
    band,
    orthogonality,
    over_shots,
    over_training,
)
from dnc_lightning.reporting.compare.page import Method, methods_of
from dnc_lightning.reporting.compare_runs import Group
from dnc_lightning.reporting.paper.further import further_paper, further_papers
from dnc_lightning.reporting.paper.style import (
    COLUMNS,
    DOTS_PER_INCH,
    RC,
    WIDTHS,
    draw_band,
    floor_at,
    method_style,
    metric_style,
    panels,
    require_matplotlib,
    series_style,
    shots_ticks,
    step_ticks,
    value_ticks,
)
from dnc_lightning.reporting.paper.variance import variance_figure
from dnc_lightning.reporting.read.few_shot import SERIES, Series
from dnc_lightning.reporting.read.views import METRICS
from dnc_lightning.reporting.theme import LOOKS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = ("pdf", "png")


def write_figures(
    groups: Sequence[Group],
    folder: str | os.PathLike[str],
    *,
    tasks: Sequence[str] | None = None,
    width: str = "double",
) -> list[Path]:
    """Draw every figure that the records allow, each as PDF and PNG.

    Args:
        groups: At least one group of runs; see `find_runs`.
        folder: Where to write.
        tasks: The tasks to draw, in order; default all.
        width: "single", a column of 3.25 inches, or "double", 6.75 inches.

    Returns:
        Paths written: collapse, few_shot, orthogonality, variance, and one for each group of
        series that those do not show.

    Raises:
        ModuleNotFoundError: If matplotlib is not installed; the message names the extra.
        OSError: If the folder cannot be written.
        ValueError: If no run has one of `tasks`.
    """
    require_matplotlib()
    import matplotlib as mpl

    methods = methods_of(groups)
    known = list(dict.fromkeys(view.task for group in groups for view in group.views))
    for task in tasks or ():
        if task not in known:
            raise ValueError(f"expected a task among {', '.join(known)}, got {task!r}")
    chosen = list(tasks or known)
    lines = [(method.label, method.group, method.encoder) for method in methods]
    draw: dict[str, Callable[[], Figure | None]] = {
        "collapse": lambda: collapse_paper(methods, chosen, width),
        "few_shot": lambda: few_shot_paper(methods, chosen, width),
        "orthogonality": lambda: orthogonality_paper(methods),
        "variance": lambda: variance_figure(methods, chosen, width),
        **{
            name: partial(further_paper, shown, width)
            for name, shown in further_papers(lines, chosen).items()
        },
    }
    written = []
    Path(folder).mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(RC):
        for name, make in draw.items():
            figure = make()
            if figure is None:
                continue
            for ending in FORMATS:
                path = Path(folder) / f"{name}.{ending}"
                # Without a date the same records give the same file.
                metadata = {"CreationDate": None} if ending == "pdf" else None
                figure.savefig(path, dpi=DOTS_PER_INCH, metadata=metadata)
                written.append(path)
    return written


def collapse_paper(methods: Sequence[Method], tasks: Sequence[str], width: str) -> Figure | None:
    """Draw CDNV and directional CDNV over training, a panel for each task.

    One method has both in one panel; of several, each metric has a row of panels of its own.
    """
    one = len(methods) == 1
    rows: list[tuple[Any, ...]] = [METRICS] if one else [(metric,) for metric in METRICS[::-1]]
    figure, axes = panels(tasks, len(rows), width)
    drawn = False
    for r, metrics in enumerate(rows):
        for c, task in enumerate(tasks):
            ax, steps = axes[r][c], {0.0}
            for metric in metrics:
                for index, method in enumerate(methods):
                    found = _over_training(method, task, metric)
                    style = metric_style(metric) if one else method_style(index)
                    label = LOOKS[metric].title if one else method.label
                    drawn |= draw_band(ax, found, label, style, shift=1)
                    steps |= set(found.x)
            value_ticks(ax)
            step_ticks(ax, max(steps))
            if c % COLUMNS[width] == 0:
                ax.set_ylabel("variance / distance²" if one else LOOKS[metrics[0]].title)
    return _finished(figure, axes, "optimizer steps") if drawn else None


def few_shot_paper(methods: Sequence[Method], tasks: Sequence[str], width: str) -> Figure | None:
    """Draw the measured error and its bounds against shots at the last probe.

    One method has all bounds in one panel; several have a row for the measured error and one for
    the certificate.
    """
    one = len(methods) == 1
    rows: list[tuple[Series, ...]] = [SERIES] if one else [("few_shot_error",), ("certificate",)]
    figure, axes = panels(tasks, len(rows), width)
    drawn, lowest = False, []
    for c, task in enumerate(tasks):
        for r, names in enumerate(rows):
            ax, shots = axes[r][c], set[float]()
            for name in names:
                for index, method in enumerate(methods):
                    view = method.view(task)
                    found = (
                        band([], geometric=False)
                        if view is None
                        else over_shots(method.group, view, name)
                    )
                    style = series_style(name) if one else method_style(index)
                    label = style.pop("name") if one else method.label
                    drawn |= draw_band(ax, found, label, style, shift=0)
                    shots |= set(found.x)
                    lowest += [v for v in found.low if v > 0]
            shots_ticks(ax, sorted(shots))
            if c % COLUMNS[width] == 0:
                title = {"few_shot_error": "measured error", "certificate": "certificate"}
                ax.set_ylabel("error rate" if one else title[names[0]])
    for row in axes:
        for ax in row:
            ax.set_yscale("log")
            ax.set_ylim(floor_at(lowest), 1.25)  # bounds above 1 say nothing
            value_ticks(ax)
    return _finished(figure, axes, "labelled samples per class") if drawn else None


def orthogonality_paper(methods: Sequence[Method]) -> Figure | None:
    """Draw |cos| between the axes of two tasks over training, and what chance gives."""
    figure, axes = panels([""], 1, "single")
    ax, last, floors = axes[0][0], 0.0, []
    for index, method in enumerate(methods):
        found = [orthogonality(named.run, method.encoder) for named in method.group.runs]
        line = band([(steps, values) for steps, values, _ in found], geometric=True)
        draw_band(ax, line, method.label, method_style(index), shift=1)
        last = max([last, *line.x])
        floors += [floor for *_, floor in found if np.isfinite(floor)]
    if not ax.lines:
        return None
    if floors:
        ax.axhline(float(np.mean(floors)), color="0.45", lw=0.8, dashes=(4, 3), label="by chance")
    step_ticks(ax, last)
    ax.set_ylim(bottom=0)
    ax.set_ylabel("mean |cos| between tasks")
    return _finished(figure, axes, "optimizer steps")


def _over_training(method: Method, task: str, metric: str) -> Band:
    view = method.view(task)
    if view is None:
        return band([], geometric=True)
    return over_training(method.group.runs, f"{view.prefix}/{metric}")


def _finished(figure: Figure, axes: Any, x: str) -> Figure:
    """Add the legend of all panels on top and the title of the horizontal axis below."""
    handles: dict[str, Any] = {}
    for row in axes:
        for ax in row:
            handles |= dict(zip(*ax.get_legend_handles_labels()[::-1], strict=True))
    figure.supxlabel(x, fontsize=RC["axes.labelsize"])
    room = WIDTHS["double"] if figure.get_figwidth() > WIDTHS["single"] else WIDTHS["single"]
    columns = max(1, min(len(handles), round(room / 1.55)))
    if len(handles) > 1:
        figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=columns)
    return figure
