"""The scalars of one task that are logged over training."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from dnc_lightning.functional._class_geometry import ClassGeometry
from dnc_lightning.functional.bounds import BoundKind, few_shot_bounds, shots_needed
from dnc_lightning.functional.collapse import (
    cdnv,
    directional_cdnv,
    pair_mean,
    pair_median,
    resolved_pairs,
)
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
        that are resolved. Pairs without a CDNV count as infinite, as those of identical means
        are: they make the plug-in means nan, and the medians where they are half of the pairs or
        more, for the rest alone looks better than the encoder is. So do pairs that fall on one
        point for the unbiased means, and those that are not resolved where they are half or more.
        Only pairs of classes without samples are left out.
    """
    estimate = debias(geometry)
    plain, directional = _ranked(geometry, cdnv), _ranked(geometry, directional_cdnv)
    values = (
        pair_mean(plain),
        pair_mean(directional),
        pair_median(plain),
        pair_median(directional),
        _resolved_mean(estimate, cdnv),
        _resolved_mean(estimate, directional_cdnv),
        resolved_pairs(estimate),
    )
    finite = (torch.where(value.isfinite(), value, torch.nan) for value in values)
    return dict(zip(COLLAPSE_KEYS, finite, strict=True))


def _ranked(geometry: ClassGeometry, number: Callable[[ClassGeometry], Tensor]) -> Tensor:
    """A number of all pairs [C, C], infinite where classes with samples have none."""
    present = geometry.count > 0
    value = number(geometry)
    return torch.where(present[:, None] & present & value.isnan(), torch.inf, value)


def _resolved_mean(estimate: ClassGeometry, number: Callable[[ClassGeometry], Tensor]) -> Tensor:
    """A number of the resolved pairs on average; nan where they cannot stand for all of them."""
    pairs, present = estimate.resolved, estimate.count > 0
    classes = present.sum()
    speaks = 2 * pairs.sum() > classes * (classes - 1)
    if estimate.coincident is not None:
        speaks &= ~estimate.coincident.any()
    return pair_mean(number(estimate)).where(speaks, torch.nan)


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
        unclipped as in their papers' figures, and so nan where two classes have the same mean, and
        "shots_needed", the least m with a certificate of at most `TARGET_ERROR`, nan where no m
        suffices. All are nan if a class has one sample: of its variance, and so of any other
        sample, nothing is known.
    """
    found: dict[str, Tensor] = {}
    classes = (geometry.count > 0).sum()
    apart = geometry.resolved.sum() == classes * (classes - 1)
    kinds: tuple[BoundKind, ...] = ("certificate", "theorem_4_1", "luthra_2025")
    for kind in kinds:
        values = few_shot_bounds(geometry, _rows(geometry, shots), kind, kind == kinds[0], ways)
        if kind != kinds[0]:  # not the 1 of a bound that is capped: it would be the best of all
            values = values.where(apart, torch.nan)
        found |= {f"{kind}/{m}": value for m, value in zip(shots, values, strict=True)}
    needed = shots_needed(geometry, TARGET_ERROR, ways=ways)
    value = float("nan") if needed is None else float(needed)
    found["shots_needed"] = torch.tensor(value, device=geometry.variance.device)
    single = (geometry.count == 1).any()
    return {name: value.where(~single, torch.nan) for name, value in found.items()}


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
        pairs = [_resolved_mean(geometry, number) for number in (cdnv, directional_cdnv)]
        bounds = few_shot_bounds(geometry, _rows(geometry, shots), "certificate", ways=ways)
        # The 1 of a bound that says nothing would be an interval without width.
        known = geometry.variance[geometry.count > 0].isfinite().all()
        bounds = bounds.where(known, torch.nan)
        return torch.cat([torch.stack(pairs), bounds])

    return names, statistic


def _rows(geometry: ClassGeometry, shots: Sequence[int]) -> Tensor:
    """The same number of shots for every class, [S, C]."""
    m = torch.tensor(shots, dtype=geometry.variance.dtype, device=geometry.variance.device)
    return m[:, None].expand(-1, geometry.num_classes)
