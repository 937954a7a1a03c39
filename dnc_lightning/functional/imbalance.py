"""Class means and heads of a training set with many images of some classes and few of others."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dnc_lightning.functional._class_geometry import ClassGeometry
from dnc_lightning.functional._gram import centred_gram


@dataclass(frozen=True)
class MinorityMeans:
    """Class means of the minority classes beside all; scalars but the last, nan if undefined."""

    distance: Tensor  # median squared distance of two of them, over that of any two: 0 at collapse
    unresolved: Tensor  # share of their pairs whose means are not told apart
    unresolved_others: Tensor  # share of the pairs of majority classes
    excess: Tensor  # difference of the two shares in its standard errors, were both the same
    growth: Tensor  # slope of log |mean| over log count; -1/4 in a large orthogonal frame
    lengths: Tensor  # [K] of the centred means; 0 where noise alone would be as long


@dataclass(frozen=True)
class MinorityRows:
    """Rows of a head, centred over classes; scalars but the last, nan if undefined."""

    cosine: Tensor  # least over pairs of minority classes: 1 at collapse
    length: Tensor  # least of a minority class, over the median of all: 0 at collapse
    growth: Tensor  # slope of log |row| over log count; 1/4 in a large orthogonal frame
    lengths: Tensor  # [K] of the centred rows


def minority(counts: Tensor) -> Tensor:
    """Which classes [K] are the minority: below the geometric mean of the largest and the smallest.

    Args:
        counts: [K] training samples, at least 1 each.

    Returns:
        A mask; all False where all classes are of one size.

    Raises:
        ValueError: counts that are not [K] numbers of at least 1.
    """
    if counts.ndim != 1 or not len(counts) or not bool((counts >= 1).all()):
        raise ValueError(f"counts must be [K] numbers of at least 1, got {counts.tolist()}.")
    logs = counts.double().log()
    middle = (logs.max() + logs.min()) / 2
    return (logs < middle) & bool(logs.max() > logs.min())


def minority_means(geometry: ClassGeometry, counts: Tensor) -> MinorityMeans:
    """Whether the class means of the minority fall together.

    Fang et al., PNAS 2021 (arXiv:2101.12699), show it of the rows of a head beyond a ratio of the
    counts that depends on the weight decay, so that no ratio can be the alarm; the measures of
    means are derived here. Means of few samples are short by themselves, so take distances of a
    probe set in which all classes have as many.

    Args:
        geometry: Of K classes, unbiased.
        counts: [K] training samples of each.

    Raises:
        ValueError: as `minority`, or counts of other classes.
    """
    few = _minority_of(counts, len(geometry.distance2)).to(geometry.distance2.device)
    both, none = _pairs(few), _pairs(~few)
    every = _pairs(torch.ones_like(few))
    far = geometry.distance2
    lengths = centred_gram(far).diagonal().clamp(min=0).sqrt()
    lost = (~geometry.resolved).to(far)
    rare, frequent, shared = lost[both].mean(), lost[none].mean(), lost[both | none].mean()
    # Of pairs, not ordered pairs, as if they were independent.
    spread = (shared * (1 - shared) * (2 / both.sum() + 2 / none.sum())).sqrt()
    return MinorityMeans(
        distance=_median(far[both]) / _median(far[every]),
        unresolved=rare,
        unresolved_others=frequent,
        excess=torch.where(rare == frequent, 0.0, (rare - frequent) / spread),
        growth=growth(lengths, counts),
        lengths=lengths,
    )


def minority_rows(weight: Tensor, counts: Tensor) -> MinorityRows:
    """Whether the rows of a head fall together for the minority, or vanish.

    Rows are centred over classes, for softmax does not see what all have in common. Fang et al.,
    arXiv:2101.12699, for cross-entropy; Dang et al., arXiv:2301.00437, for squared errors, where
    rows of the smallest classes are 0, and a cosine says nothing.

    Args:
        weight: [K, D].
        counts: [K] training samples of each class.

    Raises:
        ValueError: as `minority`, or counts of other classes.
    """
    few = _minority_of(counts, len(weight)).to(weight.device)
    rows = weight - weight.mean(0)
    length = torch.linalg.vector_norm(rows, dim=1)
    unit = rows / length.where(length > 0, torch.nan)[:, None]
    cosine = (unit @ unit.T)[_pairs(few)]
    nothing = length.new_tensor(math.nan)
    return MinorityRows(
        cosine=cosine.min() if len(cosine) else nothing,
        length=length[few].min() / length.median() if bool(few.any()) else nothing,
        growth=growth(length, counts),
        lengths=length,
    )


def growth(lengths: Tensor, counts: Tensor) -> Tensor:
    """Slope of log length over log count, by least squares over classes; nan where a length is 0.

    Args:
        lengths: [K], at least 0.
        counts: [K] training samples; not all of one size, else nan.
    """
    x = counts.to(lengths).log()
    x = x - x.mean()
    spread = x.square().sum()
    y = lengths.where(lengths > 0, torch.nan).log()
    return (x * (y - y.mean())).sum() / spread.where(spread > 0, torch.nan)


def orthogonal_frame(
    counts: Tensor, head_decay: float, feature_decay: float
) -> tuple[Tensor, Tensor]:
    """Lengths that squared errors with weight decay lead to: the general orthogonal frame.

    Dang et al., arXiv:2301.00437, of free features H [D, N] and a head W without bias, K <= D:
    the minimum of |W H - Y|^2 / (2 N) + head_decay |W|^2 / 2 + feature_decay |H|^2 / 2 has
    orthogonal rows w_k, all features of a class in one place h_k along w_k. In a large class rows
    grow as the fourth root of its count, and features shrink as it; both are 0 for n_k <= N^2
    head_decay feature_decay. Lengths are not proportional to the counts.

    Args:
        counts: [K] samples n_k of each class, N their sum.
        head_decay: Weight decay of W, above 0.
        feature_decay: Of H, above 0.

    Returns:
        |w_k| and |h_k|, each [K].

    Raises:
        ValueError: as `minority`, or a decay that is not above 0.
    """
    minority(counts)
    if not (head_decay > 0 and feature_decay > 0):
        raise ValueError(f"decays must be above 0, got {head_decay} and {feature_decay}.")
    n = counts.double()
    share = (1 - n.sum() * (head_decay * feature_decay / n).sqrt()).clamp(min=0)
    head = (share * (feature_decay * n / head_decay).sqrt()).sqrt()
    feature = (share * (head_decay / (feature_decay * n)).sqrt()).sqrt()
    return head, feature


def fitted_frame(lengths: Tensor, counts: Tensor) -> tuple[Tensor, float]:
    """The general orthogonal frame whose rows are nearest to these lengths, and how near.

    Squared lengths of its rows are a sqrt(n_k) - b, where not 0: least squares of a and b >= 0.

    Args:
        lengths: [K] of the rows of a head.
        counts: [K] training samples.

    Returns:
        Lengths [K] of the frame, and the share of the variance of the lengths that they explain,
        nan where all are alike.
    """
    root, square = counts.double().sqrt(), lengths.double().square()
    x = torch.stack([root, -torch.ones_like(root)], 1)
    slope, offset = torch.linalg.lstsq(x, square[:, None]).solution[:, 0].tolist()
    if offset < 0:
        slope, offset = float((root * square).sum() / root.square().sum()), 0.0
    found = (slope * root - offset).clamp(min=0).sqrt()
    spread = lengths.double().var(correction=0)
    rest = (lengths.double() - found).square().mean()
    return found, float(1 - rest / spread.where(spread > 0, torch.nan))


def _minority_of(counts: Tensor, classes: int) -> Tensor:
    if counts.shape != (classes,):
        raise ValueError(
            f"counts must be [{classes}], one number for each class, got {list(counts.shape)}."
        )
    return minority(counts)


def _pairs(of: Tensor) -> Tensor:
    """Ordered pairs [K, K] of two different chosen classes."""
    return (of[:, None] & of).fill_diagonal_(False)


def _median(values: Tensor) -> Tensor:
    known = values[values.isfinite()]
    return known.median() if len(known) else values.new_tensor(math.nan)
