"""What of a run looks like a collapse, and since when.

Ranks fall early in every healthy run, and no level of them is the same for two methods or
architectures. So every rule compares an encoder with its own past: a slow collapse with the most
that it had, a sudden one with the spread of its latest probes. A rule must hold at several probes
in a row, which the noise of one probe does not. Thresholds are derived here, from short runs of the
recipes: docs/measurements.md has what they catch, what they miss, and the command.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal

import numpy as np

from dnc_lightning.records.store import Run
from dnc_lightning.reporting.read.best import checkpoint_until
from dnc_lightning.reporting.read.facts import remarks
from dnc_lightning.reporting.read.places import Place, places
from dnc_lightning.reporting.words import number_words
from dnc_lightning.series import chance

ALARM = "Alarm: "
"""Begins a warning in a record that is the alarm of what no record shows."""

Kind = Literal["complete", "dimensional", "sudden", "not finite"]

RANKS_LEFT = 0.0115
"""Of a dimensional collapse: share of the greatest effective rank so far, times that of RankMe."""

SPREAD_LEFT = 0.1
"""Of a complete one: share of the least uniformity so far."""

ONE_LINE = 1.5
"""Effective rank up to which a dimensional collapse is a complete one: 1 is that of a line."""

INFORMED = 0.95
"""Of a complete one: measured error over that of guessing, above which nothing is told apart."""

IN_A_ROW: Mapping[Kind, int] = {"complete": 2, "dimensional": 3, "sudden": 2, "not finite": 2}
"""Probes that a rule must hold at."""

RECENT = 5
"""Earlier probes that a sudden change is compared with."""

SPREADS = 4.0
"""Of their changes: a sudden change is larger than this many."""

LEAST_CHANGE = {"effective_rank": 0.7, "rankme": 0.5, "error": 0.1, "directional_cdnv": 1.4}
"""And than this: log of a factor, or share of the error of guessing."""

LEAST_SIGNS = 2
"""Of these four, that must change at once."""


@dataclass(frozen=True)
class Signs:
    """What one probe says of one encoder's health; nan where it was not recorded."""

    step: int
    effective_rank: float
    rankme: float
    uniformity: float
    error: float  # measured, over that of guessing; mean over the tasks
    directional_cdnv: float  # geometric mean over the tasks

    @property
    def known(self) -> bool:
        """Whether the probe has any number."""
        return any(math.isfinite(value) for value in self._values())

    def _values(self) -> tuple[float, ...]:
        return (self.effective_rank, self.rankme, self.error, self.directional_cdnv)


@dataclass(frozen=True)
class Alarm:
    """One collapse of one encoder."""

    kind: Kind
    encoder: str
    step: int  # of the probe that raised it
    since: int  # step of the first probe that showed it
    healthy: int | None  # step of the last probe before; None where there is none
    evidence: str  # "effective rank 37 → 2.1"

    @property
    def told_by(self) -> tuple[Kind, ...]:
        """Kinds of earlier alarms of this encoder after which this one is no news."""
        return ("dimensional", "complete") if self.kind == "dimensional" else (self.kind,)

    @property
    def words(self) -> str:
        """The alarm as one sentence."""
        what = {
            "complete": "complete collapse: features are left with one line or point",
            "dimensional": "dimensional collapse: features are left with few of the dimensions "
            "that they had",
            "sudden": "sudden collapse: a change far outside those of the latest probes",
            "not finite": "no finite number is left: features are nan or infinite, or the probe "
            "fails",
        }[self.kind]
        evidence = f" ({self.evidence})" if self.evidence else ""
        before = "" if self.healthy is None else f"; last healthy probe: step {self.healthy:,}"
        return f"{self.encoder}: {what}, since step {self.since:,}{evidence}{before}."


def signs_of(
    scalars: Mapping[str, float], header: Mapping[str, Any], step: int
) -> dict[str, Signs]:
    """Read the signs of every encoder, in the header's order, from the numbers of one probe."""
    every = places(header)
    return {
        encoder: _signs(scalars, header, step, [p for p in every if p.encoder == encoder])
        for encoder in header.get("prefixes") or {}
    }


def judge(encoder: str, history: Sequence[Signs]) -> Alarm | None:
    """Say whether the latest of an encoder's probes completes the evidence of a collapse.

    Args:
        encoder: Its name.
        history: All probes so far, the latest last.

    Returns:
        The alarm of the gravest rule that holds, or None.
    """
    return _judge(encoder, history, _pasts(history), len(history) - 1)


def alarms(run: Run) -> list[Alarm]:
    """Every alarm that a run's probes raise, each kind of an encoder once."""
    histories: dict[str, list[Signs]] = {}
    for record in run.records:
        for encoder, signs in signs_of(record.scalars, run.header, record.step).items():
            histories.setdefault(encoder, []).append(signs)
    found: dict[tuple[str, Kind], Alarm] = {}
    for encoder, history in histories.items():
        pasts = _pasts(history)
        for at in range(len(history)):
            alarm = _judge(encoder, history, pasts, at)
            if alarm is not None and not any((encoder, kind) in found for kind in alarm.told_by):
                found[encoder, alarm.kind] = alarm
    return sorted(found.values(), key=lambda alarm: alarm.step)


@dataclass(frozen=True)
class _Past:
    """What is compared with of the probes before one; nan where none has it."""

    rank: float = math.nan  # greatest effective rank
    root: float = math.nan  # greatest RankMe
    uniformity: float = math.nan  # least
    error: float = math.nan  # least
    recent: tuple[Signs, ...] = ()

    def then(self, signs: Signs) -> _Past:
        """The same with one more probe."""
        return _Past(
            rank=_most(self.rank, signs.effective_rank),
            root=_most(self.root, signs.rankme),
            uniformity=-_most(-self.uniformity, -signs.uniformity),
            error=-_most(-self.error, -signs.error),
            recent=(*self.recent, signs)[-RECENT - 1 :],
        )


