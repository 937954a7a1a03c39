"""First to fourth moments of the classes and of all pairs of classes, in two passes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from dnc_lightning.functional._checks import check_features
from dnc_lightning.functional._tiles import (
    TILE_BYTES,
    ClassTiles,
    Reduce,
    Tile,
    exact_arithmetic,
    wide,
)

SHIFT_SAMPLES = 256
"""Features that the common offset is estimated from."""


@dataclass(frozen=True)
class ClassGeometry:
    """Moments of C classes in R^D that every number of this package is made of.

    Symbols are those of docs/theory.md, section 1: class means mu_i, within-class covariances
    Sigma_i, delta_ij = mu_i - mu_j. Tensors are float64 (float32 on MPS) on the features' device;
    entries of classes without samples are nan.
    """

    count: Tensor  # [C] samples per class
    mean: Tensor  # [C, D] mu_i
    variance: Tensor  # [C] v_i = tr Sigma_i
    distance2: Tensor  # [C, C] |delta_ij|^2
    axis_variance: Tensor  # [C, C] A_ij = delta_ij' Sigma_i delta_ij
    second_trace: Tensor  # [C] q_i = tr Sigma_i^2
    cross_trace: Tensor  # [C, C] Q_ij = tr Sigma_i Sigma_j, or its bound sqrt(q_i q_j)
    third_moment: Tensor  # [C, D] t_i = E |x - mu_i|^2 (x - mu_i)
    fourth_moment: Tensor  # [C] E |x - mu_i|^4
    resolved: Tensor  # [C, C] bool, pairs i != j that have a CDNV
    cross_trace_exact: bool  # whether cross_trace is exact rather than its bound
    unbiased: bool  # population estimates rather than moments of the samples
    axis_covariance: Tensor | None = None  # [C, C, C] delta_ij' Sigma_i delta_ik, on request

    @property
    def num_classes(self) -> int:
        """C, including classes without samples."""
        return self.count.shape[0]

    @cached_property
    def third_projection(self) -> Tensor:
        """mu_i . t_j around the mean of the class means, [C, C]."""
        return (self.mean - self.mean.nanmean(0)) @ self.third_moment.T


def class_geometry(
    features: Tensor,
    labels: Tensor,
    *,
    num_classes: int | None = None,
    unbiased: bool = False,
    cross_trace: Literal["fast", "exact"] = "fast",
    joint: bool = False,
    reduce: Reduce | None = None,
) -> ClassGeometry:
    """Compute the moments of all classes and pairs of classes of labelled features.

    Two passes over the features; all pairs cost about one [N, D] x [D, C] matrix product, and no
    D x D matrix is made. Scratch memory stays under 200 MB beside the outputs. Half-precision
    features are cast up before any statistic; the result carries no gradient.

    Args:
        features: [N, D], floating point, of any scale.
        labels: [N], integers in [0, num_classes).
        num_classes: C; default the largest label + 1. Required with `reduce`.
        unbiased: Estimate the moments of the population instead of the samples', see `debias`.
        cross_trace: "exact" computes tr Sigma_i Sigma_j, at a cost of (N + C^2) D^2 / 2; "fast"
            takes the bound sqrt(q_i q_j), which keeps every error bound valid.
        joint: Also compute `axis_covariance` [C, C, C], which the joint certificate needs.
        reduce: Sums a tensor over all shards, for features that are spread over processes; shards
            may be uneven or empty. Only [C, D]- and [C, C]-sized sums pass through it, and for
            tr Sigma_i^2 a sequence of slices [C, k, D] that together hold the covariances.

    Returns:
        The moments; with `reduce` the same on every shard, as if computed in one process.

    Raises:
        ValueError: features or labels of the wrong shape, type or range, fewer than two classes.

    Warns:
        UserWarning: classes without samples, or pairs with identical means.

    Example:
        >>> geometry = class_geometry(torch.randn(60, 8), torch.arange(60) % 3)
        >>> geometry.axis_variance.shape
        torch.Size([3, 3])
    """
    num_classes = check_features(features, labels, num_classes, sharded=reduce is not None)
    if cross_trace not in ("fast", "exact"):
        raise ValueError(f'cross_trace must be "fast" or "exact", got {cross_trace!r}.')
    with exact_arithmetic(features.device):
        exact = cross_trace == "exact"
        geometry = _plug_in(features, labels.long(), num_classes, exact, joint, reduce)
        if unbiased:
            from dnc_lightning.functional.unbiased import debias

            geometry = debias(geometry)
    return geometry


def _plug_in(
    features: Tensor,
    labels: Tensor,
    num_classes: int,
    exact: bool,
    joint: bool,
    reduce: Reduce | None,
) -> ClassGeometry:
    total: Reduce = reduce or (lambda tensor: tensor)
    device, dtype = features.device, wide(features.device)
    data = ClassTiles.build(features, labels, num_classes)
    count = total(data.count.to(device, dtype))
    present = count > 0
    _warn_missing(present)
    size = count.where(present, torch.ones_like(count))
    shift = common_shift(data, total)
    mean = total(_class_sums(data, shift)) / size[:, None]

    centre = mean[present].mean(0)
    centred = torch.where(present[:, None], mean - centre, 0.0)
    row = total(_second_pass(data, shift, mean, centred, per_class=reduce is None))
    d = features.shape[1]
    row /= size[:, None]
    axis_variance, third_moment = row[:, :num_classes], row[:, num_classes : num_classes + d]
    variance, fourth_moment, second_trace = row[:, -3:].unbind(1)
    second_trace = second_trace / size
    covariance = None
    if joint:
        covariance = total(_axis_covariances(data, shift, mean, centred)) / size[:, None, None]
    trace_product = None
    if exact or reduce is not None or not data.classes_fit:
        trace_product = _trace_products(data, shift, mean, size, exact, total)
        second_trace = trace_product.diagonal() if exact else trace_product[:, 0]
    if exact and trace_product is not None:
        cross = trace_product
    else:
        root = second_trace.clamp(min=0).sqrt()
        cross = root[:, None] * root

    square = centred.square().sum(1)
    distance2 = (square[:, None] + square - 2 * centred @ centred.T).clamp(min=0)
    distance2.fill_diagonal_(0)
    # What is left of two equal means after rounding is a distance of this size, not of zero.
    scale = variance + square
    noise = (16 * torch.finfo(data.dtype).eps) ** 2 * (scale[:, None] + scale)
    resolved = (distance2 > noise) & present[:, None] & present
    resolved.fill_diagonal_(False)
    _warn_identical(resolved, present)

    def known(values: Tensor) -> Tensor:
        mask = present if values.ndim == 1 else present[:, None]
        return torch.where(mask, values, torch.nan)

    def known_pairs(values: Tensor) -> Tensor:
        return torch.where(present[:, None] & present, values, torch.nan)

    return ClassGeometry(
        count=count,
        mean=known(mean + shift.to(dtype)),
        variance=known(variance),
        distance2=known_pairs(distance2),
        axis_variance=known_pairs(axis_variance),
        second_trace=known(second_trace),
        cross_trace=known_pairs(cross),
        third_moment=known(third_moment),
        fourth_moment=known(fourth_moment),
        resolved=resolved,
        cross_trace_exact=exact,
        unbiased=False,
        axis_covariance=covariance,
    )


def common_shift(data: ClassTiles, total: Reduce) -> Tensor:
    """A point amid the features, [D]: the mean of some; any error in it cancels out."""
    some = data.features[:: max(1, len(data.features) // SHIFT_SAMPLES)].to(data.dtype)
    count = total(torch.tensor(float(len(some)), device=some.device))
    return total(some.sum(0)) / count


def _class_sums(data: ClassTiles, shift: Tensor) -> Tensor:
    """Sum of `features - shift` by class, [C, D]."""
    dtype = wide(shift.device)
    sums = torch.zeros(len(data.count), shift.shape[0], dtype=dtype, device=shift.device)
    for tile in data.tiles(shift, None):
        sums.index_add_(0, tile.classes, tile.residual.sum(1).to(dtype))
    return sums


def _second_pass(
    data: ClassTiles, shift: Tensor, mean: Tensor, centred: Tensor, *, per_class: bool
) -> Tensor:
    """Sums over the samples r of each class, side by side so that one reduction carries them.

    Columns: (delta_ij . r)^2 [C], |r|^2 r [D], |r|^2, |r|^4, and, where `per_class` says that the
    shard holds whole classes, the squared entries of the class's Gram matrix (n^2 tr Sigma^2).
    """
    num_classes, d = mean.shape
    out = torch.zeros(num_classes, num_classes + d + 3, dtype=mean.dtype, device=mean.device)
    centre, axes = mean.to(data.dtype), centred.to(data.dtype).T.contiguous()
    for tile in data.tiles(shift, centre):
        residual = tile.residual
        along = along_axes(tile, axes).square_().sum(1)
        square = torch.linalg.vector_norm(residual, dim=2).square_()
        third = (square[:, None] @ residual)[:, 0]
        scalars = [square.sum(1), square.square().sum(1), torch.zeros_like(square[:, 0])]
        if per_class and data.classes_fit:
            scalars[2] = (residual @ residual.transpose(1, 2)).square_().sum((1, 2))
        row = torch.cat([along, third, torch.stack(scalars, 1)], 1)
        out.index_add_(0, tile.classes, row.to(out.dtype))
    return out


def _axis_covariances(data: ClassTiles, shift: Tensor, mean: Tensor, centred: Tensor) -> Tensor:
    """Sums of (delta_ij . r)(delta_ik . r) over the samples r of each class i, [C, C, C]."""
    num_classes = len(mean)
    out = torch.zeros(num_classes, num_classes, num_classes, dtype=mean.dtype, device=mean.device)
    axes = centred.to(data.dtype).T.contiguous()
    for tile in data.tiles(shift, mean.to(data.dtype)):
        along = along_axes(tile, axes)
        out.index_add_(0, tile.classes, (along.transpose(1, 2) @ along).to(out.dtype))
    return out


def along_axes(tile: Tile, axes: Tensor) -> Tensor:
    """Residuals of the tile's samples along delta_ij for every j, [c, n, C]."""
    c, n, _ = tile.residual.shape
    projection = (tile.residual.flatten(0, 1) @ axes).view(c, n, -1)
    own = projection.gather(2, tile.classes[:, None, None].expand(-1, n, 1))
    return own.sub(projection)


