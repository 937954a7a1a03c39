"""The scalars of one task that are logged over training."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dnc_lightning.functional.bounds import few_shot_bound, shots_needed
from dnc_lightning.functional.collapse import (
    cdnv,
    directional_cdnv,
    pair_mean,
    pair_median,
    resolved_pairs,
)
from dnc_lightning.functional.geometry import ClassGeometry
from dnc_lightning.functional.intervals import Statistic
from dnc_lightning.functional.unbiased import debias

COLLAPSE_KEYS = (
    "cdnv",
    "directional_cdnv",
    "cdnv_median",
    "directional_cdnv_median",
    "cdnv_unbiased",
    "directional_cdnv_unbiased",
    "resolved_pairs",
)


def collapse_summary(geometry: ClassGeometry) -> dict[str, Tensor]:
    """Average the pairs of one task.

    Args:
        geometry: Plug-in moments.

    Returns:
        `COLLAPSE_KEYS` -> scalar: mean and median over pairs of the plug-in CDNV and directional
        CDNV, the mean of the unbiased ones over the resolved pairs, and the fraction of pairs
        that are resolved. nan where no pair is defined.
    """
    estimate = debias(geometry)
    plain, directional = cdnv(geometry), directional_cdnv(geometry)
    values = (
        pair_mean(plain),
        pair_mean(directional),
        pair_median(plain),
        pair_median(directional),
        pair_mean(cdnv(estimate)),
        pair_mean(directional_cdnv(estimate)),
        resolved_pairs(estimate),
    )
    return dict(zip(COLLAPSE_KEYS, values, strict=True))


TARGET_ERROR = 0.1
"""Error rate that `shots_needed` is logged for."""


def bound_summary(
    geometry: ClassGeometry, shots: Sequence[int], ways: int | None = None
) -> dict[str, Tensor]:
    """Bound the few-shot error of one task.

    Args:
        geometry: Plug-in moments.
        shots: Numbers of labelled samples per class.
        ways: Classes of an episode; None is all.

    Returns:
        "certificate/{m}", "theorem_4_1/{m}" and "luthra_2025/{m}" of every m, the latter two
        unclipped as in their papers' figures, and "shots_needed", the least m with a certificate
        of at most `TARGET_ERROR`, nan where no m suffices.
    """
    found = {}
    for m in shots:
        found[f"certificate/{m}"] = few_shot_bound(geometry, m, ways=ways)
        for kind in ("theorem_4_1", "luthra_2025"):
            found[f"{kind}/{m}"] = few_shot_bound(geometry, m, kind=kind, clip=False, ways=ways)
    needed = shots_needed(geometry, TARGET_ERROR, ways=ways)
    value = float("nan") if needed is None else float(needed)
    found["shots_needed"] = torch.tensor(value, device=geometry.variance.device)
    return found


def population_summary(
    shots: Sequence[int], ways: int | None = None
) -> tuple[list[str], Statistic]:
    """What intervals are given for: names, and the statistic that computes them.

    Args:
        shots: As in `bound_summary`.
        ways: As in `bound_summary`.

    Returns:
        K names with a place for the interval's end, and moments -> [K].
    """
    names = ["cdnv_{}", "directional_cdnv_{}", *(f"certificate_{{}}/{m}" for m in shots)]

    def statistic(geometry: ClassGeometry) -> Tensor:
        pairs = [pair_mean(cdnv(geometry)), pair_mean(directional_cdnv(geometry))]
        return torch.stack([*pairs, *(few_shot_bound(geometry, m, ways=ways) for m in shots)])

    return names, statistic
