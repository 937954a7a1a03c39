"""The table of a comparison in words: a page picks columns, hides rows and marks the best."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from dnc_lightning.reporting.compare.numbers import (
    Fall,
    Numbers,
    geometric_mean,
    numbers,
    overhead,
    plain_mean,
)
from dnc_lightning.reporting.compare_runs import Method
from dnc_lightning.reporting.read.declared import declared
from dnc_lightning.reporting.read.views import METRICS
from dnc_lightning.reporting.theme import Metric
from dnc_lightning.reporting.words import NONE, bound_words, in_digits
from dnc_lightning.series import SHOTS

Row = list[Numbers] | None
"""The seeds of a method; None where it has not the task."""

Cell = tuple[str, float, str]
"""Text, the value to compare by, and what stands below."""

LOWEST, NEITHER, HIGHEST = 1, 0, -1


def rows_of(methods: Sequence[Method], task: str, average: str) -> list[Row]:
    """Return the numbers of every method's seeds, by a way of averaging over the pairs."""
    return [
        None if (view := m.view(task)) is None else [numbers(n.run, view, average) for n in m.runs]
        for m in methods
    ]


def metric_columns(methods: Sequence[Method], rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return what depends on how pairs are averaged: both metrics, their falls, the ratio.

    Of encoders that were probed once the metrics alone.
    """
    columns, once = [], all(method.once for method in methods)
    for metric in METRICS[::-1]:
        title = declared(methods[0].runs[0].run.header, metric).title
        columns.append(_column(title, LOWEST, rows, partial(_last if once else _span, metric)))
        columns += [] if once else [_column("Fall", HIGHEST, rows, partial(_fall, metric))]
    return columns if once else [*columns, _column("Ratio of falls", NEITHER, rows, _ratio)]


def shots_columns(
    methods: Sequence[Method], rows: Sequence[Row], shots: int
) -> list[dict[str, Any]]:
    """Return certificate and measured error for a number of shots."""
    columns = []
    for name, cell in (("certificate", _certificate), ("few_shot_error", _error)):
        title = declared(methods[0].runs[0].run.header, f"{name}/{SHOTS}").title
        title = f"{title}, m\u00a0=\u00a0{shots}"
        columns.append(_column(title, LOWEST, rows, partial(cell, shots)))
    return columns


def run_columns(methods: Sequence[Method], rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return what depends on neither: shots needed, and of training steps and overhead."""
    having = [seeds for seeds in rows if seeds is not None]
    columns = []
    if any(seed.shots for seeds in having for seed in seeds):
        target = having[0][0].target
        title = f"Shots for {target:.0%} error" if math.isfinite(target) else "Shots needed"
        columns = [_column(title, LOWEST, rows, _needed)]
    if all(method.once for method in methods):
        return columns
    steps, shares = [], []
    for method, seeds in zip(methods, rows, strict=True):
        last = max(named.run.records[-1].step for named in method.runs)
        share = plain_mean([overhead(named.run) for named in method.runs])
        steps.append(None if seeds is None else [f"{last:,}"])
        shares.append(None if seeds is None else [f"{share:.2%}" if math.isfinite(share) else NONE])
    return [
        *columns,
        {"title": "Steps", "best": NEITHER, "cells": steps},
        {"title": "Overhead", "best": NEITHER, "cells": shares},
    ]


def _column(
    title: str, best: int, rows: Sequence[Row], cell: Callable[[list[Numbers]], Cell]
) -> dict[str, Any]:
    cells = [None if seeds is None else _plain(*cell(seeds)) for seeds in rows]
    return {"title": title, "best": best, "cells": cells}


def _plain(text: str, value: float, below: str) -> list[str | float | None]:
    return [text, float(f"{value:.6g}") if math.isfinite(value) else None, below]


def _span(metric: Metric, seeds: list[Numbers]) -> Cell:
    falls: list[Fall] = [getattr(seed, metric) for seed in seeds]
    first, last = (geometric_mean([getattr(f, end) for f in falls]) for end in ("first", "last"))
    return f"{in_digits(first)} → {in_digits(last)}", last, ""


def _last(metric: Metric, seeds: list[Numbers]) -> Cell:
    last = geometric_mean([getattr(seed, metric).last for seed in seeds])
    return in_digits(last), last, ""


def _fall(metric: Metric, seeds: list[Numbers]) -> Cell:
    factors = [f for seed in seeds if math.isfinite(f := getattr(seed, metric).factor)]
    factor = geometric_mean(factors)
    ends = f"{in_digits(min(factors))} to {in_digits(max(factors))}" if len(factors) > 1 else ""
    words = f"↓ {_times(factor)}" if not factor < 1 else f"↑ {_times(1 / factor)}"
    return words if factors else NONE, factor, ends


def _ratio(seeds: list[Numbers]) -> Cell:
    ratio = geometric_mean([seed.ratio for seed in seeds])
    return _times(ratio), ratio, ""


def _times(factor: float) -> str:
    return in_digits(factor) + ("\N{MULTIPLICATION SIGN}" if math.isfinite(factor) else "")


def _certificate(shots: int, seeds: list[Numbers]) -> Cell:
    value = _mean_at(seeds, "certificate", shots)
    words = bound_words(value) if math.isfinite(value) else NONE
    return words, value if value < 1 else math.nan, ""  # one that says nothing is not the best


def _error(shots: int, seeds: list[Numbers]) -> Cell:
    value = _mean_at(seeds, "error", shots)
    return in_digits(value), value, ""


def _needed(seeds: list[Numbers]) -> Cell:
    enough = [seed.needed for seed in seeds if math.isfinite(seed.needed)]
    mean = plain_mean(enough)
    some = f"{len(enough)} of {len(seeds)} seeds" if 0 < len(enough) < len(seeds) else ""
    return f"{mean:,.0f}" if enough else NONE, mean, some


def _mean_at(seeds: list[Numbers], table: str, shots: int) -> float:
    held = [seed for seed in seeds if shots in seed.shots]
    return plain_mean([float(getattr(s, table)[s.shots.index(shots)]) for s in held])
