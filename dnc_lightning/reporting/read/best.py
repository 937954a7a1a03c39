"""Which probe each number calls the best, and how good that one is by the measured error."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dnc_lightning.records.declarations import declarations
from dnc_lightning.records.store import Run
from dnc_lightning.reporting.read.few_shot import FewShot, few_shot
from dnc_lightning.reporting.read.places import Place, expanded, places
from dnc_lightning.reporting.read.views import views
from dnc_lightning.reporting.words import number_words
from dnc_lightning.series import SHOTS, Series

LEAST_PROBES = 3
"""Numbers that fewer probes recorded, such as the first and the last, choose nothing."""

BEST_LEGEND = (
    "The step that each number calls the best, and the measured error there; green where that is "
    "as good as the least error of the run, up to two standard errors."
)

STANDARD_ERRORS = 2.0
"""Of the measured error: what lies closer to the least one is as good."""


@dataclass(frozen=True)
class Best:
    """The best probe by one number of one encoder and task, or of all tasks."""

    series: Series
    title: str
    place: Place
    task: str | None  # whose measured error is told
    step: int
    value: float
    probes: int  # that recorded the number
    error: float  # measured, with the middle number of shots; nan where it was not
    least: float  # measured error of the run
    worse: bool  # the error there is further above the least one than chance explains


def best(run: Run) -> list[Best]:
    """Find the best probe by every number that has a better direction, in their order.

    A number a shot is that of the middle one. What needs no labels is told for every task. A number
    that never changed chooses nothing.
    """
    errors = {
        (v.encoder, v.task): few_shot(run, v, max_probes=len(run.records)) for v in views(run)
    }
    found: list[Best] = []
    for series in declarations(run.header)[0]:
        if series.direction is None or series.axes or series.scope in ("probe", "tasks"):
            continue
        for place in places(run.header):
            if place.scope != series.scope:
                continue
            keys = list(expanded(series.key, place, run.header))
            key, title = place.prefix + keys[len(keys) // 2], series.title
            for (encoder, task), shown in errors.items():
                if encoder != place.encoder or place.task not in (None, task):
                    continue
                if SHOTS in series.key:
                    if shown is None or shown.middle < 0:
                        continue
                    shots = str(shown.shots[shown.middle])
                    key = place.prefix + series.key.replace(SHOTS, shots)
                    title = series.title.replace(SHOTS, shots)
                found += _of(run, series, title, place, task, key, shown)
    return found


@dataclass(frozen=True)
class Choices:
    """What the numbers of one encoder choose, a column a task."""

    encoder: str
    tasks: tuple[str, ...]
    rows: Mapping[str, Mapping[str, Best]]  # title -> task -> choice

    def words(self, title: str, task: str) -> str:
        """A choice in words: "step 64, error 0.12", or that of the least error itself."""
        choice = self.rows[title].get(task)
        if choice is None:
            return ""
        error = f", error {number_words(choice.error)}" if math.isfinite(choice.error) else ""
        return f"{choice.step:,}{error}"


def choices(run: Run) -> list[Choices]:
    """Gather what every encoder's numbers choose, the order of the declarations kept."""
    found: dict[str, dict[str, dict[str, Best]]] = {}
    for entry in best(run):
        encoder = found.setdefault(str(entry.place.encoder), {})
        encoder.setdefault(entry.title, {})[str(entry.task)] = entry
    return [
        Choices(encoder, tuple(dict.fromkeys(t for row in rows.values() for t in row)), rows)
        for encoder, rows in found.items()
    ]


def checkpoint_of(folder: Path, step: int) -> Path | None:
    """The checkpoint of a step in the `checkpoints` beside a run's records, if one is there."""
    return _checkpoints(folder).get(step)


def checkpoint_until(folder: Path, step: int) -> Path | None:
    """The latest checkpoint up to a step in the `checkpoints` beside a run's records."""
    found = _checkpoints(folder)
    return found[max(earlier)] if (earlier := [at for at in found if at <= step]) else None


def _checkpoints(folder: Path) -> dict[int, Path]:
    """Step -> file, of those whose names end with it, in the nearest folder that has any."""
    for above in list(folder.resolve().parents)[:3]:
        kept = above / "checkpoints"
        named = sorted(kept.glob("*.ckpt"), reverse=True) if kept.is_dir() else []
        told = ((re.search(r"step[-=](\d+)\.ckpt$", file.name), file) for file in named)
        if found := {int(match[1]): file for match, file in told if match}:
            return found
    return {}


def _of(
    run: Run, series: Series, title: str, place: Place, task: str, key: str, shown: FewShot | None
) -> Iterator[Best]:
    steps, values = run.series(key)
    finite = np.isfinite(values)
    if finite.sum() < LEAST_PROBES or values[finite].min() == values[finite].max():
        return
    steps, values = steps[finite], values[finite]
    at = int(values.argmin() if series.direction == "lower" else values.argmax())
    step = int(steps[at])
    error, least, worse = _error(shown, step)
    yield Best(
        series, title, place, task, step, float(values[at]), int(finite.sum()), error, least, worse
    )


def _error(shown: FewShot | None, step: int) -> tuple[float, float, bool]:
    """The measured error at a step, the least one, and whether they differ."""
    if shown is None or shown.middle < 0:
        return math.nan, math.nan, False
    errors = shown.values["few_shot_error"][:, shown.middle]
    spread = shown.error_se[:, shown.middle]
    there = np.flatnonzero(shown.steps == step)
    if not there.size or not np.isfinite(errors).any():
        return math.nan, math.nan, False
    here, least = int(there[0]), int(np.nanargmin(errors))
    # Of two means with errors of their own.
    noise = STANDARD_ERRORS * math.hypot(spread[here], spread[least])
    return float(errors[here]), float(errors[least]), bool(errors[here] - errors[least] > noise)
