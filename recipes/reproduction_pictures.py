"""The pictures of docs/reproduction.md."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import geometric_mean
from typing import Any

from matplotlib.figure import Figure

from recipes.outcome import METHODS, Outcome

GREY, BLUE, ORANGE = "#7f7f7f", "#0072b2", "#d55e00"


def draw_collapse(outcomes: Sequence[Outcome], path: Path) -> None:
    """Draw CDNV and directional CDNV over training, one panel per method.

    Thin lines are tasks, thick ones their geometric mean.
    """
    figure, panels = _panels(len(outcomes))
    for panel, outcome in zip(panels, outcomes, strict=True):
        for quantity, colour, name in (
            ("cdnv", GREY, "CDNV"),
            ("directional_cdnv", BLUE, "directional CDNV"),
        ):
            curves = [
                outcome.run.series(f"{outcome.prefix}{task}/{quantity}_median")
                for task in outcome.tasks
            ]
            for steps, values in curves if len(curves) > 1 else []:
                panel.plot(steps, values, color=colour, alpha=0.3, linewidth=0.8)
            values = zip(*(values.tolist() for _, values in curves), strict=True)
            middle = [geometric_mean(each) for each in values]
            panel.plot(curves[0][0], middle, color=colour, linewidth=2, label=name)
        panel.set_title(METHODS[outcome.method])
    _finish(figure, panels, "median over pairs", path)


def draw_angles(outcomes: Sequence[Outcome], path: Path) -> None:
    """Draw |cos| between tasks over training, with bound and floor, one panel per pair of tasks."""
    figure, panels = _panels(len(outcomes[0].cosines))
    for panel, pair in zip(panels, outcomes[0].cosines, strict=True):
        for outcome, colour in zip(outcomes, (BLUE, ORANGE), strict=False):
            key, name = f"{outcome.prefix}orthogonality/{pair}", METHODS[outcome.method]
            panel.plot(*outcome.run.series(f"{key}/abs_cos"), color=colour, label=name)
            bound = outcome.run.series(f"{key}/bound")
            panel.plot(*bound, color=colour, linestyle=":", label=f"{name}, bound")
        panel.axhline(
            outcomes[0].floor, color="black", linestyle="--", linewidth=0.8, label="by chance"
        )
        panel.set_title(pair.replace("-", " and "))
    _finish(figure, panels, "mean |cos|", path)


def _panels(count: int) -> tuple[Figure, list[Any]]:
    """Make panels in rows of three."""
    rows = math.ceil(count / 3)
    figure = Figure(figsize=(9, 0.5 + 2.5 * rows), layout="constrained")
    panels = figure.subplots(rows, min(3, count), sharex=True, sharey=True, squeeze=False).flatten()
    for empty in panels[count:]:
        empty.set_visible(False)
    return figure, list(panels[:count])


def _finish(figure: Figure, panels: list[Any], value: str, path: Path) -> None:
    last = max(line.get_xdata()[-1] for panel in panels for line in panel.lines)
    ticks = [0, *(10**k for k in range(6) if 10**k <= last)]
    for panel in panels:
        panel.set_xscale("symlog", linthresh=1)
        panel.set_yscale("log")
        panel.set_xlim(0, last)
        panel.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        panel.grid(alpha=0.25, linewidth=0.5)
        panel.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("optimizer steps", fontsize=10)
    figure.supylabel(value, fontsize=10)
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=len(names), frameon=False)
    figure.savefig(path, dpi=120)
