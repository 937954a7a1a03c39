"""Pure tensor mathematics of directional neural collapse: torch only, no state."""

from dnc_lightning.functional.bounds import (
    few_shot_bound,
    gaussian_prediction,
    pair_bound,
    shots_needed,
)
from dnc_lightning.functional.collapse import (
    cdnv,
    directional_cdnv,
    pair_mean,
    pair_median,
    resolved_pairs,
)
from dnc_lightning.functional.few_shot import ncc_error
from dnc_lightning.functional.geometry import ClassGeometry, class_geometry
from dnc_lightning.functional.intervals import Estimate, population_estimate
from dnc_lightning.functional.summary import COLLAPSE_KEYS, bound_summary, collapse_summary
from dnc_lightning.functional.unbiased import debias

__all__ = [
    "COLLAPSE_KEYS",
    "ClassGeometry",
    "Estimate",
    "bound_summary",
    "cdnv",
    "class_geometry",
    "collapse_summary",
    "debias",
    "directional_cdnv",
    "few_shot_bound",
    "gaussian_prediction",
    "ncc_error",
    "pair_bound",
    "pair_mean",
    "pair_median",
    "population_estimate",
    "resolved_pairs",
    "shots_needed",
]
