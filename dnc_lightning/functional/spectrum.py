"""How many directions features use: ranks and decay of their spectrum, and those of noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dnc_lightning.functional._scale import rounding, unit_scale
from dnc_lightning.functional._tiles import TILE_BYTES, exact_arithmetic, wide
from dnc_lightning.functional._whole import whole
from dnc_lightning.functional.few_shot import Shard

RANKME_EPSILON = 1e-7
"""Added to every share of the singular values, as published."""

ALPHA_RANKS = (4, 100)
"""First and last eigenvalue that the decay is fitted to, as in its authors' code."""

NOISE_ANGLES = 2**14
"""Points of the numerical integral over the spectrum of noise."""


@dataclass(frozen=True)
class Spectrum:
    """Eigenvalues of a sum of x x' over samples, in descending order, r = min(N, D) of them.

    The features are in units in which they are about 1 if they are far from that, so only ratios
    of eigenvalues are to be used.
    """

    uncentred: Tensor  # [r], the squared singular values of the features
    centred: Tensor  # [r], the same with the mean subtracted; nan if that leaves rounding alone
    deviation: Tensor  # [D], root of each unit's mean squared deviation
    mean: Tensor  # [D]
    rounding: float  # relative size of what is rounding, see `_scale.rounding`


def feature_spectrum(features: Tensor, *, shard: Shard | None = None) -> Spectrum:
    """Compute the spectrum of features, from sums over samples.

    A D x D sum, or where there are fewer samples than dimensions the N x N matrix of products of
    features that are gathered. In double precision, so that singular values are known to 1e-8 of
    the largest.

    Args:
        features: [n, D], floating point.
        shard: Where the samples stand in the whole set; None if they are the whole set.

    Returns:
        The same on every process.

    Raises:
        ValueError: features that are no matrix, or no sample.
    """
    if features.ndim != 2 or not features.is_floating_point():
        raise ValueError(
            "features must be floating point of shape [N, D], got "
            f"{features.dtype} of shape {list(features.shape)}. Pool or flatten them first."
        )
    samples = len(features) if shard is None else len(shard.labels)
    if samples == 0:
        raise ValueError("features must hold at least one sample, got shape [0, D].")
    few = samples < features.shape[1]
    if few:
        features, shard = whole(features, shard), None
    device, error = features.device, rounding(features.dtype)
    dtype = wide(device)
    with exact_arithmetic(device):
        scaled, _ = unit_scale(features, lambda t: t if shard is None else shard.reduce(t))

        def total(tensor: Tensor) -> Tensor:
            return tensor if shard is None else shard.reduce(tensor)

        mean = total(scaled.sum(0, dtype=dtype)) / samples
        if few:
            centred = scaled.to(dtype) - mean
            square, gram = centred.square().sum(0), centred @ centred.T
            # (x + c)(y + c) of the mean c
            along = centred @ mean
            raw = gram + along[:, None] + along + mean @ mean
        else:
            d = len(mean)
            gram = torch.zeros(d, d, dtype=dtype, device=device)
            for rows in torch.split(scaled, max(1, TILE_BYTES // (8 * d))):
                centred = rows.to(dtype) - mean
                gram.addmm_(centred.T, centred)
            gram = total(gram)
            square, raw = gram.diagonal(), gram + samples * torch.outer(mean, mean)
        deviation = (square / samples).sqrt()
        nothing = deviation.square().sum() <= error**2 * mean.square().sum()
        return Spectrum(
            uncentred=_eigenvalues(raw),
            centred=_eigenvalues(gram).where(~nothing, torch.nan),
            deviation=deviation,
            mean=mean,
            rounding=error,
        )


def rankme(eigenvalues: Tensor) -> Tensor:
    """The exponential of the entropy of the singular values' shares, as RankMe defines it.

    Published for uncentred features (arXiv:2210.02885); an offset that they share lowers it, so
    give the value with and without. It grows with the number of samples: compare like with like,
    and with `noise_eigenvalues` of the same size.

    Args:
        eigenvalues: [r] of `Spectrum`; the squares of the singular values.

    Returns:
        From 1 to about r; nan if all are 0 or one is nan.
    """
    singular = eigenvalues.sqrt()
    share = singular / singular.sum() + RANKME_EPSILON
    rank: Tensor = (-share * share.log()).sum().exp()
    return rank


def effective_rank(eigenvalues: Tensor) -> Tensor:
    """The exponential of the entropy of the eigenvalues' shares, that is, of the variances'.

    The effective rank of Roy and Vetterli (2007) of the covariance matrix if `eigenvalues` are
    centred. `rankme` is that of the features themselves, whose square roots even out the shares.

    Returns:
        From 1 to r; nan if all are 0 or one is nan.
    """
    share = eigenvalues / eigenvalues.sum()
    rank: Tensor = torch.special.entr(share).sum().exp()
    return rank


def alpha_req(eigenvalues: Tensor) -> Tensor:
    """The exponent alpha of the decay rank^-alpha of the eigenvalues of the covariance.

    Least squares of the logarithm over the ranks 4 to 100, with weights 1/rank: what the code of
    its authors does (Agrawal et al., NeurIPS 2022), whose paper names no range. Good near 1 they
    say; the range matters more than most encoders do.

    Args:
        eigenvalues: [r], descending, centred.

    Returns:
        nan where fewer than 100 eigenvalues are more than rounding.
    """
    first, last = ALPHA_RANKS
    tiny = eigenvalues.max() * torch.finfo(eigenvalues.dtype).eps * len(eigenvalues)
    if int((eigenvalues > tiny).sum()) < last:
        return eigenvalues.new_tensor(torch.nan)
    rank = torch.arange(first, last + 1, dtype=eigenvalues.dtype, device=eigenvalues.device)
    x, y, weight = rank.log(), eigenvalues[first - 1 : last].log(), 1 / rank
    x = x - (weight * x).sum() / weight.sum()
    return -(weight * x * y).sum() / (weight * x * x).sum()


def noise_eigenvalues(samples: int, dim: int) -> Tensor:
    """Eigenvalues that white noise of this size has, [min(N, D)], descending, float64.

    The quantiles of the Marchenko-Pastur law, which a draw of independent Gaussian features comes
    close to: a floor or a ceiling without a random number.

    Args:
        samples: N.
        dim: D.
    """
    small, large = sorted((samples, dim))
    ratio = small / large
    # Eigenvalue 1 + ratio + 2 sqrt(ratio) cos(angle), of density 2 sin(angle)^2 / (pi eigenvalue).
    angle = (torch.arange(NOISE_ANGLES, dtype=torch.float64) + 0.5) * (math.pi / NOISE_ANGLES)
    value = 1 + ratio + 2 * math.sqrt(ratio) * angle.cos()
    reached = (angle.sin().square() / value).cumsum(0)
    wanted = (torch.arange(small, dtype=torch.float64) + 0.5) / small * reached[-1]
    return large * value[torch.searchsorted(reached, wanted).clamp(max=NOISE_ANGLES - 1)]


def _eigenvalues(matrix: Tensor) -> Tensor:
    """In descending order, those below 0 by rounding as 0; nan if an entry is not finite."""
    if not bool(matrix.isfinite().all()):
        return torch.full_like(matrix[0], torch.nan)
    values: Tensor = torch.linalg.eigvalsh(matrix)
    return values.clamp(min=0).flip(0)
