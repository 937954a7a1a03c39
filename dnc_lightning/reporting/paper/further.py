"""Figures of the series that no special chart draws: for a paper, and of one probe for a logger."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dnc_lightning.records.store import Record, Run
from dnc_lightning.reporting.charts.values import Chart, Matrix, chart_of
from dnc_lightning.reporting.compare.further import Compared, by_group, compared, file_names
from dnc_lightning.reporting.compare_runs import Group
from dnc_lightning.reporting.draw.matplotlib import draw
from dnc_lightning.reporting.paper.style import panels
from dnc_lightning.reporting.read.series import further

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LONGEST_TITLE = 24  # characters beside which another panel has room


def further_papers(
    methods: Sequence[tuple[str, Group, str]], tasks: Sequence[str]
) -> dict[str, list[Compared]]:
    """Return what the figure of each group shows, by the name of its file.

    Args:
        methods: Label, runs and encoder of each line.
        tasks: Those to draw; what belongs to none is drawn with any.
    """
    found = [e for e in compared(methods) if e.task is None or e.task in tasks]
    if len(methods) == 1:
        found = [replace(entry, picture=_alone(entry)) for entry in found]
    groups = by_group(found)
    return dict(zip(file_names(list(groups)), groups.values(), strict=True))


def further_paper(shown: Sequence[Compared], width: str) -> Figure:
    """Draw the series of one group, a panel for each one and task."""
    several = len({entry.task for entry in shown if entry.task}) > 1
    titles = [f"{e.title}\n{e.task}" if several and e.task else e.title for e in shown]
    figure, axes = panels([_wrapped(title) for title in titles], 1, width)
    handles: dict[str, Any] = {}
    for ax, entry in zip(axes[0], shown, strict=True):
        draw(ax, entry.picture)
        if not isinstance(entry.picture, Matrix):
            handles |= dict(zip(*ax.get_legend_handles_labels()[::-1], strict=True))
    if len(handles) > 1:
        figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=3)
    return figure


def further_pictures(run: Run, matrices: Mapping[str, NDArray[np.floating]]) -> dict[str, Figure]:
    """Draw the arrays and the curves over shots of one probe.

    Args:
        run: Header and a single record.
        matrices: What is recorded beside it, "{encoder}/{task}/{key}" -> array.

    Returns:
        "{prefix}/charts/{key}" -> figure.
    """
    from matplotlib.figure import Figure

    def read(_: Record, key: str) -> NDArray[np.float32] | None:
        return np.asarray(matrices[key], dtype=np.float32) if key in matrices else None

    drawn = {}
    for found in further(run, read_matrix=read):
        if found.kind not in ("curve", "matrix"):
            continue
        figure = Figure(figsize=(5.4, 3.8), dpi=96, layout="constrained")
        ax = figure.add_subplot()
        draw(ax, chart_of(found))
        ax.set_title(found.series.title)
        key = found.series.key.replace("/{m}", "").replace("{m}", "")
        drawn[f"{found.place.prefix}charts/{key}"] = figure
    return drawn


def _alone(entry: Compared) -> Chart | Matrix:
    """The picture of one method, whose lines look as their series does."""
    if isinstance(entry.picture, Matrix):
        return entry.picture
    lines = (replace(line, role=entry.series.role) for line in entry.picture.lines)
    return replace(entry.picture, lines=tuple(lines))


def _wrapped(title: str) -> str:
    parts = (textwrap.wrap(part, LONGEST_TITLE) for part in title.split("\n"))
    return "\n".join(line for lines in parts for line in lines)
