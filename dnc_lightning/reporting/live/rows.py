"""What the overview says of a run, in one line."""

from __future__ import annotations

import math
from typing import Any

from dnc_lightning.records.store import Run
from dnc_lightning.reporting.compare.numbers import (
    Fall,
    Numbers,
    geometric_mean,
    numbers,
    plain_mean,
)
from dnc_lightning.reporting.read.alarm import alarm_words
from dnc_lightning.reporting.read.findings import findings
from dnc_lightning.reporting.read.views import AVERAGES, View, moment, views
from dnc_lightning.reporting.words import factor_words, in_digits, measured_words

MOST_POINTS = 120  # of the small curve


def row(run: Run) -> dict[str, Any]:
    """Return the numbers of a run's first encoder over all its tasks, as plain JSON values."""
    model = str(run.header.get("model") or "Run")
    if not run.records:
        return {"model": model, "probes": 0, "latest": "No probe yet"}
    once, seen = len(run.records) == 1, views(run)
    mine = [view for view in seen if view.encoder == seen[0].encoder] if seen else []
    found = [numbers(run, view, _average(run, view)) for view in mine]
    return {
        "model": model,
        "probes": len(run.records),
        "latest": moment(run.records[-1]),
        "encoder": mine[0].encoder if mine else "",
        "encoders": len({view.encoder for view in seen}),
        "tasks": [view.task for view in mine],
        "directional": _fall([n.directional_cdnv for n in found], once=once),
        "cdnv": _fall([n.cdnv for n in found], once=once),
        "error": _error(found),
        "curve": _curve(run, mine),
        "alarms": alarm_words(run),
        "cautions": findings(run),
    }


def _average(run: Run, view: View) -> str:
    """The median, which no single pair rules, where the run has it."""
    key = f"{view.prefix}/directional_cdnv_median"
    return "median" if key in run.records[-1].scalars else "mean"


def _fall(falls: list[Fall], *, once: bool) -> dict[str, str]:
    now = geometric_mean([fall.last for fall in falls])
    factor = geometric_mean([fall.factor for fall in falls])
    moved = not once and math.isfinite(factor)
    return {"now": in_digits(now), "change": factor_words(factor) if moved else ""}


def _error(found: list[Numbers]) -> dict[str, str]:
    held = [n for n in found if n.middle >= 0]
    if not held:
        return {"now": in_digits(math.nan), "change": ""}
    shots = held[0].shots[held[0].middle]
    same = [n for n in held if n.shots[n.middle] == shots]
    values = [float(n.error[n.middle]) for n in same]
    alone = float(same[0].error_se[same[0].middle]) if len(same) == 1 else math.nan
    mean = plain_mean(values)
    words = measured_words(mean, alone) if math.isfinite(mean) else in_digits(mean)
    return {"now": words, "change": f"{shots:,} labels"}


def _curve(run: Run, seen: list[View]) -> list[float]:
    """Logarithms of directional CDNV at probes spread over the run; none where it has no value."""
    keys = [f"{v.prefix}/directional_cdnv{AVERAGES[_average(run, v)]}" for v in seen]
    values = [
        geometric_mean([record.scalars.get(key, math.nan) for key in keys])
        for record in run.records
    ]
    finite = [math.log10(value) for value in values if math.isfinite(value)]
    every = max(1, math.ceil(len(finite) / MOST_POINTS))
    return [round(value, 3) for value in finite[::-1][::every][::-1]]
