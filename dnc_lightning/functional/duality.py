"""Neural collapse of a classifier: NC3, its rows along the class means, and NC4, its decisions."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dnc_lightning.functional._checks import check_features
from dnc_lightning.functional._class_geometry import ClassGeometry
from dnc_lightning.functional._covariance import within_covariance
from dnc_lightning.functional._gram import centred_gram
from dnc_lightning.functional._scale import rounding
from dnc_lightning.functional._tiles import Reduce, exact_arithmetic, wide
from dnc_lightning.functional._whole import whole_labels
from dnc_lightning.functional.few_shot import Shard
from dnc_lightning.functional.linear_probe import half_of_each_class

PENALTY = 1e-3
"""Of the least-squares head, in units of the mean variance of a unit: a large one makes any head
a multiple of the class means, and its duality 0 by construction."""

SAMPLES_PER_DIMENSION = 3
"""Samples of each half, over D, that a least-squares head needs."""

BLOCK = 2**23
"""Numbers of a block of samples that are held at once, in float64."""


@dataclass(frozen=True)
class Duality:
    """How the rows of a head lie to the class means, both centred over classes."""

    distance: Tensor  # NC3: |W/|W| - M/|M||^2, 0 at collapse, 2 if unrelated, at most 4
    cosine: Tensor  # mean over classes of cos(w_k, m_k); 1 at collapse
    cosine_spread: Tensor  # standard deviation of it over classes


@dataclass(frozen=True)
class Decisions:
    """Shares of samples, each classified by means of the half that it is not in."""

    mismatch: Tensor  # NC4: where head and nearest class centre name different classes
    head: Tensor  # where the head is right
    centre: Tensor  # where the nearest class centre is right


def duality(weight: Tensor, geometry: ClassGeometry) -> Duality:
    """Compare the rows of a head with the class means: NC3.

    Papyan, Han and Donoho, PNAS 2020, figure 5 (distance); Wu and Papyan, arXiv:2405.17767
    (cosines). Rows are centred over classes too, for softmax does not see what all have in common.
    With unbiased moments the norms of the means are those of the population, so that the noise
    of few samples does not look like disagreement (derived here).

    Args:
        weight: [K, D], a head's, which was not fitted to these samples.
        geometry: Of K classes in D dimensions.

    Returns:
        Scalars; cosines are nan where a mean is not told from the centre.

    Raises:
        ValueError: a weight of another shape.
    """
    k, d = geometry.mean.shape
    if tuple(weight.shape) != (k, d):
        raise ValueError(
            f"the head's weight must be [{k}, {d}], one row of the features' length for each "
            f"class, got {list(weight.shape)}."
        )
    mean = geometry.mean - geometry.mean.mean(0)
    rows = weight.to(mean) - weight.to(mean).mean(0)
    norm2 = centred_gram(geometry.distance2).diagonal()  # [K], |m_k|^2
    along = (rows * mean).sum(1)
    length = torch.linalg.vector_norm(rows, dim=1)
    cosine = along / (length * norm2.where(norm2 > 0, torch.nan).sqrt())
    whole = torch.linalg.vector_norm(length) * norm2.sum().clamp(min=0).sqrt()
    return Duality(
        distance=2 - 2 * along.sum() / whole.where(whole > 0, torch.nan),
        cosine=cosine.mean(),
        cosine_spread=cosine.std(correction=0),
    )


def head_decisions(
    features: Tensor,
    labels: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    shard: Shard | None = None,
) -> Decisions:
    """Compare the decisions of a head with those of the nearest class centre: NC4.

    Papyan et al., figure 7. Centres are means of one half of each class, and the other half is
    classified, both ways: the samples of a mean lie nearer to it than new ones. Classes that are
    equally near, or have the same score, within rounding, are guesses among them.

    Args:
        features: [n, D], what the head is given.
        labels: [n], integers in [0, K), in the head's order of classes.
        weight: [K, D].
        bias: [K].
        shard: Where the samples stand in the whole set; None if they are the whole set.

    Returns:
        Scalars in [0, 1]; 1 - 1/K by chance.

    Raises:
        ValueError: features, labels and head that do not fit, or a class with one sample.
    """
    k, d = weight.shape
    check_features(features, labels, k, sharded=shard is not None)
    if features.shape[1] != d:
        raise ValueError(
            f"the head takes features of length {d}, got {features.shape[1]}. Embed with the "
            "encoder that it stands on."
        )
    labels = labels.long()
    device, dtype, error = features.device, wide(features.device), rounding(features.dtype)
    half, total = _halves(labels, shard)
    with exact_arithmetic(device):
        (low, low_count), (high, high_count) = (
            _means(features, labels, half == side, k, total) for side in (0, 1)
        )
        # Around the mean of the means, so that an offset costs no digits.
        offset = ((low + high) / 2).mean(0)
        centres = torch.stack([high, low]) - offset  # by the half of the query
        there = torch.stack([high_count, low_count]) > 0
        square = centres.square().sum(2)
        weight, constant = weight.to(device, dtype), bias.to(device, dtype)
        constant = constant + weight @ offset
        sums = torch.zeros(3, dtype=dtype, device=device)
        size = max(1, BLOCK // (2 * k + d))
        for rows in torch.split(torch.arange(len(features), device=device), size):
            x, y, side = features[rows].to(dtype) - offset, labels[rows], half[rows]
            reach = torch.linalg.vector_norm(x, dim=1, keepdim=True)
            near = torch.where(
                side[:, None] == 0,
                x @ centres[0].T - square[0] / 2,
                x @ centres[1].T - square[1] / 2,
            ).masked_fill(~there[side], -torch.inf)
            widest = square[side].amax(1, keepdim=True)
            centre = _guesses(near, error * (reach * widest.sqrt() + widest))
            most = torch.linalg.vector_norm(weight, dim=1).max()
            head = _guesses(x @ weight.T + constant, error * (reach * most + constant.abs().max()))
            own = torch.arange(len(y), device=device)
            sums += torch.stack([
                1 - (centre * head).sum(1), head[own, y], centre[own, y]
            ]).sum(1)  # fmt: skip
        sums = total(sums) / len(whole_labels(labels, shard))
    return Decisions(*sums.unbind())


def least_squares_duality(
    features: Tensor, labels: Tensor, num_classes: int, *, shard: Shard | None = None
) -> Tensor:
    """Distance of a least-squares head from the class means, for encoders without a head.

    The head W = M' (S_T + penalty)^-1 is fitted to one half of each class and compared with the
    means of the other, both ways. It is an anisotropy of the features, not an outcome of training:
    0 where the total covariance acts as a multiple of the identity on the span of the means.
    Webb and Lowe (1990); Han, Papyan and Donoho, arXiv:2106.02073; the two halves are ours.

    Args:
        features: [n, D].
        labels: [n], integers in [0, K).
        num_classes: K.
        shard: Where the samples stand in the whole set; None if they are the whole set.

    Returns:
        A scalar in [0, 4]; nan with fewer than `SAMPLES_PER_DIMENSION` D samples in a half.

    Raises:
        ValueError: features and labels that do not fit, or a class with one sample.
    """
    check_features(features, labels, num_classes, sharded=shard is not None)
    labels, d = labels.long(), features.shape[1]
    half, total = _halves(labels, shard)
    samples = len(whole_labels(labels, shard))
    dtype = wide(features.device)
    if samples // 2 < SAMPLES_PER_DIMENSION * d:
        return torch.full((), math.nan, dtype=dtype, device=features.device)
    with exact_arithmetic(features.device):
        heads, means = [], []
        for side in (0, 1):
            here = half == side
            mean, count = _means(features, labels, here, num_classes, total)
            centred = mean - mean.mean(0)
            within = within_covariance(features, labels, mean, count, chosen=here, reduce=total)
            spread = within + centred.T @ centred / num_classes
            spread.diagonal().add_(PENALTY * spread.diagonal().mean())
            heads.append(torch.linalg.solve(spread, centred.T).T)
            means.append(centred)
        found = [
            2 - 2 * (a / a.norm() * (b / b.norm())).sum()
            for a, b in zip(heads, means[::-1], strict=True)
        ]
        return torch.stack(found).mean()


def _halves(labels: Tensor, shard: Shard | None) -> tuple[Tensor, Reduce]:
    """Which half [n] each sample is in, 0 or 1, and what sums over processes."""
    everyone = whole_labels(labels, shard)
    first = half_of_each_class(everyone)
    if shard is None:
        return (~first).long(), lambda tensor: tensor
    return (~first).long()[shard.rows.to(first.device)], shard.reduce


def _means(
    features: Tensor, labels: Tensor, here: Tensor, k: int, total: Reduce
) -> tuple[Tensor, Tensor]:
    """Means [K, D] and counts [K] of the chosen samples of all processes."""
    dtype = wide(features.device)
    sums = torch.zeros(k, features.shape[1], dtype=dtype, device=features.device)
    rows = here.nonzero()[:, 0]
    for some in torch.split(rows, max(1, BLOCK // features.shape[1])):
        sums.index_add_(0, labels[some], features[some].to(dtype))
    count = torch.bincount(labels[rows], minlength=k).to(sums)
    sums, count = total(sums), total(count)
    return sums / count.clamp(min=1)[:, None], count


def _guesses(score: Tensor, slack: Tensor) -> Tensor:
    """Probabilities [n, K] of guessing among the largest scores of each row."""
    tied = score >= score.amax(1, keepdim=True) - slack
    return tied / tied.sum(1, keepdim=True)
