"""Neural collapse of regression, and of ordered classes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dnc_lightning.functional._class_geometry import ClassGeometry
from dnc_lightning.functional._gram import centred_gram
from dnc_lightning.functional._tiles import Reduce, exact_arithmetic, wide

BLOCK = 2**23
"""Numbers of a block of samples that are held at once, in float64."""

COLLINEAR = 1e-10
"""Least over largest variance of the targets below which they are not told from fewer ones."""

PENALTY = 1e-6
"""Of the linear read-out, in units of the mean variance of a unit."""


@dataclass(frozen=True)
class RegressionCollapse:
    """How features of continuous targets collapse; scalars, nan if undefined."""

    off_plane: Tensor  # NRC1: share of the directions of the features off their n main ones
    off_head: Tensor  # NRC2: share of them off the rows of the head; nan without one
    head: Tensor  # NRC3: distance of the head's Gram matrix from that of the targets; nan for n = 1


@dataclass(frozen=True)
class _Moments:
    """Sums over the samples of all processes, in float64."""

    number: Tensor  # []
    mean: Tensor  # [D]
    spread: Tensor  # [D, D] covariance of the features
    directions: Tensor  # [D, D] mean outer product of the centred features, each of norm 1


def regression_collapse(
    features: Tensor,
    targets: Tensor,
    weight: Tensor | None = None,
    *,
    reduce: Reduce | None = None,
) -> RegressionCollapse:
    """Measure the neural collapse of a multivariate regression, NRC1 to NRC3.

    Andriopoulos et al., *The Prevalence of Neural Collapse in Neural Multivariate Regression*,
    arXiv:2409.04180, section 3.1. Features are centred before they are scaled to norm 1, which the
    paper does not say, for else NRC1 is not 0 of collapsed features with an offset. NRC3 takes the
    symmetric root of the targets' covariance, and the best constant between 0 and its least
    eigenvalue in closed form (derived here).

    Args:
        features: [N, D], of this shard.
        targets: [N, n] of the same samples, n < D.
        weight: [n, D] of the linear head; None where there is none.
        reduce: Sums over all shards.

    Raises:
        ValueError: what does not fit; targets that are constant.
    """
    n, d = targets.shape[-1], features.shape[-1]
    if targets.ndim != 2 or features.ndim != 2 or len(targets) != len(features):
        raise ValueError(
            f"features must be [N, D] and targets [N, n], got {list(features.shape)} and "
            f"{list(targets.shape)}."
        )
    if not 1 <= n < d:
        raise ValueError(f"NRC needs fewer targets than dimensions, got n={n} and D={d}.")
    if weight is not None and tuple(weight.shape) != (n, d):
        raise ValueError(f"the head's weight must be [{n}, {d}], got {list(weight.shape)}.")
    with exact_arithmetic(features.device):
        covariance = target_covariance(targets, reduce=reduce)
        found = _moments(features, reduce)
        main = torch.linalg.eigh(found.spread).eigenvectors[:, -n:]
        kept = _share(found.directions, main)
        nothing = kept.new_tensor(math.nan)
        if weight is None:
            return RegressionCollapse(1 - kept, nothing, nothing)
        rows = weight.to(kept)
        axes, sizes, _ = torch.linalg.svd(rows.T, full_matrices=False)
        full = sizes > sizes.max() * d * torch.finfo(sizes.dtype).eps
        head = _share(found.directions, axes[:, full]) if bool(full.any()) else nothing
        return RegressionCollapse(1 - kept, 1 - head, _head_distance(rows, covariance))


def target_covariance(targets: Tensor, *, reduce: Reduce | None = None) -> Tensor:
    """Covariance [n, n] of targets [N, n], float64.

    Raises:
        ValueError: a target that is constant.
    """
    y = targets.to(wide(targets.device))
    total = reduce or _alone
    number = total(y.new_tensor(float(len(y))))
    mean = total(y.sum(0)) / number
    covariance = total((y - mean).T @ (y - mean)) / number
    variance = covariance.diagonal()
    if not bool((variance > 1e-24 * (mean.square() + variance)).all()):
        place = int(variance.argmin())
        raise ValueError(f"target {place} is constant, so nothing can collapse to it. Drop it.")
    return covariance


def linear_read_out(
    features: Tensor, targets: Tensor, first: Tensor, *, reduce: Reduce | None = None
) -> Tensor:
    """Share of the targets' variance that a linear map of the features explains on new samples.

    Least squares, with a small fixed penalty, of one half of the samples, and the other half is
    predicted, both ways; R^2, the mean over the n targets. Below 0 is worse than the mean.

    Args:
        features: [N, D], of this shard.
        targets: [N, n] of the same samples.
        first: [N] bool, which half each sample is in.
        reduce: Sums over all shards.

    Returns:
        A scalar; nan where a half has fewer samples than dimensions.
    """
    total = reduce or _alone
    dtype = wide(features.device)
    y = targets.to(dtype)
    d = features.shape[1]
    with exact_arithmetic(features.device):
        found = []
        for half in (first, ~first):
            number = total(half.sum().to(dtype))
            if number < d:
                return torch.full((), math.nan, dtype=dtype, device=features.device)
            x_mean = total(_wide_sum(features[half], dtype)) / number
            y_mean = total(y[half].sum(0)) / number
            both, cross = x_mean.new_zeros(d, d), x_mean.new_zeros(d, y.shape[1])
            for rows in torch.split(half.nonzero()[:, 0], max(1, BLOCK // d)):
                x = features[rows].to(dtype) - x_mean
                both += x.T @ x
                cross += x.T @ (y[rows] - y_mean)
            both, cross = total(both), total(cross)
            both.diagonal().add_(PENALTY * both.diagonal().mean())
            weight = torch.linalg.solve(both, cross)
            rest = ~half
            predicted = (features[rest].to(dtype) - x_mean) @ weight + y_mean
            left = total((y[rest] - predicted).square().sum(0))
            other = total(y[rest].sum(0)) / total(rest.sum().to(dtype))
            whole = total((y[rest] - other).square().sum(0))
            found.append(1 - left / whole)
        return torch.stack(found).mean()


@dataclass(frozen=True)
class OrdinalCollapse:
    """How ordered classes lie; scalars, nan if undefined."""

    off_line: Tensor  # ONC2: share of the squared lengths of the centred means off their main line
    order: Tensor  # ONC3: |Kendall's tau| of the places on that line with the order of the classes
    gap_spread: Tensor  # standard deviation over mean of the gaps between neighbours on it


def ordinal_collapse(geometry: ClassGeometry) -> OrdinalCollapse:
    """Measure whether the means of ordered classes lie on a line, in their order.

    Ma, Obuchi and Tanaka, *Neural Collapse in Cumulative Link Models for Ordinal Regression*,
    arXiv:2506.05801; the measures are derived here, from distances, so that unbiased ones leave the
    noise of few samples out. Their first property, that samples fall on the means, is NC1.

    Args:
        geometry: Of at least 3 classes in their order, best unbiased; two are always on a line.

    Raises:
        ValueError: fewer classes.
    """
    k = len(geometry.distance2)
    if k < 3:
        raise ValueError(f"an order needs at least 3 classes, got {k}: two are always on a line.")
    gram = centred_gram(geometry.distance2)
    if not bool(gram.isfinite().all()) or not bool(gram.diagonal().sum() > 0):
        nothing = gram.new_tensor(math.nan)
        return OrdinalCollapse(nothing, nothing, nothing)
    values, axes = torch.linalg.eigh(gram)
    place = axes[:, -1] * values[-1].sqrt()
    later = torch.triu(torch.ones_like(gram), 1).bool()
    sign = (place - place[:, None])[later].sign()
    gaps = place.diff().abs()
    return OrdinalCollapse(
        # Unbiased lengths off the line can be below 0 together.
        off_line=(1 - values[-1] / values.sum()).clamp(min=0),
        order=sign.mean().abs(),
        gap_spread=gaps.std(correction=0) / gaps.mean(),
    )


def _moments(features: Tensor, reduce: Reduce | None) -> _Moments:
    total, dtype = reduce or _alone, wide(features.device)
    d = features.shape[1]
    number = total(torch.tensor(float(len(features)), dtype=dtype, device=features.device))
    mean = total(_wide_sum(features, dtype)) / number
    spread, directions = mean.new_zeros(d, d), mean.new_zeros(d, d)
    for rows in torch.split(features, max(1, BLOCK // d)):
        x = rows.to(dtype) - mean
        spread += x.T @ x
        # A feature at the mean has no direction, and none is off the plane.
        length = torch.linalg.vector_norm(x, dim=1, keepdim=True)
        unit = x / length.where(length > 0, 1.0)
        directions += unit.T @ unit
    directions = total(directions)
    return _Moments(number, mean, total(spread) / number, directions / directions.trace())


def _share(directions: Tensor, axes: Tensor) -> Tensor:
    """Of the squared lengths of the directions on the span of orthonormal axes [D, k]."""
    share: Tensor = (axes * (directions @ axes)).sum()
    return share


def _head_distance(rows: Tensor, covariance: Tensor) -> Tensor:
    n = len(rows)
    values, axes = torch.linalg.eigh(covariance)
    nothing: Tensor = values.new_tensor(math.nan)
    if n == 1 or bool(values[0] <= COLLINEAR * values[-1]):
        return nothing
    root = (axes * values.sqrt()) @ axes.T
    own = rows @ rows.T
    eye = torch.eye(n).to(own)
    flat, slope = own - own.trace() / n * eye, root - root.trace() / n * eye
    size = (slope * slope).sum()
    along = (flat * slope).sum() / size.where(size > 0, torch.nan)
    # Nearest of all root - c I, each of norm 1: c of the stationary point, or an end of its range.
    inner = (root.trace() - own.trace() / along) / n
    largest = values[0].sqrt()
    found = [largest.new_zeros(()), largest * (1 - 1e-12)]
    if bool(along > 0):
        found.append(inner.clamp(found[0], found[1]))
    unit = own / torch.linalg.matrix_norm(own)
    least: Tensor = torch.stack([_unit_distance(unit, root - c * eye) for c in found]).min()
    return least


def _unit_distance(unit: Tensor, other: Tensor) -> Tensor:
    gap: Tensor = (unit - other / torch.linalg.matrix_norm(other)).square().sum()
    return gap


def _wide_sum(features: Tensor, dtype: torch.dtype) -> Tensor:
    return features.sum(0, dtype=dtype)


def _alone(tensor: Tensor) -> Tensor:
    return tensor
