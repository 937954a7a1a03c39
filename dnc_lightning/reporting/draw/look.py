"""How lines are told apart and matrices are shaded: one table for every backend."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from dnc_lightning.reporting.charts.values import Line, Matrix
from dnc_lightning.reporting.draw.axes import log_ticks, plain
from dnc_lightning.reporting.read.views import log_bounds
from dnc_lightning.reporting.theme import LOOKS, MARKERS, Theme

# Lengths of dashes and gaps in pixels.
DASHES: Mapping[str, tuple[int, ...]] = {
    "solid": (),
    "dash": (6, 4),
    "dot": (2, 3),
    "dashdot": (8, 3, 2, 3),
    "longdash": (14, 4),
    "dashdots": (5, 2, 1, 2, 1, 2),
}
OF_ROLE = {look.role: look.marker for look in LOOKS.values()}


def colour(line: Line, theme: Theme) -> str:
    """Return the colour of a line in a theme."""
    several = {"method": theme.methods, "task": theme.tasks}.get(line.role)
    return several[line.order % len(several)] if several else theme.role(line.role)


def dash(line: Line) -> tuple[int, ...]:
    """Return the lengths of a line's dashes and gaps, in pixels; empty for a solid one."""
    return method_dash(line.order) if line.role == "method" else DASHES[line.dash]


def method_dash(order: int) -> tuple[int, ...]:
    """Return the dash of the i-th method; a ninth has the colour of the first, not its dash."""
    return tuple(DASHES.values())[(order + order // len(MARKERS)) % len(DASHES)]


def symbol(line: Line) -> str:
    """Return the name of a line's marker, as plotly calls it."""
    if line.role in ("method", "task"):
        return MARKERS[line.order % len(MARKERS)]
    return line.marker or OF_ROLE.get(line.role, MARKERS[0])


def shades(chart: Matrix) -> tuple[NDArray[np.float64], float, float]:
    """Return what the colours of a matrix stand for, and its values at the ends of the ramp.

    Of a logarithmic scale these are logarithms to base 10; a zero has the colour of the low end.
    """
    values = np.array(chart.values, dtype=np.float64)
    if chart.scale == "log":
        low, high = chart.range or log_bounds(values)
        logs = np.log10(values, out=np.full(values.shape, math.nan), where=values > 0)
        return np.where(values == 0, low, logs), low, high
    finite = values[np.isfinite(values)]
    ends = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    low, high = chart.range or ends
    return values, low, high if high > low else low + 1


def shade_ticks(chart: Matrix, low: float, high: float) -> list[tuple[float, str]]:
    """Return places between both ends of the ramp, and the values there as text."""
    if chart.scale == "log":
        return [(math.log10(tick), plain(tick)) for tick in log_ticks(low, high)]
    decade = 10.0 ** math.floor(math.log10(high - low))
    step = next(step for k in (0.2, 0.5, 1, 2) if (high - low) / (step := k * decade) <= 5)
    counts = range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
    return [(count * step, f"{count * step:.3g}") for count in counts]
