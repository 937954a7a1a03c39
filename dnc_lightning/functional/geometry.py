"""First to fourth moments of the classes and of all pairs of classes, in two passes."""

from __future__ import annotations

import warnings
from typing import Literal

import torch
from torch import Tensor

from dnc_lightning.functional._checks import check_features
from dnc_lightning.functional._class_geometry import ClassGeometry, rescale
from dnc_lightning.functional._moments import (
    alone,
    axis_covariances,
    class_sums,
    class_totals,
    common_shift,
    find_shards,
    second_pass,
    self_products,
    trace_products,
)
from dnc_lightning.functional._pairs import fill_diagonal
from dnc_lightning.functional._scale import (
    rounding,
    squared_distances,
    unit_scale,
    within_rounding,
)
from dnc_lightning.functional._tiles import (
    ClassTiles,
    Reduce,
    exact_arithmetic,
    row_blocks,
    wide,
)
from dnc_lightning.functional.unbiased import debias

NARROW = 1e-8
"""Variance of a class over the square of its mean below which float32 costs digits of it."""

NEAR = 1e-4
"""Squared distance of two means over the size of all below which float32 costs digits of it."""

THIN = 1e-6
"""Share of a class's variance on an axis below which float32 leaves less than four digits of it."""

TINY = 1e-16
"""Variance, of features of about 1, whose square float32 does not hold."""


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
            may be uneven or empty. [C, D]- and [C, C]-sized sums pass through it, and for
            tr Sigma_i^2 all features in slices of whole classes, or, where classes have more
            samples than dimensions, their covariances in slices [C, k, D].

    Returns:
        The moments; with `reduce` the same on every shard, as if computed in one process.

    Raises:
        ValueError: features or labels of the wrong shape, type or range, fewer than two classes.

    Warns:
        UserWarning: classes without samples, or pairs with identical means.

    Examples:
        >>> geometry = class_geometry(torch.randn(60, 8), torch.arange(60) % 3)
        >>> geometry.axis_variance.shape
        torch.Size([3, 3])
    """
    num_classes = check_features(features, labels, num_classes, sharded=reduce is not None)
    if cross_trace not in ("fast", "exact"):
        raise ValueError(f'cross_trace must be "fast" or "exact", got {cross_trace!r}.')
    exact, total = cross_trace == "exact", reduce or alone
    with exact_arithmetic(features.device):
        error = rounding(features.dtype)
        scaled, exponent = unit_scale(features, total)
        geometry = _plug_in(scaled, labels.long(), num_classes, exact, joint, reduce, error)
        if scaled.dtype != wide(features.device) and needs_double(geometry):
            scaled = scaled.to(wide(features.device))
            del geometry  # two would be held at once
            geometry = _plug_in(scaled, labels.long(), num_classes, exact, joint, reduce, error)
        _warn(geometry)
        geometry = rescale(geometry, -exponent)
        if unbiased:
            geometry = debias(geometry)
    return geometry


def _plug_in(
    features: Tensor,
    labels: Tensor,
    num_classes: int,
    exact: bool,
    joint: bool,
    reduce: Reduce | None,
    error: float,
) -> ClassGeometry:
    total = reduce or alone
    device, dtype = features.device, wide(features.device)
    data = ClassTiles.build(features, labels, num_classes)
    count = total(data.count.to(device, dtype))
    present = count > 0
    size = count.where(present, torch.ones_like(count))
    shift = common_shift(data, total)
    mean = total(class_sums(data, shift)) / size[:, None]

    centre = mean[present].mean(0)
    centred = torch.where(present[:, None], mean - centre, 0.0)
    row = total(second_pass(data, shift, mean, centred, per_class=reduce is None))
    d = features.shape[1]
    row /= size[:, None]
    axis_variance, third_moment = row[:, :num_classes], row[:, num_classes : num_classes + d]
    variance, fourth_moment, second_trace = row[:, -3:].unbind(1)
    covariance = None
    if joint:
        covariance = total(axis_covariances(data, shift, mean, centred)) / size[:, None, None]
    shards = None if exact else find_shards(data, size, reduce)
    if exact:
        cross = trace_products(data, shift, mean, size, True, total)
        second_trace = cross.diagonal()
    elif reduce is None and data.classes_fit:
        second_trace = second_trace / size
    elif shards is not None:
        products = self_products(data, shift, mean, size, shards, reduce)
        second_trace = total(class_totals(data, products, dtype)) / size
    else:
        second_trace = trace_products(data, shift, mean, size, False, total)[:, 0]
    if not exact:
        root = second_trace.clamp(min=0).sqrt()
        cross = root[:, None] * root

    mean = mean + shift.to(dtype)
    square = centred.square().sum(1)
    # What is left of two equal means is of the size of what rounding does to sums of residuals,
    # and of what it did to the features themselves.
    noise = (16 * torch.finfo(data.dtype).eps) ** 2 * (variance + square)
    distance2 = cross.new_empty(num_classes, num_classes)
    apart = torch.empty_like(distance2, dtype=torch.bool)
    for rows in row_blocks(num_classes, BLOCK_ENTRIES):
        distance2[rows] = squared_distances(centred, rows)
        apart[rows] = distance2[rows] > noise[rows, None] + noise
    apart &= ~within_rounding(mean, distance2, error)
    apart &= present[:, None] & present
    noise = noise + error**2 * mean.square().sum(1)
    coincident = ~apart & present[:, None] & present
    for rows in row_blocks(num_classes, BLOCK_ENTRIES):
        spread = variance[rows, None] + variance
        coincident[rows] &= spread <= noise[rows, None] + noise

    def known(values: Tensor) -> Tensor:
        mask = present if values.ndim == 1 else present[:, None]
        return torch.where(mask, values, torch.nan)

    def known_pairs(values: Tensor) -> Tensor:
        values[~present], values[:, ~present] = torch.nan, torch.nan
        return values

    return ClassGeometry(
        count=count,
        mean=known(mean),
        variance=known(variance),
        distance2=known_pairs(distance2),
        axis_variance=known_pairs(axis_variance),
        second_trace=known(second_trace),
        cross_trace=known_pairs(cross),
        third_moment=known(third_moment),
        fourth_moment=known(fourth_moment),
        resolved=_off_diagonal(apart),
        coincident=_off_diagonal(coincident),
        cross_trace_exact=exact,
        unbiased=False,
        axis_covariance=covariance,
    )


BLOCK_ENTRIES = 2**21
"""Pairs whose distances are computed at once, 16 MB a number."""


def needs_double(geometry: ClassGeometry) -> bool:
    """Whether float32 loses digits: of a narrow class, a thin one, or two that are close.

    Args:
        geometry: Of features on the scale of 1, see `unit_scale`.
    """
    g = geometry
    square = (g.mean - g.mean.nanmean(0)).square().sum(1)
    narrow = (g.variance < NARROW * square) | ((g.variance < TINY) & (g.variance > 0))
    limit = NEAR * (square + g.variance).nan_to_num(0).max()
    lost = narrow.any()
    for rows in row_blocks(g.num_classes, BLOCK_ENTRIES):
        thin = g.axis_variance[rows] < THIN * g.variance[rows, None] * g.distance2[rows]
        near = g.distance2[rows] < limit
        lost = lost | fill_diagonal(near | thin, rows, False).any()
    return bool(lost)


def _off_diagonal(pairs: Tensor) -> Tensor:
    return pairs & ~torch.eye(len(pairs), dtype=torch.bool, device=pairs.device)


def _warn(geometry: ClassGeometry) -> None:
    """Say which pairs have no CDNV, and why."""
    count = geometry.count.tolist()
    missing = [c for c, n in enumerate(count) if n == 0]
    if missing:
        warnings.warn(
            f"{len(missing)} of {len(count)} classes have no samples ({missing[:5]}...): their "
            "pairs are nan and left out of averages. Pass a probe that holds every class.",
            stacklevel=3,
        )
    present = geometry.count > 0
    pairs = _off_diagonal(present[:, None] & present)
    undefined = int((pairs & ~geometry.resolved).sum())
    if undefined:
        warnings.warn(
            f"{undefined} of {int(pairs.sum())} ordered pairs of classes have identical "
            "means, up to rounding: their CDNV is undefined (nan). Is the encoder constant, or a "
            "class listed twice?",
            stacklevel=3,
        )
