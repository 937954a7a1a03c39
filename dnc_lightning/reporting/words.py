"""Numbers in words, for the page and the terminal alike."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dnc_lightning.series import Series

NONE = "\N{EN DASH}"
HYPHEN = "-"  # where room is short
SMALL, LARGE = 1e-4, 1e6  # outside, numbers have exponents
LEAST_CHANGE = 0.005  # of the first value


@dataclass(frozen=True)
class Change:
    """How a number moved from its first probe to its last."""

    text: str  # "↓ 4.20x", "↑ 0.220", "unchanged"; empty where one of both is undefined
    better: bool | None  # None where neither direction is, or it did not move


def in_digits(value: float, digits: int = 3, unit: str = "") -> str:
    """Return a value with so many significant digits, and its unit; a dash where undefined.

    Examples:
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


def number_words(value: float, digits: int = 3) -> str:
    """As `in_digits`, where room is short: with an exponent two at most, a hyphen if undefined."""
    if not math.isfinite(value):
        return HYPHEN
    exponent = value != 0 and not SMALL <= abs(value) < LARGE
    return in_digits(value, min(digits, 2) if exponent else digits)


def factor_words(factor: float) -> str:
    """Return how many times smaller a quantity became, or larger, where room is short.

    Examples:
        >>> factor_words(4.2), factor_words(0.5), factor_words(1.001), factor_words(math.nan)
        ('↓4.2x', '↑2.0x', 'same', '-')
    """
    if not math.isfinite(factor):
        return HYPHEN
    larger, arrow = (factor, "↓") if factor >= 1 else (1 / factor, "↑")
    if larger < 1 + LEAST_CHANGE:
        return "same"
    digits = 0 if larger >= 100 else 1 if larger >= 2 else 2
    return f"{arrow}{larger:,.{digits}f}x"


def measured_words(error: float, standard_error: float) -> str:
    """Return an error with as many decimals as its standard error needs, "0.205 ± 0.003"."""
    if not standard_error > 0:
        return f"{error:.3g}"
    decimals = min(5, max(3, math.ceil(-math.log10(standard_error))))
    return f"{error:.{decimals}f} ± {standard_error:.{decimals}f}"


def bound_words(bound: float) -> str:
    """Return a bound's three digits, or whole part, rounded up: it must stay true as printed."""
    if not 0 < bound < 100:
        return f"{math.ceil(bound - 1e-6):,}" if bound < 1e6 else f"{bound:.1e}"
    scale = 10.0 ** (2 - math.floor(math.log10(bound)))
    return f"{math.ceil(bound * scale - 1e-6) / scale:.3g}"


def sentence(text: str) -> str:
    """Return a text with a capital letter and a full stop."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def change(first: float, last: float, series: Series) -> Change:
    """Compare a number with what it was: by a factor on a logarithmic scale, else the difference.

    Args:
        first: At the first probe.
        last: At the last probe.
        series: The declaration: what is better, the scale, the digits.
    """
    if not (math.isfinite(first) and math.isfinite(last)):
        return Change("", None)
    if series.scale == "log" and first > 0 and last > 0:
        factor = max(first, last) / min(first, last)
        size, moved = factor - 1, f"{in_digits(factor)}\N{MULTIPLICATION SIGN}"
    else:
        difference = abs(last - first)
        size, moved = difference / max(1e-300, abs(first)), in_digits(difference, series.digits)
    if size < LEAST_CHANGE:
        return Change("unchanged", None)
    better = (last > first) == (series.direction == "higher")
    arrow = "↑" if last > first else "↓"
    return Change(f"{arrow} {moved}", None if series.direction is None else better)


def bound_digits(bound: float) -> str:
    """As `bound_words`, with all three digits, as numbers below each other have them.

    Examples:
        >>> bound_digits(0.2401), bound_digits(1.0), bound_digits(5682.3), bound_digits(math.nan)
        ('0.241', '1.00', '5,683', '–')
    """
    if not (math.isfinite(bound) and bound < LARGE):
        return in_digits(bound)
    return bound_words(bound) if bound >= 100 else in_digits(float(bound_words(bound)))


def error_words(error: float, standard_error: float) -> str:
    """As `measured_words`, and a dash where the error is undefined."""
    return measured_words(error, standard_error) if math.isfinite(error) else NONE
