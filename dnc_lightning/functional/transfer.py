"""Scores that others predict transfer with: H-score, LogME and the parts of NCTI."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from dnc_lightning.functional._checks import check_features
from dnc_lightning.functional._tiles import exact_arithmetic, wide

FIXED_POINT_STEPS = 1000
"""Most steps to the precisions of LogME; ten do, save for noise that has nothing of the classes."""

NCTI_COMPONENTS = 64
"""Principal components that NCTI is computed on, as published."""


class Ncti(NamedTuple):
    """The parts of NCTI, which its authors combine after scaling each over all models."""

    features: Tensor  # nuclear norm of the features along the discriminant axes
    posterior: Tensor  # mean over samples of the posterior of the true class
    spread: Tensor  # log of the sum over classes of the nuclear norm of their posteriors


class _Spectrum(NamedTuple):
    left: Tensor  # [N, r] orthonormal, samples along the axes
    values: Tensor  # [r] singular values, positive


def h_score(features: Tensor, labels: Tensor, num_classes: int | None = None) -> Tensor:
    """Between-class over total variance, summed over all axes: tr(S_T^-1 S_B).

    Bao et al., *An Information-Theoretic Approach to Transferability*, ICIP 2019.

    Args:
        features: [N, D].
        labels: [N], integers.
        num_classes: Number C of classes; default the largest label + 1.

    Returns:
        In [0, min(C - 1, D)], float64 where the device has it; nan where N <= D + 1, where every
        set of features reaches C - 1, and where all features are the same.

    Raises:
        ValueError: features and labels that do not fit.
    """
    classes = check_features(features, labels, num_classes)
    with exact_arithmetic(features.device):
        centred = _centred(features)
        found = _spectrum(centred)
        if len(features) <= features.shape[1] + 1 or not len(found.values):
            return found.values.new_tensor(torch.nan)
        sums = _one_hot(labels, classes, found.left).T @ found.left  # [C, r]
        counts = torch.bincount(labels.long(), minlength=classes).clamp(min=1)
        return (sums.square().sum(1) / counts).sum()


def logme(features: Tensor, labels: Tensor, num_classes: int | None = None) -> Tensor:
    """Log evidence of a linear model of the classes, per sample: mean over one-vs-rest targets.

    You et al., *LogME: Practical Assessment of Pre-trained Models for Transfer Learning*, ICML
    2021. The widely used code counts D terms of which it sums rank(F), so that its values grow
    with the scale of the features wherever N < D; here the rank stands on both sides.

    Args:
        features: [N, D], taken as they are: not centred.
        labels: [N], integers.
        num_classes: Number C of classes; default the largest label + 1.

    Returns:
        A scalar, higher for features that say more; nan where all features are zero.

    Raises:
        ValueError: features and labels that do not fit.
    """
    classes = check_features(features, labels, num_classes)
    with exact_arithmetic(features.device):
        found = _spectrum(features.to(wide(features.device)))
        if not len(found.values):
            return found.values.new_tensor(torch.nan)
        square, targets = found.values.square(), _one_hot(labels, classes, found.left)
        along = (found.left.T @ targets).square()  # [r, C]
        rest = (targets.square().sum(0) - along.sum(0)).clamp(min=0)  # outside the features' span
        return _evidence(square[:, None], along, rest, len(features)).mean()


def ncti(features: Tensor, labels: Tensor, num_classes: int | None = None) -> Ncti:
    """The three parts of NCTI, by a linear discriminant analysis of the first 64 components.

    Wang et al., *How Far Pre-trained Models Are from Neural Collapse on the Target Dataset Informs
    their Transferability*, ICCV 2023, without its shrinkage.

    Args:
        features: [N, D].
        labels: [N], integers.
        num_classes: Number C of classes; default the largest label + 1.

    Returns:
        Scalars; nan where the within-class covariance has no inverse at all.

    Raises:
        ValueError: features and labels that do not fit.
    """
    classes = check_features(features, labels, num_classes)
    with exact_arithmetic(features.device):
        centred = _centred(features)
        found = _spectrum(centred)
        r = min(NCTI_COMPONENTS, len(found.values))
        x = found.left[:, :r] * found.values[:r]
        hot = _one_hot(labels, classes, x)
        counts = hot.sum(0).clamp(min=1)
        means = hot.T @ x / counts[:, None]
        within = x - means[labels.long()]
        values, axes = torch.linalg.eigh(within.T @ within / len(x))
        eps = torch.finfo(values.dtype).eps
        kept = values > values.max() * len(x) * eps if r else values > 0
        if r:  # what is left of samples on their means is of the size of rounding
            kept &= values > (16 * eps * found.values[0]).square() / len(x)
        if not bool(kept.any()):
            nan = x.new_tensor(torch.nan)
            return Ncti(nan, nan, nan)
        whitened = x @ (axes[:, kept] * values[kept].rsqrt())
        centres = hot.T @ whitened / counts[:, None]
        spread = counts.sqrt()[:, None] * centres
        basis = torch.linalg.svd(spread, full_matrices=False).Vh[: classes - 1]
        low = whitened @ basis.T
        log_prior = (counts / counts.sum()).log()
        posterior = (log_prior - torch.cdist(whitened, centres).square() / 2).softmax(1)
        norms = [
            torch.linalg.matrix_norm(posterior[labels == k], "nuc")
            for k in range(classes)
            if bool((labels == k).any())
        ]
        return Ncti(
            torch.linalg.matrix_norm(low, "nuc"),
            posterior.gather(1, labels.long()[:, None]).mean(),
            torch.stack(norms).sum().log(),
        )


def _evidence(square: Tensor, along: Tensor, rest: Tensor, samples: int) -> Tensor:
    """Log evidence [C] at the precisions of the fixed point; see `logme`.

    Args:
        square: [r, 1] squared singular values.
        along: [r, C] squared parts of the targets along the axes.
        rest: [C] squared norm of the targets outside of them.
        samples: N.
    """
    tiny = torch.finfo(square.dtype).tiny
    alpha, beta = torch.ones_like(rest), torch.ones_like(rest)
    for _ in range(FIXED_POINT_STEPS):
        ratio = alpha / beta
        used = (square / (square + ratio)).sum(0)
        weights = (square * along / (square + ratio).square()).sum(0)
        residual = (along / (1 + square / ratio).square()).sum(0) + rest
        new_alpha = used / weights.clamp(min=tiny)
        new_beta = (samples - used) / residual.clamp(min=tiny)
        moved = ((new_alpha / new_beta - ratio).abs() / ratio).max()
        alpha, beta = new_alpha, new_beta
        if moved < 1e-9:
            break
    ratio = alpha / beta
    weights = (square * along / (square + ratio).square()).sum(0)
    residual = (along / (1 + square / ratio).square()).sum(0) + rest
    logs = len(square) * alpha.log() + samples * beta.log() - (alpha + beta * square).log().sum(0)
    return (
        (logs - beta * residual - alpha * weights - samples * math.log(2 * math.pi)) / 2 / samples
    )


def _centred(features: Tensor) -> Tensor:
    exact = features.to(wide(features.device))
    return exact - exact.mean(0)


def _spectrum(features: Tensor) -> _Spectrum:
    """Singular vectors and values above rounding, largest first."""
    left, values, _ = torch.linalg.svd(features, full_matrices=False)
    limit = torch.finfo(values.dtype).eps * max(features.shape)
    kept = values > values.max() * limit
    return _Spectrum(left[:, kept], values[kept])


def _one_hot(labels: Tensor, classes: int, like: Tensor) -> Tensor:
    return one_hot(labels.long(), classes).to(like)
