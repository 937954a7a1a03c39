"""Where the variance of a pair of classes lies: on its decision axis, or beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dnc_lightning.records.store import Run
from dnc_lightning.reporting.compare.page import Method
from dnc_lightning.reporting.paper.style import COLUMNS, RC, panels, value_ticks
from dnc_lightning.reporting.read.views import View
from dnc_lightning.reporting.theme import LIGHT

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PARTS = ("on the axis", "top 1 beside", "top 10", "top 100", "all beside")
COLOURS = (LIGHT.directional_cdnv, "#0c2f5c", "#2f6fae", "#86b5dc", "#c6ddf0")
WIDTH = 0.16  # of a bar, where pairs are 1 apart


def variance_figure(methods: Sequence[Method], tasks: Sequence[str], width: str) -> Figure | None:
    """Draw the recorded pairs' variance in units of their squared distance, log scale.

    A group of bars is one pair at the last probe of a method's first run, a tick across a bar the
    value of the first probe for the same pair, if it was recorded then.

    Returns:
        The figure, or None if no run recorded a decomposition.
    """
    shown = [
        method
        for method in methods
        if any((v := method.view(t)) and _last(method.group.runs[0].run, v) for t in tasks)
    ]
    if not shown:
        return None
    figure, axes = panels(tasks, len(shown), width)
    for r, method in enumerate(shown):
        for c, task in enumerate(tasks):
            view = method.view(task)
            found = None if view is None else _last(method.group.runs[0].run, view)
            ax = axes[r][c]
            if view is None or found is None:
                ax.set_axis_off()
                continue
            _bars(ax, view, found, _first(method.group.runs[0].run, view))
            if c % COLUMNS[width] == 0:
                name = f"{method.label}\n" if len(shown) > 1 else ""
                ax.set_ylabel(f"{name}variance / distance²")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3 if width == "single" else 6)
    figure.supxlabel("pair of classes", fontsize=RC["axes.labelsize"])
    return figure


Parts = tuple[NDArray[np.float32], list[tuple[int, int]]]  # [P, 5] and the pairs [P]


def _bars(ax: Any, view: View, found: Parts, first: Parts | None) -> None:
    from matplotlib.patheffects import withStroke

    values, pairs = found
    before = {} if first is None else dict(zip(first[1], first[0], strict=True))
    for k, (part, colour) in enumerate(zip(PARTS, COLOURS, strict=True)):
        at = np.arange(len(pairs)) + (k - 2) * WIDTH
        ax.bar(at, values[:, k], WIDTH * 0.92, color=colour, label=part)
        then = [(x, before[pair][k]) for x, pair in zip(at, pairs, strict=True) if pair in before]
        if then:
            ax.plot(
                *zip(*then, strict=True),
                linestyle="none",
                marker="_",
                markersize=5,
                color=LIGHT.ink,
                path_effects=[withStroke(linewidth=2.4, foreground="white")],
                label="first probe" if k == 0 else None,
            )
    value_ticks(ax)
    ax.set_xlim(-0.6 - 0.4 * (len(pairs) < 2), len(pairs) - 0.4 + 0.4 * (len(pairs) < 2))
    names = view.classes
    labels = [f"{names[i]}\n{names[j]}" if max(i, j) < len(names) else "" for i, j in pairs]
    ax.set_xticks(range(len(pairs)), labels, fontsize=6)
    ax.grid(visible=False, axis="x")


def _last(run: Run, view: View) -> Parts | None:
    return next((p for record in run.records[::-1] if (p := _parts(run, view, record))), None)


def _first(run: Run, view: View) -> Parts | None:
    return next((p for record in run.records if (p := _parts(run, view, record))), None)


def _parts(run: Run, view: View, record: Any) -> Parts | None:
    stored = run.matrices(record)
    values = stored.get(f"{view.encoder}/{view.task}/variance")
    pairs = stored.get(f"{view.encoder}/{view.task}/variance_pairs")
    if values is None or pairs is None or values.shape != (len(pairs), len(PARTS)):
        return None
    return values, [(int(i), int(j)) for i, j in pairs]
