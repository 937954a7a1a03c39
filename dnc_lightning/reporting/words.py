"""Numbers in words, for the page and the terminal alike."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dnc_lightning.series import Direction, Scale

NONE = "\N{EN DASH}"
SMALL, LARGE = 1e-4, 1e6  # outside, numbers have exponents


@dataclass(frozen=True)
class Change:
    """How a number moved from its first probe to its last."""

    text: str  # "↓ 4.20x", "↑ 0.220", "unchanged"; empty where one of both is undefined
    better: bool | None  # None where neither direction is, or it did not move


def in_digits(value: float, digits: int = 3, unit: str = "") -> str:
    """Return a value with so many significant digits, and its unit; a dash where undefined.

    Example:
        >>> in_digits(0.03711), in_digits(12345.6), in_digits(9.9996), in_digits(2e-7, 2, "s")
        ('0.0371', '12,346', '10.0', '2.0e-07 s')
    """
    if not math.isfinite(value):
        return NONE
    size = abs(float(f"{value:.{digits - 1}e}"))
    if size and not SMALL <= size < LARGE:
        text = f"{value:.{digits - 1}e}"
    elif size:
        text = f"{value:,.{max(0, digits - 1 - math.floor(math.log10(size)))}f}"
    else:
        text = "0"
    return text + (unit if unit == "%" else f" {unit}" if unit else "")


def change(first: float, last: float, direction: Direction | None, scale: Scale) -> Change:
    """Compare a number with what it was: by a factor on a logarithmic scale, else the difference.

    Args:
        first: At the first probe.
        last: At the last probe.
        direction: What is better.
        scale: Of its axis.
    """
    if not (math.isfinite(first) and math.isfinite(last)):
        return Change("", None)
    by_factor = scale == "log" and first > 0 and last > 0
    size = abs(math.log(last / first)) if by_factor else abs(last - first) / max(1e-300, abs(first))
    if size < 0.005 and not (first == 0 != last):
        return Change("unchanged", None)
    arrow = "↑" if last > first else "↓"
    moved = (
        f"{in_digits(math.exp(size))}\N{MULTIPLICATION SIGN}"
        if by_factor
        else in_digits(abs(last - first))
    )
    better = None if direction is None else (last > first) == (direction == "higher")
    return Change(f"{arrow} {moved}", better)
