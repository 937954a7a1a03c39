"""Pictures of series as neutral values, which `draw` turns into those of a plotting library."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dnc_lightning.reporting.compare.numbers import Band
from dnc_lightning.reporting.draw.axes import padded
from dnc_lightning.reporting.read.series import Further
from dnc_lightning.reporting.theme import LIGHT, MARKERS
from dnc_lightning.series import Scale, Series

STEPS_LABEL = "Optimizer steps"
SHOTS_LABEL = "Labelled samples per class, m"
DASHES = ("solid", "dash", "dot", "dashdot")
COLOURS = len(LIGHT.tasks)
MOST_SIDE = 120  # rows and columns of a matrix: more would be neither read nor quick to open
MARGIN = 0.06  # of an axis' height, above and below its values

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
    marker: str = "circle"  # one of `theme.MARKERS`
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


def chart_of(found: Further) -> Chart | Matrix:
    """Return the picture of one series of one run."""
    series = found.series
    if found.kind == "matrix":
        return Matrix(
            title=series.title,
            x=series.axes[1].capitalize(),
            y=series.axes[0].capitalize(),
            columns=found.names[1][:MOST_SIDE],
            rows=found.names[0][:MOST_SIDE],
            values=found.values[-1][:MOST_SIDE, :MOST_SIDE],
            scale=_scale(series, found.values),
            shown=_shown(found),
            role=series.role,
        )
    if found.kind == "curve":
        return _over_shots(found)
    columns = found.values.reshape(len(found.steps), -1).T
    names = found.names[0] if found.names else (series.title,)
    x = place_of(found.steps)
    lines = [
        task_line(name, x, tuple(column), k)
        if len(names) > 1
        else Line(name, x, tuple(column), series.role)
        for k, (name, column) in enumerate(zip(names, columns, strict=True))
    ]
    rules = []
    for name, value in found.references:
        if isinstance(value, float):
            rules.append(Rule(name, value))
        else:
            lines.append(Line(name, x, tuple(value), "reference", dash="dash"))
    return _chart(series, Axis(STEPS_LABEL, "steps"), lines, rules, found.labels)


def comparison_of(
    found: Further, title: str, bands: Sequence[Band], names: Sequence[str], rules: Sequence[Rule]
) -> Chart:
    """Return the picture of one series of several methods, over training or shots.

    Args:
        found: The series, of one of the runs.
        title: Of the picture.
        bands: One for each method over steps, or over shots at the last probe; may be empty.
        names: Of the methods.
        rules: Levels to compare with.
    """
    over_steps = found.kind != "curve"
    lines = [
        Line(
            name,
            tuple(x + over_steps for x in band.x),
            tuple(band.mean.tolist()),
            "method",
            index,
            low=tuple(band.low.tolist()),
            high=tuple(band.high.tolist()),
        )
        for index, (band, name) in enumerate(zip(bands, names, strict=True))
        if band.x
    ]
    steps = sorted({int(step) for band in bands for step in band.x})
    labels = tuple(f"step {step:,}" for step in steps) if over_steps else found.names[0]
    axis = Axis(STEPS_LABEL, "steps") if over_steps else _curve_axis(found)
    return _chart(replace(found.series, title=title), axis, lines, rules, labels)


def _over_shots(found: Further) -> Chart:
    """Lines over shots, or over another axis, at the first and the last probe."""
    x, axis = positions(found), _curve_axis(found)
    ends = [-1] if len(found.steps) == 1 else [0, -1]
    lines = [
        Line(
            f"At step {found.steps[at]:,}",
            x,
            tuple(found.values[at]),
            found.series.role if at else "reference",
            dash="solid" if at else "dot",
        )
        for at in ends
    ]
    rules = [Rule(name, value) for name, value in found.references if isinstance(value, float)]
    return _chart(found.series, axis, lines, rules, found.names[0])


def _shown(found: Further) -> str:
    size = " by ".join(f"{len(names):,}" for names in found.names)
    cut = any(len(names) > MOST_SIDE for names in found.names)
    part = f", the first {MOST_SIDE} of {size}" if cut else ""
    return f"At {found.labels[-1]}{part}."


def positions(found: Further) -> Values:
    """Return where the values of a curve lie: at their numbers where its names are such."""
    names = found.names[0]
    counted = all(name.isdigit() and int(name) > 0 for name in names)
    return tuple(map(float, names if counted else range(len(names))))


def _curve_axis(found: Further) -> Axis:
    axis = found.series.axes[0] if found.series.axes else "shots"
    label = SHOTS_LABEL if axis == "shots" else axis.capitalize()
    return Axis(label, "shots" if positions(found)[0] > 0 else "names")


def _chart(
    series: Series,
    x: Axis,
    lines: Sequence[Line],
    rules: Sequence[Rule],
    labels: tuple[str, ...],
) -> Chart:
    drawn = np.array([*_heights(lines), *(rule.value for rule in rules)], dtype=np.float64)
    scale = _scale(series, drawn)
    label = f"{series.title} ({series.unit})" if series.unit else series.title
    return Chart(
        title=series.title,
        x=x,
        y=Axis(label, scale, series.unit),
        lines=tuple(lines),
        rules=tuple(rules),
        labels=labels,
        range=_range(drawn, scale, series),
    )


def _heights(lines: Sequence[Line]) -> Iterator[float]:
    for line in lines:
        yield from line.y
        yield from line.low or ()
        yield from line.high or ()


def _scale(series: Series, values: NDArray[np.float64]) -> Scale:
    """The declared scale, unless nothing that there is has a place on it."""
    finite = values[np.isfinite(values)]
    return "linear" if finite.size and finite.max() <= 0 else series.scale


def _range(values: NDArray[np.float64], scale: Scale, series: Series) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    if scale == "log":
        return decades(finite)
    if not finite.size:
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    pad = MARGIN * (high - low) or MARGIN * abs(high) or 1.0
    # A declared end within reach is shown: how far there is to go says more than a tight axis.
    reach = 0.5 * (high - low) or abs(high)
    if series.low is not None and low - reach <= series.low <= low:
        low = series.low
    if series.high is not None and high <= series.high <= high + reach:
        high = series.high
    return low - pad, high + pad


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
