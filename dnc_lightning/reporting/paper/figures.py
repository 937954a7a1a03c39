"""Figures for a paper, drawn with matplotlib: vector PDF with embedded fonts, and PNG."""

from __future__ import annotations

import math
import os
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dnc_lightning.reporting.charts.bars import GroupedBars
from dnc_lightning.reporting.charts.values import Chart, Matrix
from dnc_lightning.reporting.compare.pictures import (
    BESIDE,
    Compared,
    across,
    collapse,
    compared,
    errors,
    together,
    variance,
)
from dnc_lightning.reporting.compare_runs import Group, Method, methods_of, tasks_of
from dnc_lightning.reporting.draw.matplotlib import draw
from dnc_lightning.reporting.optional import require
from dnc_lightning.reporting.read.few_shot import SERIES
from dnc_lightning.reporting.read.views import METRICS, unique_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = ("pdf", "png")
WIDTHS = {"single": 3.25, "double": 6.75}  # inches
COLUMNS = {"single": 2, "double": 4}  # panels beside each other, at most
DOTS_PER_INCH = 300
ROW_HEIGHT = 1.5  # inches
LONGEST_TITLE = 24  # characters beside which another panel has room
LEGEND_HANDLE, LEGEND_LETTER = 0.4, 0.055  # inches

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

Rows = Sequence[Sequence[Compared[Chart | Matrix | GroupedBars]]]
"""Pictures by row, each row of the same tasks in the same order."""


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
    require("matplotlib")
    import matplotlib as mpl

    methods = methods_of(groups)
    known = tasks_of(methods)
    for task in tasks or ():
        if task not in known:
            raise ValueError(f"expected a task among {', '.join(known)}, got {task!r}")
    written = []
    Path(folder).mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(RC):
        for name, rows in papers(methods, tasks or known).items():
            figure = paper(rows, "single" if name == "orthogonality" else width)
            for ending in FORMATS:
                path = Path(folder) / f"{name}.{ending}"
                # Without a date the same records give the same file.
                metadata = {"CreationDate": None} if ending == "pdf" else None
                figure.savefig(path, dpi=DOTS_PER_INCH, metadata=metadata)
                written.append(path)
    return written


def papers(methods: Sequence[Method], tasks: Sequence[str]) -> dict[str, Rows]:
    """Return what each figure shows that the records allow, by the name of its file.

    One method has all its metrics, or its errors and bounds, in one panel for each task; several
    have a row for each metric, and one each for the measured error and the certificate.
    """
    metrics = METRICS[::-1]
    pairs = [[collapse(methods, task, metric) for metric in metrics] for task in tasks]
    names = SERIES if len(methods) == 1 else BESIDE
    found = [errors(methods, task, names) for task in tasks]
    shown: dict[str, Rows] = {
        "collapse": _by_row(pairs, len(methods) == 1),
        "few_shot": _by_row([entry for entry in found if entry], len(methods) == 1),
        "orthogonality": [[across(methods)]],
        "variance": variance(methods, tasks),
    }
    further: dict[str, list[Compared[Chart | Matrix]]] = {}
    for entry in compared(methods):
        if entry.task is None or entry.task in tasks:
            if len(methods) == 1 and isinstance(entry.picture, Chart):
                entry = together([Compared(entry.task, entry.series, entry.picture)])
            further.setdefault(entry.series.group, []).append(entry)
    shown |= zip(file_names(list(further)), ([row] for row in further.values()), strict=True)
    return {
        name: rows
        for name, rows in shown.items()
        if not all(entry.picture.empty for row in rows for entry in row)
    }


def paper(rows: Rows, width: str) -> Figure:
    """Draw pictures, a panel for each, with one legend on top and one name for shared axes.

    Args:
        rows: At least one picture; those that do not fit beside each other go below.
        width: A key of `WIDTHS`.
    """
    shown = [entry for row in rows for entry in row]
    several = len({entry.task for entry in shown if entry.task}) > 1
    figure, axes = _panels(len(rows[0]), len(rows), width)
    handles: dict[str, Any] = {}
    for row, panels in zip(rows, axes, strict=True):
        for entry, ax in zip(row, panels, strict=True):
            if entry.picture.empty:
                ax.set_axis_off()
                continue
            draw(ax, entry.picture)
            title = entry.picture.title
            parts = [title, entry.task if several or not title else None]
            ax.set_title("\n".join(_wrapped(part) for part in parts if part))
            handles |= dict(zip(*ax.get_legend_handles_labels()[::-1], strict=True))
    _share_names(figure, [ax for panels in axes for ax in panels if ax.axison])
    if len(handles) > 1:
        room = LEGEND_HANDLE + LEGEND_LETTER * max(map(len, handles))
        columns = max(1, min(len(handles), int(WIDTHS[width] / room)))
        figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=columns)
    return figure


def file_names(groups: Sequence[str]) -> list[str]:
    """Return a file name for each group, of letters and digits."""
    words = ("".join(c if c.isalnum() else " " for c in group.lower()).split() for group in groups)
    return unique_names(
        "_".join(["further", *parts[parts[:1] == ["further"] :]]) for parts in words
    )


def _by_row(found: Sequence[Sequence[Compared[Chart]]], alone: bool) -> Rows:
    """Pictures by task as a row for each kind, or one row of those that share a panel."""
    if alone:
        return [[together(entries) for entries in found]]
    return list(zip(*found, strict=True))


def _panels(columns: int, rows: int, width: str) -> tuple[Figure, list[list[Axes]]]:
    """Make empty panels [rows][columns]; columns that do not fit go below, all rows of them."""
    from matplotlib.figure import Figure

    beside = min(columns, COLUMNS[width])
    lines = math.ceil(columns / beside)
    size = (WIDTHS[width], 0.55 + ROW_HEIGHT * rows * lines + (0.4 if beside < 2 else 0))
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(rows * lines, beside, squeeze=False)
    for empty in grid[-rows:, columns - (lines - 1) * beside :].flat:
        empty.remove()
    return figure, [
        [grid[(c // beside) * rows + r][c % beside] for c in range(columns)] for r in range(rows)
    ]


def _share_names(figure: Figure, axes: Sequence[Axes]) -> None:
    """Name an axis once where all panels, or all of a row of them, have the same."""
    if len(names := {ax.get_xlabel() for ax in axes}) == 1:
        figure.supxlabel(names.pop(), fontsize=RC["axes.labelsize"])
        for ax in axes:
            ax.set_xlabel("")
    if len({ax.get_ylabel() for ax in axes}) == 1:
        for ax in axes:
            if (place := ax.get_subplotspec()) is not None and not place.is_first_col():
                ax.set_ylabel("")


def _wrapped(text: str) -> str:
    return "\n".join(textwrap.wrap(text, LONGEST_TITLE))
