"""Bars as neutral values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dnc_lightning.reporting.charts.values import Values


@dataclass(frozen=True)
class Bar:
    """One part of each stacked bar."""

    name: str
    values: Values  # [rows]
    words: tuple[str, ...]  # [rows], said beside each value
    role: str
    shade: int | None = None  # a place in the role's ramp instead of its colour


@dataclass(frozen=True)
class Bars:
    """Horizontal bars of stacked parts."""

    x: str  # what their length is
    rows: tuple[tuple[str, ...], ...]  # lines of the name of each bar, the first a heading
    parts: tuple[Bar, ...]


@dataclass(frozen=True)
class GroupedBars:
    """Groups of bars, each of some parts, on a logarithmic axis, and what they once were."""

    title: str
    x: str
    y: str
    groups: tuple[str, ...]  # [G]
    parts: tuple[str, ...]  # [P]
    values: NDArray[np.float64]  # [G, P]
    before: NDArray[np.float64]  # [G, P] at the first probe, nan where unknown

    @property
    def empty(self) -> bool:
        """Whether no bar has a height."""
        return not np.isfinite(self.values).any()
