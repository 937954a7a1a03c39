"""Whether an encoder collapses along one task at the cost of the others: over-collapse.

A supervised classifier does: what does not help its task goes. Nothing is broken then, so this is
no alarm, but who wants to transfer should know. The rule has no threshold on errors: other tasks
must err more than before any training, beyond noise, while one task is collapsed; derived here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dnc_lightning.records.store import Record, Run
from dnc_lightning.reporting.read.views import View, views
from dnc_lightning.reporting.words import number_words

COLLAPSED = 0.5
"""Of the directional CDNV of the first probe: at most this much is left of the leading task's."""

NEAR_ITS_LEAST = 1.5
"""Of the least so far: the leading task has not turned back."""

STANDARD_ERRORS = 4.0
"""By which another task errs more than at the first probe."""

IN_A_ROW = 3
"""Probes at which all of it must hold."""


@dataclass(frozen=True)
class Narrowing:
    """One task of one encoder that collapses while others are lost."""

    encoder: str
    task: str  # that collapses
    lost: tuple[str, ...]  # tasks that err more than before training, most of the others
    since: int  # step of the first probe that showed it, to the last one
    evidence: str  # "shape 4.31 → 0.0077; error of colour 0.21 → 0.73"

    @property
    def words(self) -> str:
        """As one sentence."""
        return (
            f"{self.encoder}: over-collapse: task {self.task} is collapsed while "
            f"{', '.join(self.lost)} {'is' if len(self.lost) == 1 else 'are'} told apart worse "
            f"than before training, since step {self.since:,} ({self.evidence}). Features serve "
            f"{self.task} alone: transfer from an earlier checkpoint or an earlier layer."
        )


def narrowings(run: Run) -> list[Narrowing]:
    """What is so at the last probes of a run, each encoder once: the task that has collapsed most.

    Needs two tasks with measured errors; a run of fewer probes than `IN_A_ROW` + 1 has none.
    """
    found = []
    for encoder in dict.fromkeys(view.encoder for view in views(run)):
        tasks = [view for view in views(run) if view.encoder == encoder]
        candidates = [one for view in tasks if (one := _narrowing(run, view, tasks)) is not None]
        found += candidates[:1]
    return found


def _narrowing(run: Run, leading: View, tasks: Sequence[View]) -> Narrowing | None:
    others = [view for view in tasks if view is not leading]
    if not run.records or not others:
        return None
    first, *later = run.records
    lost: tuple[View, ...] = ()
    since, held, least = 0, 0, _directional(first, leading)
    for record in later:
        now = _directional(record, leading)
        least = now if now < least else least
        worse = tuple(view for view in others if _worse(first, record, view))
        collapsed = now <= COLLAPSED * _directional(first, leading)
        if collapsed and now <= NEAR_ITS_LEAST * least and 2 * len(worse) >= len(others):
            since, held, lost = (since, held + 1, worse) if held else (record.step, 1, worse)
        else:
            held = 0
    if held < IN_A_ROW:
        return None
    told = [
        f"{leading.task} {number_words(_directional(first, leading))} → "
        f"{number_words(_directional(later[-1], leading))} in directional CDNV",
        *(
            f"error of {view.task} {number_words(_error(first, view)[0])} → "
            f"{number_words(_error(later[-1], view)[0])}"
            for view in lost
        ),
    ]
    names = tuple(view.task for view in lost)
    return Narrowing(leading.encoder, leading.task, names, since, "; ".join(told))


def _directional(record: Record, view: View) -> float:
    """The median over pairs, nan where it was not recorded."""
    return record.scalars.get(f"{view.prefix}/directional_cdnv_median", math.nan)


def _worse(before: Record, now: Record, view: View) -> bool:
    (old, old_se), (new, new_se) = _error(before, view), _error(now, view)
    return new - old > STANDARD_ERRORS * math.hypot(old_se, new_se)


def _error(record: Record, view: View) -> tuple[float, float]:
    """Measured error of the middle number of shots, and its standard error; nan without."""
    start = f"{view.prefix}/few_shot_error/"
    shots = sorted(
        int(key.removeprefix(start))
        for key, value in record.scalars.items()
        if key.startswith(start) and math.isfinite(value)
    )
    if not shots:
        return math.nan, math.nan
    middle = shots[len(shots) // 2]
    error = record.scalars.get(f"{view.prefix}/few_shot_error_se/{middle}", math.nan)
    return record.scalars[f"{start}{middle}"], error
