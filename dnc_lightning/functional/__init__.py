"""Pure tensor mathematics of directional neural collapse: torch only, no state."""

from dnc_lightning.functional.collapse import (
    cdnv,
    directional_cdnv,
    pair_mean,
    pair_median,
    resolved_pairs,
)
from dnc_lightning.functional.geometry import ClassGeometry, class_geometry
from dnc_lightning.functional.unbiased import debias

__all__ = [
    "ClassGeometry",
    "cdnv",
    "class_geometry",
    "debias",
    "directional_cdnv",
    "pair_mean",
    "pair_median",
    "resolved_pairs",
]
