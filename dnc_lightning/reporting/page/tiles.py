"""The numbers that a page opens with, in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from dnc_lightning.records.store import Run
from dnc_lightning.reporting.read.few_shot import MEASURED, FewShot, LabelsNeeded
from dnc_lightning.reporting.read.views import METRICS, Curves, View
from dnc_lightning.reporting.theme import LOOKS
from dnc_lightning.reporting.words import (
    NONE,
    bound_digits,
    change,
    error_words,
    in_digits,
    number_words,
)
from dnc_lightning.series import Series

AVERAGE_NOTES = {
    "mean": "Plug-in values, averaged over all ordered pairs, as published: the worst pairs rule "
    "it.",
    "median": "Plug-in values, the middle one of all ordered pairs: the typical pair.",
    "unbiased": "Corrected for the finite probe set, averaged over the resolved pairs only.",
}
FALLING = Series("cdnv", "CDNV", "Variance.", "Collapse", direction="lower", scale="log")

Detail = Sequence[str | list[str]]
"""Text; what is emphasised is a list of it and the name of its style, which may be empty."""


def tile(title: str, value: str, detail: Detail, unit: str = "", key: str = "") -> dict[str, Any]:
    """Return a number with its title and what is said below it; `key` gives it its colour."""
    return {"title": title, "value": value, "unit": unit, "detail": detail, "key": key}


def collapse_tiles(run: Run, curves: Curves | None) -> list[dict[str, Any]]:
    """Return how far directional CDNV and CDNV fell."""
    tiles = []
    for metric in METRICS[::-1]:
        values = [math.nan] if curves is None else getattr(curves, metric)
        detail = ["not recorded"] if curves is None else _fallen(run, values[0], values[-1])
        tiles.append(tile(LOOKS[metric].title, in_digits(values[-1]), detail, key=metric))
    return tiles


def resolved_tile(run: Run, view: View) -> dict[str, Any]:
    """Return how many pairs of classes are told apart."""
    share = run.records[-1].scalars.get(f"{view.prefix}/resolved_pairs", math.nan)
    if not math.isfinite(share):
        return tile("Resolved pairs", NONE, ["not recorded"])
    pairs = len(view.classes) * (len(view.classes) - 1)
    words = f"of {pairs:,} ordered pairs have means that differ beyond sampling noise"
    return tile("Resolved pairs", f"{100 * share:.{0 if share == 1 else 1}f}", [words], "%")


def cost_tile(run: Run) -> dict[str, Any]:
    """Return what probing costs."""
    share, seconds = (_ending(run, name) for name in ("/overhead", "/seconds"))
    words = "of the wall time"
    if math.isfinite(seconds):
        words += f"; {seconds:.{2 if seconds < 10 else 0}f}\N{NO-BREAK SPACE}s for the latest probe"
    if not math.isfinite(share):
        return tile("Probe overhead", NONE, [words])
    return tile("Probe overhead", f"{100 * share:.2f}", [words], "%")


def few_shot_tiles(numbers: FewShot, column: int) -> list[dict[str, Any]]:
    """Return the error of one number of shots, and how many are certified to suffice."""
    return [_error_tile(numbers, column), _needed_tile(numbers)]


def _error_tile(numbers: FewShot, column: int) -> dict[str, Any]:
    shots = shots_words(numbers.shots[column])
    error, spread = numbers.values[MEASURED][-1, column], numbers.error_se[-1, column]
    certificate = numbers.values["certificate"][-1, column]
    detail: list[str | list[str]] = [] if math.isfinite(error) else ["not measured here; "]
    if not math.isfinite(certificate):
        detail.append("no certificate is defined")
    elif certificate >= 1:
        detail.append(f"its certificate says nothing yet at {shots}")
    else:
        detail += ["certified at most ", [bound_digits(certificate), ""]]
    if numbers.chance is not None:
        detail.append(f"; chance is {numbers.chance:.3g}")
    value, _, unit = error_words(error, spread).partition(" ")
    return tile(f"Few-shot error at {shots}", value, detail, unit, MEASURED)


def _needed_tile(numbers: FewShot) -> dict[str, Any]:
    if (found := numbers.labels_needed) is not None:
        title = f"Labels per class for {numbers.target:.3g} error"
        value, *detail = labels_words(found)
        return tile(title, value, ["; ".join(detail)], key=MEASURED)
    goal, needed = f"a certified error of at most {numbers.target:.3g}", numbers.needed[-1]
    if not numbers.asked:
        value, words = NONE, "not recorded"
    elif math.isfinite(needed):
        value, words = f"{needed:,.0f}", f"labelled samples per class, for {goal}"
    elif any(map(math.isfinite, numbers.values["certificate"][-1])):
        value, words = "none", f"no number of shots gives {goal} yet"
    else:
        value, words = NONE, "undefined at the latest probe"
    return tile("Shots needed", value, [words], key="certificate")


def labels_words(found: LabelsNeeded) -> list[str]:
    """Return the three answers, measured first, and what would make the guarantee speak."""
    low, high = number_words(found.measured_low), number_words(found.measured_high)
    words = [number_words(found.measured) if math.isfinite(found.measured) else "none"]
    if not math.isfinite(found.measured):
        words.append("measured: at no number of shots that was tried")
    elif math.isfinite(found.measured_high):
        words.append(f"measured, {low} to {high} with 95 %" if low != high else "measured")
    else:
        words.append(f"measured, from {low} with 95 %")
    words.append(f"guaranteed for new data: {_labels(found.guaranteed)}")
    if found.more_samples > 0:
        words[-1] += f", before about {found.more_samples:,.0f} more images a class in the probe"
    return [*words, f"certified for the probe set: {_labels(found.certified)}"]


def _labels(number: float) -> str:
    return f"{number:,.0f}" if math.isfinite(number) else "none"


def shots_words(m: int) -> str:
    """Return a number of shots, "1 shot", "1,000 shots"."""
    return f"{m:,} {'shot' if m == 1 else 'shots'}"


def _fallen(run: Run, start: float, now: float) -> Detail:
    if not math.isfinite(now):
        return ["undefined: no pair of classes can be told apart"]
    if len(run.records) < 2:
        return ["the first probe: nothing to compare with yet"]
    moved, first = change(start, now, FALLING), run.records[0]
    calibrated = ", BatchNorm calibrated" if first.uncalibrated else ""
    return [
        [moved.text or NONE, "down" if moved.better else ""],
        f" from {in_digits(start)} at step {first.step:,}{calibrated}",
    ]


def _ending(run: Run, ending: str) -> float:
    return next((v for k, v in run.records[-1].scalars.items() if k.endswith(ending)), math.nan)
