"""Features of any scale, in units in which no power of them overflows or vanishes."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dnc_lightning.functional._tiles import Reduce, row_blocks, wide

SAFE_EXPONENT = 20
"""Features whose largest entry lies within 2^-20 and 2^20 have fourth powers in float32."""


def unit_scale(features: Tensor, total: Reduce) -> tuple[Tensor, int]:
    """Bring features [N, D] to a scale on which moments up to the fourth exist.

    Args:
        features: Floating point, of any scale.
        total: Sums a tensor over all shards, which all get the same exponent.

    Returns:
        features * 2^exponent, the same tensor where it needs no scaling, and the exponent.
        Powers of two change no digit, save that subnormal numbers become normal ones.
    """
    largest = torch.zeros((), dtype=wide(features.device), device=features.device)
    if features.numel():
        low, high = torch.aminmax(features)
        largest = torch.maximum(-low, high).to(largest.dtype)
    size = float(total(largest))  # a sum of maxima is one up to the number of shards
    if size == 0 or not math.isfinite(size):
        return features, 0
    exponent = -math.frexp(size)[1]
    if abs(exponent) <= SAFE_EXPONENT:
        return features, 0
    at_least_single = features.to(torch.promote_types(features.dtype, torch.float32))
    return times_power_of_two(at_least_single, exponent), exponent


def times_power_of_two(values: Tensor, exponent: int) -> Tensor:
    """Values * 2^exponent, where 2^exponent alone may be beyond the range of their type."""
    half = exponent // 2
    return values * 2.0**half * 2.0 ** (exponent - half)


def rounding(dtype: torch.dtype) -> float:
    """Relative size of differences between features that are rounding rather than information.

    One unit in the last place of half-precision features, which are rounded once from wider sums,
    and two of others, which have gathered some of the rounding of the layers before.
    """
    eps = torch.finfo(dtype).eps
    return eps if eps > torch.finfo(torch.float32).eps else 2 * eps


def squared_distances(points: Tensor, rows: slice) -> Tensor:
    """Of some of the points [C, D] from all, [b, C]: by their Gram matrix, but for close ones."""
    square = points.square().sum(1)
    sums = square[rows, None] + square
    distance2 = (sums - 2 * points[rows] @ points.T).clamp_(min=0)
    for pairs in torch.split((distance2 < CLOSE * sums).nonzero(), CLOSE_PAIRS):
        a, b = pairs.T
        distance2[a, b] = (points[rows][a] - points[b]).square().sum(1)
    distance2[:, rows].fill_diagonal_(0)
    return distance2


CLOSE = 1e-6
"""Squared distance over squared norms below which a Gram matrix holds too few digits of it."""

CLOSE_PAIRS = 2**12
"""Pairs whose difference is held at once."""


def within_rounding(points: Tensor, distance2: Tensor, error: float) -> Tensor:
    """Pairs of points [C, D] that differ by no more than rounding, bool [C, C], diagonal False.

    Their distance is at most `error` times their norm, and at least half of its square comes from
    units that differ by at most `error` times their own size: a large unit that two points share
    must not hide what they differ by in a small one.

    Args:
        points: Not centred: rounding is relative to what was computed.
        distance2: Their squared distances [C, C], to a few digits.
        error: From `rounding`.
    """
    square, c = points.square().sum(1), len(points)
    out = torch.zeros(c, c, dtype=torch.bool, device=points.device)
    for rows in row_blocks(c, CHUNK_ENTRIES):
        larger = torch.maximum(square[rows, None], square)
        near = (distance2[rows] <= error**2 * larger).triu(1 + rows.start)
        for pairs in torch.split(near.nonzero(), max(1, CHUNK_ENTRIES // points.shape[1])):
            i, j = pairs[:, 0] + rows.start, pairs[:, 1]
            difference = (points[i] - points[j]).square()
            largest = torch.maximum(points[i].abs(), points[j].abs())
            small = difference <= (error * largest).square()
            out[i, j] = (difference * small).sum(1) >= difference.sum(1) / 2
    return out | out.T


CHUNK_ENTRIES = 2**22
"""Differences of pairs of points that are held at once, 32 MB in float64."""


def unit_rows(features: Tensor) -> Tensor:
    """L2-normalise features [N, D] of any scale, in float32 at least; zero rows stay zero."""
    wide_enough = features.to(torch.promote_types(features.dtype, torch.float32))
    largest = wide_enough.abs().amax(1, keepdim=True)
    # Twice, so that neither the square nor the inverse of a norm leaves the range.
    relative = wide_enough / largest.where(largest > 0, 1.0)
    norm: Tensor = torch.linalg.vector_norm(relative, dim=1, keepdim=True)
    return relative / norm.clamp(min=1)
