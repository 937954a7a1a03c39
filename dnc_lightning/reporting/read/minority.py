"""Whether the rare classes of a training set fall together: an alarm by evidence, not by a ratio.

Beyond which ratio of the counts a network loses its rare classes depends on its weight decay, so
the counts only say which classes are looked at. Three signs, any of which is enough at the last
probes, where it was not so before training: their means come much nearer than those of others;
more of their pairs than of frequent ones are not told apart, beyond the binomial spread; rows of
the head fall together or vanish. The numbers are those of the instrument "imbalance".
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from dnc_lightning.records.store import Record, Run
from dnc_lightning.reporting.read.views import View, views
from dnc_lightning.reporting.words import number_words

NEAR = 0.1
"""Squared distance of rare classes over that of all, below which they have come together."""

TOGETHER, GONE = 0.9, 0.2
"""Least cosine of two rows that have fallen together; length, over the median, of one that is
gone."""

STANDARD_ERRORS = 2.0
"""By which the share of rare pairs that are not told apart is above that of frequent ones."""

IN_A_ROW = 3
"""Probes at which it must hold."""


@dataclass(frozen=True)
class MinorityCollapse:
    """What one encoder does to the rare classes of one task."""

    encoder: str
    task: str
    since: int  # step of the first probe that showed it, to the last one
    evidence: str

    @property
    def words(self) -> str:
        """As one sentence."""
        return (
            f"{self.encoder}: minority collapse of task {self.task}, since step {self.since:,}: "
            f"{self.evidence}. Rare classes are not told apart any more: sample or weight classes "
            "evenly, lower the weight decay, or fix the head (FixedETFHead)."
        )


def minority_collapses(run: Run) -> list[MinorityCollapse]:
    """What is so at the last probes of a run, for each encoder and task."""
    return [one for view in views(run) if (one := _collapse(run, view)) is not None]


def _collapse(run: Run, view: View) -> MinorityCollapse | None:
    if not run.records:
        return None
    first, *later = run.records
    before = set(_signs(first, view))
    since, held = 0, 0
    now: dict[str, str] = {}
    for record in later:
        now = {sign: text for sign, text in _signs(record, view).items() if sign not in before}
        since, held = (since if held else record.step, held + 1) if now else (0, 0)
    if held < IN_A_ROW:
        return None
    return MinorityCollapse(view.encoder, view.task, since, "; ".join(now.values()))


def _signs(record: Record, view: View) -> dict[str, str]:
    """What speaks for it at one probe; comparisons with nan speak for nothing."""

    def value(key: str) -> float:
        return record.scalars.get(f"{view.prefix}/imbalance/{key}", math.nan)

    found = {}
    if (distance := value("minority_distance")) < NEAR:
        found["near"] = f"their means are {number_words(distance)} of the usual squared distance"
    if value("unresolved_excess") > STANDARD_ERRORS:
        rare, frequent = value("minority_unresolved"), value("majority_unresolved")
        found["unresolved"] = (
            f"{rare:.0%} of their pairs are not told apart, {frequent:.0%} of frequent ones"
        )
    if (cosine := value("head_cosine")) > TOGETHER:
        found["cosine"] = f"all cosines between their rows of the head are at least {cosine:.2f}"
    if (length := value("head_length")) < GONE:
        found["length"] = f"a row of the head is {number_words(length)} of the median's length"
    return found
