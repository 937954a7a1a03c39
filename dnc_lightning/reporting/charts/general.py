"""Pictures of any declared series: of one run, and of several methods side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from dnc_lightning.reporting.charts.values import (
    SHOTS_LABEL,
    STEPS_LABEL,
    Axis,
    Chart,
    Line,
    Matrix,
    Rule,
    Values,
    decades,
    place_of,
    task_line,
)
from dnc_lightning.reporting.compare.numbers import Band
from dnc_lightning.reporting.read.series import Further
from dnc_lightning.series import Scale, Series

MOST_SIDE = 120  # rows and columns of a matrix: more would be neither read nor quick to open
MARGIN = 0.06  # of an axis' height, above and below its values


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
    series: Series,
    bands: Sequence[Band],
    names: Sequence[str],
    rules: Sequence[Rule] = (),
    along: tuple[str, ...] = (),
) -> Chart:
    """Return the picture of one series of several methods, over training or shots.

    Methods that were probed once lie side by side.

    Args:
        series: Its declaration.
        bands: One for each method over steps, or over shots at the last probe; may be empty.
        names: Of the methods.
        rules: Levels to compare with.
        along: Names of the positions of a curve; empty for lines over training.
    """
    once = not along and all(len(band.x) < 2 for band in bands)
    lines = [
        Line(
            name,
            (float(index),) if once else tuple(x + (not along) for x in band.x),
            tuple(band.mean.tolist()),
            "method",
            index,
            low=tuple(band.low.tolist()),
            high=tuple(band.high.tolist()),
        )
        for index, (band, name) in enumerate(zip(bands, names, strict=True))
        if band.x
    ]
    if along:
        axis = _curve_axis(series, along)
        if axis.scale == "shots":  # of all methods
            places = {*map(float, along), *(place for line in lines for place in line.x)}
            along = tuple(f"{place:.0f}" for place in sorted(places))
        return _chart(series, axis, lines, rules, along)
    if once:
        return _chart(series, Axis("", "names"), lines, rules, tuple(names))
    steps = sorted({int(step) for band in bands for step in band.x})
    labels = tuple(f"step {step:,}" for step in steps)
    return _chart(series, Axis(STEPS_LABEL, "steps"), lines, rules, labels)


def _over_shots(found: Further) -> Chart:
    """Lines over shots, or over another axis, at the first and the last probe."""
    x, axis = positions(found.names[0]), _curve_axis(found.series, found.names[0])
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


def positions(names: Sequence[str]) -> Values:
    """Return where the values of a curve lie: at their numbers where its names are such."""
    counted = all(name.isdigit() and int(name) > 0 for name in names)
    return tuple(map(float, names if counted else range(len(names))))


def _curve_axis(series: Series, names: Sequence[str]) -> Axis:
    axis = series.axes[0] if series.axes else "shots"
    label = SHOTS_LABEL if axis == "shots" else axis.capitalize()
    return Axis(label, "shots" if positions(names)[0] > 0 else "names")


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
