"""CDNV and directional CDNV of all pairs of classes, and their averages."""

from __future__ import annotations

import torch
from torch import Tensor

from dnc_lightning.functional._class_geometry import ClassGeometry
from dnc_lightning.functional._pairs import PairRows, all_pairs, pair_rows


def cdnv(geometry: ClassGeometry) -> Tensor:
    """Class-distance normalised variance V_ij = (v_i + v_j) / |mu_i - mu_j|^2, [C, C].

    Unhalved, as in the bounds of arXiv:2603.03530; Galanti, Gyorgy, Hutter (ICLR 2022) take half of
    it. Unitless, invariant to rotation, translation and scale. nan on the diagonal and for pairs
    without one: a class without samples, or with one sample, which has no variance; identical
    means; or, with unbiased moments, a distance that the probe's size cannot tell from zero.

    Examples:
        >>> x = torch.tensor([[0.0], [2.0], [9.0], [11.0]])
        >>> cdnv(class_geometry(x, torch.tensor([0, 0, 1, 1])))[0, 1]
        tensor(0.0247, dtype=torch.float64)
    """
    return all_pairs(geometry, cdnv_rows)


def directional_cdnv(geometry: ClassGeometry) -> Tensor:
    """Directional CDNV Vt_ij = u_ij' Sigma_i u_ij / |mu_i - mu_j|^2 of ordered pairs, [C, C].

    The variance of class i (the row) along the axis that separates it from class j (the column),
    over their squared distance (arXiv:2603.03530). Unitless; nan where `cdnv` is nan.

    Examples:
        >>> x = torch.tensor([[0.0, 5.0], [0.0, -5.0], [9.0, 5.0], [9.0, -5.0]])
        >>> directional_cdnv(class_geometry(x, torch.tensor([0, 0, 1, 1])))[0, 1]
        tensor(0., dtype=torch.float64)
    """
    return all_pairs(geometry, directional_cdnv_rows)


def cdnv_rows(pairs: PairRows) -> Tensor:
    """`cdnv` of some rows, [b, C]."""
    return torch.where(pairs.defined, variance_ratio(pairs), torch.nan)


def directional_cdnv_rows(pairs: PairRows) -> Tensor:
    """`directional_cdnv` of some rows, [b, C]."""
    return torch.where(pairs.defined, axis_ratio(pairs), torch.nan)


def variance_ratio(pairs: PairRows) -> Tensor:
    """(v_i + v_j) / |mu_i - mu_j|^2 of the samples, [b, C]; nan for pairs not resolved."""
    total = pairs.own(pairs.variance) + pairs.variance
    return torch.where(pairs.resolved, total / pairs.safe_distance2, torch.nan)


def axis_ratio(pairs: PairRows) -> Tensor:
    """delta_ij' Sigma_i delta_ij / |mu_i - mu_j|^4 of the samples, likewise."""
    value = pairs.axis_variance / pairs.safe_distance2.square()
    return torch.where(pairs.resolved, value, torch.nan)


def pair_mean(values: Tensor) -> Tensor:
    """Mean over the ordered pairs i != j of [C, C] that are defined (not nan); nan if none is.

    The arithmetic mean is ruled by the worst pair; see `pair_median`.
    """
    return _off_diagonal(values).nanmean()


def pair_median(values: Tensor) -> Tensor:
    """Median over the ordered pairs i != j of [C, C] that are defined (not nan); nan if none is.

    With an even number of pairs the mean of the two in the middle.
    """
    off = _off_diagonal(values)
    defined = off[~off.isnan()]
    if not len(defined):
        return values.new_tensor(torch.nan)
    # Not torch.nanquantile, which refuses more than 2^24 entries and sorts all of them.
    low, odd = divmod(len(defined) - 1, 2)
    below = defined.kthvalue(low + 1).values
    return below if not odd else below.lerp(defined.kthvalue(low + 2).values, 0.5)


def resolved_pairs(geometry: ClassGeometry) -> Tensor:
    """Fraction of the C (C - 1) ordered pairs whose CDNV is defined, in [0, 1]."""
    found = torch.stack([pairs.defined.sum() for pairs in pair_rows(geometry)]).sum()
    return found / (geometry.num_classes * (geometry.num_classes - 1))


def _off_diagonal(values: Tensor) -> Tensor:
    """All entries but those of the diagonal, [C - 1, C]: no copy of a matrix without gaps."""
    c = values.shape[0]
    if values.shape != (c, c):
        raise ValueError(f"values must be a square matrix [C, C], got {list(values.shape)}.")
    return values.flatten()[1:].view(c - 1, c + 1)[:, :-1]
