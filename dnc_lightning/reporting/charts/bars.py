"""Stacked bars as neutral values."""

from __future__ import annotations

from dataclasses import dataclass

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
