"""Pure tensor mathematics of directional neural collapse: torch only, no state."""

from dnc_lightning.functional._class_geometry import ClassGeometry
from dnc_lightning.functional._tiles import Reduce
from dnc_lightning.functional.axes import (
    axis_cosines,
    decision_axes,
    extreme_pairs,
    random_floor,
)
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
from dnc_lightning.functional.conditional import conditional_certificate
from dnc_lightning.functional.cyclic import Cyclic, cyclic
from dnc_lightning.functional.decomposition import VarianceDecomposition, variance_decomposition
from dnc_lightning.functional.dispersion import (
    Norms,
    dead_units,
    feature_norms,
    sphere_uniformity,
    uniformity,
)
from dnc_lightning.functional.duality import (
    Decisions,
    Duality,
    duality,
    head_decisions,
    least_squares_duality,
)
from dnc_lightning.functional.few_shot import ncc_error
from dnc_lightning.functional.geometry import class_geometry
from dnc_lightning.functional.guarantee import few_shot_guarantee
from dnc_lightning.functional.imbalance import (
    MinorityMeans,
    MinorityRows,
    minority_means,
    minority_rows,
    orthogonal_frame,
)
from dnc_lightning.functional.intervals import Estimate, population_estimate
from dnc_lightning.functional.labels import coarsen, cramers_v
from dnc_lightning.functional.lidar import alignment, lidar
from dnc_lightning.functional.linear_probe import (
    LinearProbe,
    TrainingSet,
    half_of_each_class,
    logistic_probe,
    ridge_probe,
)
from dnc_lightning.functional.needed import LabelsNeeded, labels_needed
from dnc_lightning.functional.neighbours import knn_accuracy, knn_predict
from dnc_lightning.functional.orthogonality import (
    Interval,
    OrthogonalitySummary,
    orthogonality_bound,
    orthogonality_summary,
)
from dnc_lightning.functional.regression import (
    OrdinalCollapse,
    RegressionCollapse,
    ordinal_collapse,
    regression_collapse,
)
from dnc_lightning.functional.scores import Accuracy, accuracy
from dnc_lightning.functional.simplex import Simplex, nc1, simplex, simplex_floor
from dnc_lightning.functional.spectrum import (
    Spectrum,
    alpha_req,
    effective_rank,
    feature_spectrum,
    noise_eigenvalues,
    rankme,
)
from dnc_lightning.functional.summary import COLLAPSE_KEYS, bound_summary, collapse_summary
from dnc_lightning.functional.transfer import Ncti, h_score, logme, ncti
from dnc_lightning.functional.unbiased import debias

__all__ = [
    "COLLAPSE_KEYS",
    "Accuracy",
    "ClassGeometry",
    "Cyclic",
    "Decisions",
    "Duality",
    "Estimate",
    "Interval",
    "LabelsNeeded",
    "LinearProbe",
    "MinorityMeans",
    "MinorityRows",
    "Ncti",
    "Norms",
    "OrdinalCollapse",
    "OrthogonalitySummary",
    "Reduce",
    "RegressionCollapse",
    "Simplex",
    "Spectrum",
    "TrainingSet",
    "VarianceDecomposition",
    "accuracy",
    "alignment",
    "alpha_req",
    "axis_cosines",
    "bound_summary",
    "cdnv",
    "class_geometry",
    "coarsen",
    "collapse_summary",
    "conditional_certificate",
    "cramers_v",
    "cyclic",
    "dead_units",
    "debias",
    "decision_axes",
    "directional_cdnv",
    "duality",
    "effective_rank",
    "extreme_pairs",
    "feature_norms",
    "feature_spectrum",
    "few_shot_bound",
    "few_shot_guarantee",
    "gaussian_prediction",
    "h_score",
    "half_of_each_class",
    "head_decisions",
    "knn_accuracy",
    "knn_predict",
    "labels_needed",
    "least_squares_duality",
    "lidar",
    "logistic_probe",
    "logme",
    "minority_means",
    "minority_rows",
    "nc1",
    "ncc_error",
    "ncti",
    "noise_eigenvalues",
    "ordinal_collapse",
    "orthogonal_frame",
    "orthogonality_bound",
    "orthogonality_summary",
    "pair_bound",
    "pair_mean",
    "pair_median",
    "population_estimate",
    "random_floor",
    "rankme",
    "regression_collapse",
    "resolved_pairs",
    "ridge_probe",
    "shots_needed",
    "simplex",
    "simplex_floor",
    "sphere_uniformity",
    "uniformity",
    "variance_decomposition",
]
