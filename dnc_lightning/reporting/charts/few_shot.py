"""Measured few-shot error against its bounds: by shots at one probe, and over training."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnc_lightning.reporting.charts.values import (
    SHOTS_LABEL,
    STEPS_LABEL,
    Axis,
    Chart,
    Line,
    Rule,
    Values,
    place_of,
)
from dnc_lightning.reporting.read.few_shot import (
    BOUNDS,
    GUARANTEE,
    MEASURED,
    SERIES,
    TRACKED,
    FewShot,
    Series,
)
from dnc_lightning.reporting.theme import LOOKS
from dnc_lightning.reporting.words import bound_digits, error_words

ErrorAxis = tuple[Axis, tuple[float, float]]

STANDARD_ERRORS = 2  # either way, of an error bar or band
AT_PROBE: tuple[Series, ...] = (*BOUNDS, MEASURED)  # what is measured lies in front
OVER_TRAINING = tuple(name for name in AT_PROBE if name in (*TRACKED, GUARANTEE))
LARGEST_VACUOUS = 0.45  # of an axis' height, for bounds above 1
LARGEST_SQUEEZE = 0.5
LEAST, MOST = 1e-5, 1e9  # an axis reaches no further
LEAST_HELD = 0.5  # every axis reaches down to here
FOOT, HEAD = 0.06, 0.1  # of an axis' height, left free; the note on the vacuous zone needs the head


def shots_charts(numbers: FewShot) -> list[Chart]:
    """Return error and bounds against shots at each probe, on one axis for all."""
    axis = error_axis(numbers, slice(None))
    return [_at_probe(numbers, at, axis) for at in range(len(numbers.steps))]


def _at_probe(numbers: FewShot, at: int, axis: ErrorAxis) -> Chart:
    x = tuple(map(float, numbers.shots))
    where = (at, slice(None))
    bars = tuple(STANDARD_ERRORS * np.nan_to_num(numbers.error_se[at]))
    lines = [
        _line(numbers, name, x, where, error=bars if name == MEASURED else None)
        for name in numbers.shown(AT_PROBE)
    ]
    return _chart(numbers, Axis(SHOTS_LABEL, "shots"), lines, axis)


def tightness_chart(numbers: FewShot, column: int) -> Chart:
    """Return error and bounds of one number of shots over training."""
    where = (slice(None), column)
    names, steps = numbers.shown(OVER_TRAINING), place_of(numbers.steps)
    lines = [_line(numbers, name, steps, where) for name in names]
    axis = error_axis(numbers, slice(column, column + 1))
    return _chart(numbers, Axis(STEPS_LABEL, "steps"), lines, axis)


def error_axis(numbers: FewShot, columns: slice) -> ErrorAxis:
    """Return an axis of error rates for all probes and some of the shots, and its range.

    Bounds above 1 take at most `LARGEST_VACUOUS` of it: see `Chart.place`.
    """
    drawn = np.concatenate([numbers.values[name][:, columns].ravel() for name in SERIES])
    drawn = drawn[np.isfinite(drawn) & (drawn > 0)]
    smallest, largest = (drawn.min(), drawn.max()) if drawn.size else (0.1, 1.0)
    below = -math.log10(np.clip(smallest, LEAST, LEAST_HELD))
    above = math.log10(np.clip(largest, 1.0, MOST))
    room = LARGEST_VACUOUS / (1 - LARGEST_VACUOUS) * below
    squeeze = min(LARGEST_SQUEEZE, room / above) if above else LARGEST_SQUEEZE
    height = below + squeeze * above
    reach = (-below - FOOT * height, squeeze * above + HEAD * height)
    return Axis("Error rate", "log", squeeze=squeeze), reach


def _line(
    numbers: FewShot, name: Series, x: Values, where: Any, error: Values | None = None
) -> Line:
    look, values = LOOKS[name], numbers.values[name][where]
    low: NDArray[np.float64] | None = None
    high: NDArray[np.float64] | None = None
    if name == MEASURED:
        spread = numbers.error_se[where]
        words = map(error_words, values, spread)
        if error is None:
            low, high = values - STANDARD_ERRORS * spread, values + STANDARD_ERRORS * spread
    else:
        words = map(bound_digits, values)
        if name == "certificate":
            low, high = numbers.low[where], numbers.high[where]
        if name == GUARANTEE:  # down to what was measured
            low, high = numbers.values[MEASURED][where], values
    return Line(
        look.title,
        x,
        tuple(values),
        look.role,
        dash=look.dash,
        low=None if low is None else tuple(low),
        high=None if high is None else tuple(high),
        error=error,
        marker=look.marker,
        words=tuple(words),
    )


def _chart(numbers: FewShot, x: Axis, lines: list[Line], axis: ErrorAxis) -> Chart:
    y, reach = axis
    return Chart(
        title="Few-shot error and its bounds",
        x=x,
        y=y,
        lines=tuple(lines),
        rules=() if numbers.chance is None else (Rule("Chance", numbers.chance),),
        labels=numbers.labels if x.scale == "steps" else (),
        range=reach,
    )
