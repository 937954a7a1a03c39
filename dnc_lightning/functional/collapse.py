"""CDNV and directional CDNV of all pairs of classes, and their averages."""

from __future__ import annotations

import torch
from torch import Tensor

from dnc_lightning.functional._class_geometry import ClassGeometry


def cdnv(geometry: ClassGeometry) -> Tensor:
    """Class-distance normalised variance V_ij = (v_i + v_j) / |mu_i - mu_j|^2, [C, C].

    Unhalved, as in the bounds of arXiv:2603.03530; Galanti, Gyorgy, Hutter (ICLR 2022) take half of
    it. Unitless, invariant to rotation, translation and scale. nan on the diagonal and for pairs
    without one: a class without samples, or with one sample, which has no variance; identical
    means; or, with unbiased moments, a distance that the probe's size cannot tell from zero.

    Example:
        >>> x = torch.tensor([[0.0], [2.0], [9.0], [11.0]])
        >>> cdnv(class_geometry(x, torch.tensor([0, 0, 1, 1])))[0, 1]
        tensor(0.0247, dtype=torch.float64)
    """
    return torch.where(_defined(geometry), variance_ratio(geometry), torch.nan)


def directional_cdnv(geometry: ClassGeometry) -> Tensor:
    """Directional CDNV Vt_ij = u_ij' Sigma_i u_ij / |mu_i - mu_j|^2 of ordered pairs, [C, C].

    The variance of class i (the row) along the axis that separates it from class j (the column),
    over their squared distance (arXiv:2603.03530). Unitless; nan where `cdnv` is nan.

    Example:
        >>> x = torch.tensor([[0.0, 5.0], [0.0, -5.0], [9.0, 5.0], [9.0, -5.0]])
        >>> directional_cdnv(class_geometry(x, torch.tensor([0, 0, 1, 1])))[0, 1]
        tensor(0., dtype=torch.float64)
    """
    return torch.where(_defined(geometry), axis_ratio(geometry), torch.nan)


def variance_ratio(geometry: ClassGeometry) -> Tensor:
    """(v_i + v_j) / |mu_i - mu_j|^2 of the samples, [C, C]; nan for pairs not resolved."""
    total = geometry.variance[:, None] + geometry.variance
    return torch.where(geometry.resolved, total / _safe_distance2(geometry), torch.nan)


def axis_ratio(geometry: ClassGeometry) -> Tensor:
    """delta_ij' Sigma_i delta_ij / |mu_i - mu_j|^4 of the samples, likewise."""
    value = geometry.axis_variance / _safe_distance2(geometry).square()
    return torch.where(geometry.resolved, value, torch.nan)


def _defined(geometry: ClassGeometry) -> Tensor:
    """Pairs of resolved means whose classes have a variance, bool [C, C]."""
    several = geometry.count > 1
    return geometry.resolved & several[:, None] & several


def _safe_distance2(geometry: ClassGeometry) -> Tensor:
    """Squared distances, 1 where there is none to divide by, so that derivatives stay finite."""
    return torch.where(geometry.resolved, geometry.distance2, 1.0)


def pair_mean(values: Tensor) -> Tensor:
    """Mean over the ordered pairs i != j of [C, C] that are defined (not nan); nan if none is.

    The arithmetic mean is ruled by the worst pair; see `pair_median`.
    """
    return _off_diagonal(values).nanmean()


def pair_median(values: Tensor) -> Tensor:
    """Median over the ordered pairs i != j of [C, C] that are defined (not nan); nan if none is.

    With an even number of pairs the mean of the two in the middle.
    """
    return _off_diagonal(values).nanquantile(0.5)


def resolved_pairs(geometry: ClassGeometry) -> Tensor:
    """Fraction of the C (C - 1) ordered pairs whose CDNV is defined, in [0, 1]."""
    pairs = geometry.num_classes * (geometry.num_classes - 1)
    return _defined(geometry).sum() / pairs


def _off_diagonal(values: Tensor) -> Tensor:
    c = values.shape[0]
    if values.shape != (c, c):
        raise ValueError(f"values must be a square matrix [C, C], got {list(values.shape)}.")
    return values[~torch.eye(c, dtype=torch.bool, device=values.device)]
