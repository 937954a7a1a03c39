"""Pure tensor mathematics of directional neural collapse: torch only, no state."""

from dnc_lightning.functional.collapse import (
    cdnv,
    directional_cdnv,
    pair_mean,
    pair_median,
    resolved_pairs,
)
from dnc_lightning.functional.geometry import ClassGeometry, class_geometry
from dnc_lightning.functional.summary import COLLAPSE_KEYS, collapse_summary
from dnc_lightning.functional.unbiased import debias

__all__ = [
    "COLLAPSE_KEYS",
    "ClassGeometry",
    "cdnv",
    "class_geometry",
    "collapse_summary",
    "debias",
    "directional_cdnv",
    "pair_mean",
    "pair_median",
    "resolved_pairs",
]
