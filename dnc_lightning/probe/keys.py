"""Which keys a probe gives, known before it has measured anything."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import combinations
from typing import TYPE_CHECKING

from dnc_lightning.functional import COLLAPSE_KEYS
from dnc_lightning.functional.summary import population_summary

if TYPE_CHECKING:
    from dnc_lightning.probe.measure import Plan

JOINT_CLASSES = 32
"""Most classes of a task whose joint certificate a probe computes."""


def task_keys(plan: Plan, counts: Sequence[int], *, thorough: bool) -> list[str]:
    """Name what `measure` gives of one encoder and task, whatever the features are.

    Args:
        plan: What is computed. Of a further metric the name stands for keys that only its own
            `compute` knows.
        counts: [C] samples of each class, in the whole probe set.
        thorough: As in `measure`.

    Returns:
        Keys below the prefix.
    """
    keys: list[str] = []
    shots = plan.shots if plan.few_shot else ()
    if plan.collapse:
        keys += COLLAPSE_KEYS
    if plan.variance:
        keys += (f"axis_share/{pair}" for pair in ("best", "median", "worst"))
    if plan.few_shot:
        keys += (f"{k}/{m}" for k in ("certificate", "theorem_4_1", "luthra_2025") for m in shots)
        keys.append("shots_needed")
        for m in possible_shots(shots, counts):
            keys += (f"few_shot_error/{m}", f"few_shot_error_se/{m}")
        if thorough and len(counts) <= JOINT_CLASSES:
            keys += (f"joint/{m}" for m in shots)
    if thorough and (plan.collapse or plan.few_shot or plan.variance):
        names, _ = population_summary(shots, plan.ways)
        keys += (name.format(end) for name in names for end in ("low", "high"))
    return [*keys, *plan.metrics]


def across_keys(tasks: Collection[str]) -> list[str]:
    """Name what `measure_across` gives of one encoder; nothing for one task."""
    if len(tasks) < 2:
        return []
    parts = ("abs_cos", "abs_cos_max", "bound", "dependence")
    pairs = (f"{one}-{two}/{part}" for one, two in combinations(tasks, 2) for part in parts)
    return [*pairs, "floor"]


def possible_shots(shots: Sequence[int], counts: Sequence[int]) -> list[int]:
    """The numbers of shots that leave a query in every class."""
    return [m for m in shots if m < min(counts)]