def _trace_products(
    data: ClassTiles, shift: Tensor, mean: Tensor, size: Tensor, exact: bool, total: Reduce
) -> Tensor:
    """Give tr Sigma_i Sigma_j [C, C] if `exact`, else tr Sigma_i^2 as [C, 1]."""
    columns = len(mean) if exact else 1
    out = torch.zeros(len(mean), columns, dtype=mean.dtype, device=mean.device)
    for block, begin, end in covariance_slices(data, shift, mean, size, total):
        block[:, :, end - begin :] *= 2**0.5
        flat = block.flatten(1)
        out += (flat @ flat.T if exact else flat.square().sum(1, keepdim=True)).to(out.dtype)
    return out


def covariance_slices(
    data: ClassTiles, shift: Tensor, mean: Tensor, size: Tensor, total: Reduce
) -> Iterator[tuple[Tensor, int, int]]:
    """Yield rows begin:end of all covariances from column `begin` on, [C, end - begin, D - begin].

    The slices have bounded memory and can be summed over shards that hold parts of a class; what
    stands left of their diagonal blocks follows by symmetry.
    """
    num_classes, d = mean.shape
    centre = mean.to(data.dtype)
    width = max(1, TILE_BYTES // (2 * data.dtype.itemsize * num_classes * d))
    for begin in range(0, d, width):
        end = min(begin + width, d)
        shape = (num_classes, end - begin, d - begin)
        block = torch.zeros(shape, dtype=data.dtype, device=mean.device)
        for tile in data.tiles(shift, centre):
            left = tile.residual[:, :, begin:end].transpose(1, 2)
            block.index_add_(0, tile.classes, left @ tile.residual[:, :, begin:])
        yield total(block) / size.to(data.dtype)[:, None, None], begin, end


def _warn_missing(present: Tensor) -> None:
    if not bool(present.all()):
        missing = (~present).nonzero().flatten().tolist()
        warnings.warn(
            f"{len(missing)} of {len(present)} classes have no samples ({missing[:5]}...): their "
            "pairs are nan and left out of averages. Pass a probe that holds every class.",
            stacklevel=4,
        )


def _warn_identical(resolved: Tensor, present: Tensor) -> None:
    pairs = int(present.sum()) * (int(present.sum()) - 1)
    undefined = pairs - int(resolved.sum())
    if undefined:
        warnings.warn(
            f"{undefined} of {pairs} ordered pairs of classes have identical means: their CDNV is "
            "undefined (nan) and left out of averages. Is the encoder constant, or a class "
            "listed twice?",
            stacklevel=4,
        )
