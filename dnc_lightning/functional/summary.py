"""The scalars of one task that are logged over training."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from dnc_lightning.functional._class_geometry import ClassGeometry
from dnc_lightning.functional._pairs import Number, PairRows, PairSums, PairTerm, all_pairs
from dnc_lightning.functional.bounds import (
    BoundKind,
    bound_rows,
    check_ways,
    few_shot_bounds,
    shots_needed,
)
from dnc_lightning.functional.collapse import (
    cdnv_rows,
    directional_cdnv_rows,
    pair_mean,
    pair_median,
)
from dnc_lightning.functional.unbiased import debiased_rows

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
    averages = []
    for number in (cdnv_rows, directional_cdnv_rows):
        values = all_pairs(geometry, partial(_ranked, number=number))
        averages.append((pair_mean(values), pair_median(values)))
    (mean, median), (directional_mean, directional_median) = averages
    terms = [_resolved_mean(number) for number in (cdnv_rows, directional_cdnv_rows)]
    sums = PairSums.of(debiased_rows(geometry), [term.number for term in terms])
    unbiased = [term.combine(total, sums) for term, total in zip(terms, sums.totals, strict=True)]
    classes = geometry.num_classes
    found = (
        mean,
        directional_mean,
        median,
        directional_median,
        *unbiased,
        sums.defined.sum() / (classes * (classes - 1)),
    )
    finite = (torch.where(value.isfinite(), value, torch.nan) for value in found)
    return dict(zip(COLLAPSE_KEYS, finite, strict=True))


def _ranked(pairs: PairRows, number: Number) -> Tensor:
    """A number of some rows [b, C], infinite where two classes with samples have none."""
    value = number(pairs)
    return torch.where(pairs.present & value.isnan(), torch.inf, value)


def _resolved_mean(number: Number) -> PairTerm:
    """A number of the resolved pairs on average; nan where they cannot stand for all of them."""

    def combine(totals: Tensor, sums: PairSums) -> Tensor:
        classes = sums.present.sum()
        speaks = (2 * sums.resolved.sum() > classes * (classes - 1)) & ~sums.coincident.any()
        return (totals.sum() / sums.defined.sum()).where(speaks, torch.nan)

    return PairTerm(number, combine)


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
) -> tuple[list[str], list[PairTerm]]:
    """What intervals are given for: names, and the statistics.

    Args:
        shots: As in `bound_summary`.
        ways: As in `bound_summary`.

    Returns:
        K names with a place for the interval's end, and K statistics.
    """
    names = ["cdnv_{}", "directional_cdnv_{}", *(f"certificate_{{}}/{m}" for m in shots)]
    terms = [_resolved_mean(number) for number in (cdnv_rows, directional_cdnv_rows)]
    return names, terms + [_certificate(m, ways) for m in shots]


def _certificate(shots: int, ways: int | None) -> PairTerm:
    """The certificate for one number of shots; nan where a class's variance is not known."""

    def number(pairs: PairRows) -> Tensor:
        return bound_rows(pairs, torch.full_like(pairs.variance, shots), "certificate")

    def combine(totals: Tensor, sums: PairSums) -> Tensor:
        classes = int(sums.present.sum())
        rivals = (classes if ways is None else check_ways(ways, classes)) - 1
        per_class = (totals * (rivals / max(1, classes - 1))).clamp(max=1)
        # The 1 of a bound that says nothing would be an interval without width.
        return per_class[sums.present].mean().where(sums.known, torch.nan)

    return PairTerm(number, combine)


def _rows(geometry: ClassGeometry, shots: Sequence[int]) -> Tensor:
    """The same number of shots for every class, [S, C]."""
    m = torch.tensor(shots, dtype=geometry.variance.dtype, device=geometry.variance.device)
    return m[:, None].expand(-1, geometry.num_classes)
