"""The scalars of one task that are logged over training."""

from __future__ import annotations

from torch import Tensor

from dnc_lightning.functional.collapse import (
    cdnv,
    directional_cdnv,
    pair_mean,
    pair_median,
    resolved_pairs,
)
from dnc_lightning.functional.geometry import ClassGeometry
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