def _most(a: float, b: float) -> float:
    return b if math.isnan(a) or a < b else a


def _pasts(history: Sequence[Signs]) -> list[_Past]:
    """What lies before the first probe, the second, ... and after the last."""
    return list(accumulate(history, _Past.then, initial=_Past()))


def _judge(encoder: str, history: Sequence[Signs], pasts: Sequence[_Past], at: int) -> Alarm | None:
    rules: Mapping[Kind, Callable[[_Past, Signs], str | None]] = {
        "not finite": _not_finite,
        "complete": _complete,
        "sudden": _sudden,
        "dimensional": _dimensional,
    }
    for kind, rule in rules.items():
        # Each of the latest probes is compared with those before the first of them.
        first = at + 1 - IN_A_ROW[kind]
        if first < 1 or (evidence := rule(pasts[first], history[at])) is None:
            continue
        if all(rule(pasts[first], signs) is not None for signs in history[first:at]):
            since, healthy = history[first].step, history[first - 1].step
            return Alarm(kind, encoder, history[at].step, since, healthy, evidence)
    return None


def alarm_words(run: Run) -> list[str]:
    """All alarms of a run in words: those of its probes, and what was found between them."""
    told = (remark.text for remark in remarks(run.records, "warnings"))
    between = [text.removeprefix(ALARM) for text in told if text.startswith(ALARM)]
    return [*(_with_checkpoint(alarm, run) for alarm in alarms(run)), *between]


def _with_checkpoint(alarm: Alarm, run: Run) -> str:
    kept = None if alarm.healthy is None else checkpoint_until(run.folder, alarm.healthy)
    return f"{alarm.words} Last healthy checkpoint: {kept.name}." if kept else alarm.words


def _signs(
    scalars: Mapping[str, float], header: Mapping[str, Any], step: int, held: Sequence[Place]
) -> Signs:
    tasks = [place for place in held if place.scope == "task"]
    features = next((place.prefix for place in held if place.scope == "features"), "")
    directional = [_of(scalars, f"{place.prefix}directional_cdnv") for place in tasks]
    logs = [math.log(value) for value in directional if value > 0]
    errors = [error for place in tasks if math.isfinite(error := _error(scalars, header, place))]
    return Signs(
        step=step,
        effective_rank=_of(scalars, f"{features}effective_rank"),
        rankme=_of(scalars, f"{features}rankme"),
        uniformity=_of(scalars, f"{features}uniformity"),
        error=float(np.mean(errors)) if errors else math.nan,
        directional_cdnv=math.exp(float(np.mean(logs))) if logs else math.nan,
    )


def _of(scalars: Mapping[str, float], key: str) -> float:
    return scalars.get(key, math.nan)


def _error(scalars: Mapping[str, float], header: Mapping[str, Any], place: Place) -> float:
    """The measured error of the middle number of shots, over that of guessing."""
    measured = [
        value
        for m in sorted({int(m) for m in header.get("shots") or ()})
        if math.isfinite(value := _of(scalars, f"{place.prefix}few_shot_error/{m}"))
    ]
    classes = len((header.get("tasks") or {}).get(place.task) or ())
    guessing = chance(header.get("ways"), classes)
    return measured[len(measured) // 2] / guessing if measured and guessing else math.nan


def _not_finite(before: _Past, now: Signs) -> str | None:
    return "" if before.recent[-1].known and not now.known else None


def _complete(before: _Past, now: Signs) -> str | None:
    if now.effective_rank <= ONE_LINE and (words := _dimensional(before, now)):
        return words
    spread, least, measured = now.uniformity, before.uniformity, math.isfinite(before.error)
    if not (least < 0 and spread >= SPREAD_LEFT * least) or (
        measured and not now.error >= max(INFORMED, before.error)
    ):
        return None
    told = f", error {number_words(now.error)} of guessing's" if measured else ""
    return f"uniformity {number_words(least)} → {number_words(spread)}{told}"


def _dimensional(before: _Past, now: Signs) -> str | None:
    if now.effective_rank * now.rankme <= RANKS_LEFT * before.rank * before.root:
        return (
            f"effective rank {number_words(before.rank)} → {number_words(now.effective_rank)}, "
            f"RankMe {number_words(before.root)} → {number_words(now.rankme)}"
        )
    return None


def _sudden(before: _Past, now: Signs) -> str | None:
    if len(before.recent) < RECENT + 1:
        return None
    signs: dict[str, tuple[str, int, Callable[[float], float]]] = {
        "effective_rank": ("effective rank", -1, math.log),
        "rankme": ("RankMe", -1, math.log),
        "error": ("error over that of guessing", 1, float),
        "directional_cdnv": ("directional CDNV", 1, math.log),
    }
    told = []
    for name, (title, worse, scale) in signs.items():
        values = [getattr(s, name) for s in (*before.recent, now)]
        if not all(math.isfinite(value) and value > 0 for value in values):
            continue
        *past, latest = (worse * scale(value) for value in values)
        spread = float(np.abs(np.diff(past)).mean())
        if latest - max(past) > max(SPREADS * spread, LEAST_CHANGE[name]):
            told.append(f"{title} {number_words(values[-2])} → {number_words(values[-1])}")
    return ", ".join(told) if len(told) >= LEAST_SIGNS else None
