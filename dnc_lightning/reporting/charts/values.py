"""Pictures of series as neutral values, which `draw` turns into those of a plotting library."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dnc_lightning.reporting.draw.axes import padded
from dnc_lightning.reporting.theme import LIGHT, MARKERS
from dnc_lightning.series import Scale

STEPS_LABEL = "Optimizer steps"
SHOTS_LABEL = "Labelled samples per class, m"
DASHES = ("solid", "dash", "dot", "dashdot")
COLOURS = len(LIGHT.tasks)

Values = tuple[float, ...]  # nan where undefined


@dataclass(frozen=True)
class Axis:
    """One axis of a chart."""

    label: str
    scale: Literal["log", "linear", "steps", "shots", "names"]
    unit: str = ""
    squeeze: float = 1.0  # of an axis of error rates: values above 1 are drawn at this power


@dataclass(frozen=True)
class Line:
    """One line, with the band around it if it stands for several runs or is uncertain."""

    name: str
    x: Values
    y: Values
    role: str = "plain"  # of a series, or "reference", "task" or "method", which have an order
    order: int = 0
    dash: str = "solid"  # one of `DASHES`
    low: Values | None = None
    high: Values | None = None
    error: Values | None = None  # length of the bars, either way
    marker: str = ""  # one of `theme.MARKERS`; default that of its role
    words: tuple[str, ...] = ()  # of each point, for hovering; default its value


@dataclass(frozen=True)
class Points:
    """Hollow points beside the lines, each in the colour of a role."""

    name: str
    x: Values
    y: Values
    roles: tuple[str, ...]


@dataclass(frozen=True)
class Rule:
    """A level to compare with, from one side of the chart to the other."""

    name: str
    value: float


@dataclass(frozen=True)
class Chart:
    """Lines over training or over shots."""

    title: str
    x: Axis
    y: Axis
    lines: tuple[Line, ...]
    rules: tuple[Rule, ...] = ()
    labels: tuple[str, ...] = ()  # of the positions on an axis of steps or names
    range: tuple[float, float] = (0.0, 1.0)  # of the vertical axis; of a logarithmic one in decades
    points: tuple[Points, ...] = ()
    crowd: bool = False  # so many lines that none has a look and a legend of its own

    def place(self, value: float) -> float:
        """Return where a value is drawn on a plain axis; nan where it has no place.

        Of a logarithmic axis of error rates a zero lies on the lower end, and bounds above 1, which
        say nothing, may span many decades: they are drawn at value ** `squeeze`.
        """
        if self.y.scale != "log" or not math.isfinite(value):
            return value if math.isfinite(value) else math.nan
        if self.y.squeeze == 1:
            return value if value > 0 else math.nan
        if value > 1:
            return float(value**self.y.squeeze)
        return max(value, 10 ** self.range[0]) if value >= 0 else math.nan

    @property
    def empty(self) -> bool:
        """Whether no line has a value."""
        return not any(math.isfinite(value) for line in self.lines for value in line.y)


@dataclass(frozen=True)
class Matrix:
    """An array of two axes at one probe."""

    title: str
    x: str  # name of its second axis
    y: str  # name of its first axis
    columns: tuple[str, ...]
    rows: tuple[str, ...]
    values: NDArray[np.float64]  # [rows, columns], nan where undefined
    scale: Scale
    shown: str = ""  # the probe, and how much of the array, in words
    role: str = "plain"  # whose ramp it has
    range: tuple[float, float] | None = None  # of the colours, in decades of a logarithmic scale
    between: str = ", "  # the names of a row and of a column, in words
    numbers: bool = False  # whether the cells hold their values
    lower: bool = False  # a triangle: what is undefined is no cell
    more: tuple[tuple[str, NDArray[np.float64]], ...] = ()  # other numbers of a cell, for hovering

    @property
    def empty(self) -> bool:
        """Whether no entry is defined."""
        return not np.isfinite(self.values).any()


def decades(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return log10 of the ends of a logarithmic axis that holds what is positive of some values."""
    return padded(values[np.isfinite(values) & (values > 0)].tolist() or [0.1, 10.0])


def place_of(steps: NDArray[np.int64]) -> Values:
    """Return where steps lie on an axis: one further, so that the step 0 has a place."""
    return tuple((steps + 1.0).tolist())


def task_line(name: str, x: Values, y: Values, k: int) -> Line:
    """Return the k-th of the lines of several tasks, told apart by more than colour."""
    dash, marker = DASHES[k // COLOURS % len(DASHES)], MARKERS[k % len(MARKERS)]
    return Line(name, x, y, "task", k, dash, marker=marker)
