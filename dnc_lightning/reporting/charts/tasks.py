"""Several tasks: the angles between their axes, and their collapse side by side."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from dnc_lightning.reporting.charts.collapse import VARIANCE
from dnc_lightning.reporting.charts.values import (
    STEPS_LABEL,
    Axis,
    Chart,
    Line,
    Matrix,
    Rule,
    decades,
    place_of,
    task_line,
)
from dnc_lightning.reporting.read.tasks import TaskPairs
from dnc_lightning.reporting.theme import LOOKS, Metric

MOST_NUMBERS = 8  # tasks up to which the cells of the matrix hold their values
MOST_LOOKS = 16  # tasks up to which each has a line of its own look
LEAST_CEILING = 0.1  # of the colour scale: less would blow noise up into a picture
LEAST_COSINE = 1e-3  # the axis of |cos| reaches no further


def angle_matrix(numbers: TaskPairs, at: int = -1) -> Matrix:
    """Return mean |cos| of every two tasks at one probe, in colours that are those of all."""
    finite = numbers.abs_cos[np.isfinite(numbers.abs_cos)]
    ceiling = max(LEAST_CEILING, math.ceil(10 * float(finite.max(initial=0)) - 1e-9) / 10)
    side = len(numbers.tasks) - 1
    rows, columns = (np.array([pair[k] for pair in numbers.pairs]) for k in (1, 0))

    def table(values: NDArray[np.float64]) -> NDArray[np.float64]:
        made = np.full((side, side), np.nan)
        made[rows - 1, columns] = values
        return made

    return Matrix(
        title="Mean |cos|",
        x="",
        y="",
        columns=numbers.tasks[:-1],
        rows=numbers.tasks[1:],
        values=table(numbers.abs_cos[at]),
        scale="linear",
        range=(0.0, ceiling),
        between=" and ",
        numbers=len(numbers.tasks) <= MOST_NUMBERS,
        lower=True,
        more=(
            ("bound", table(numbers.bound[at])),
            ("largest", table(numbers.largest[at])),
            ("dependence of the labels", table(numbers.dependence)),
            ("random directions", table(np.full(len(numbers.pairs), numbers.floor))),
        ),
    )


def cosine_chart(numbers: TaskPairs, pair: int) -> Chart:
    """Return |cos| of two tasks and its bound over training, on one axis for all pairs."""
    x = place_of(numbers.steps)
    shown = np.array([*numbers.abs_cos.ravel(), numbers.floor, 0.5])
    return Chart(
        title=" and ".join(numbers.tasks[task] for task in numbers.pairs[pair]),
        x=Axis(STEPS_LABEL, "steps"),
        y=Axis("Mean |cos|", "log"),
        lines=(
            Line("Bound", x, tuple(numbers.bound[:, pair]), "bound", marker="square"),
            Line("Measured", x, tuple(numbers.abs_cos[:, pair]), "measured"),
        ),
        rules=(Rule("Random directions", numbers.floor),),
        labels=numbers.labels,
        range=(max(decades(shown)[0], math.log10(LEAST_COSINE)), 0.06),
    )


def task_charts(numbers: TaskPairs, average: str) -> tuple[Chart, Chart]:
    """Return CDNV and directional CDNV of all tasks over training, on one axis for all averages."""
    tables = [table.ravel() for found in numbers.curves.values() for table in found.values()]
    x = place_of(numbers.steps)

    def chart(metric: Metric) -> Chart:
        columns = numbers.curves[average][metric].T
        return Chart(
            title=LOOKS[metric].title,
            x=Axis(STEPS_LABEL, "steps"),
            y=VARIANCE,
            lines=tuple(
                task_line(name, x, tuple(columns[k]), k) for k, name in enumerate(numbers.tasks)
            ),
            labels=numbers.labels,
            range=decades(np.concatenate(tables)),
            crowd=len(numbers.tasks) > MOST_LOOKS,
        )

    return chart("cdnv"), chart("directional_cdnv")
