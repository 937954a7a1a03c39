"""Neural collapse of class means: NC1 and NC2, and what noise alone would give."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dnc_lightning.functional._checks import check_features
from dnc_lightning.functional._class_geometry import ClassGeometry
from dnc_lightning.functional._covariance import within_covariance
from dnc_lightning.functional._gram import centred_gram
from dnc_lightning.functional._tiles import Reduce, exact_arithmetic, wide
from dnc_lightning.functional.spectrum import effective_rank
from dnc_lightning.functional.unbiased import RESOLUTION

BLOCK = 2**23
"""Numbers of a block of samples that are held at once, in float64."""

THIN = 1e-5
"""Share of the features' squared lengths on the means, within classes, below which float32 leaves
less than four digits of it."""


@dataclass(frozen=True)
class Simplex:
    """How near the class means are to a simplex equiangular tight frame (ETF).

    Means are centred on their unweighted mean. Of unbiased moments nothing is pulled towards the
    simplex by few samples; there angles are those of the means that are told from the centre, by 3
    standard errors, and nan if these are less than half. Two means are always a simplex.
    """

    within_share: Tensor  # tr S_W / (tr S_W + tr S_B): 0 at collapse, 1 of noise
    equinorm: Tensor  # standard deviation over mean of the norms: 0 at collapse
    equiangular: Tensor  # standard deviation of the cosines: 0 at collapse
    coherence: Tensor  # mean |cos + 1 / (K - 1)|: 0 at collapse
    etf_distance: Tensor  # of the Gram matrices, each of norm 1, in [0, sqrt 2)
    # GNC2: mean log of 1 / distance of directions, less that of the ETF; pairs whose directions are
    # not told apart are left out, and it is nan if these are more than half
    log_energy: Tensor
    log_energy_spread: Tensor  # standard deviation of it over pairs
    told: Tensor  # means that are told from the centre


@dataclass(frozen=True)
class SimplexFloor:
    """What K means of white noise would give in D dimensions, n samples a class; derived here."""

    nc1: float  # plug-in; nan for D <= K
    equinorm: float
    equiangular: float
    coherence: float
    etf_distance: float
    etf_least: float  # of any means: 0 where K - 1 <= D


def simplex(geometry: ClassGeometry) -> Simplex:
    """Measure NC1, as a share of variance, and NC2 from the distances of class means.

    Papyan, Han and Donoho, *Prevalence of neural collapse during the terminal phase of deep
    learning training*, PNAS 2020 (equinorm, equiangular, coherence); Zhu et al., arXiv:2105.02375
    (ETF distance); Liu et al., arXiv:2303.06484, and Wu and Papyan, arXiv:2405.17767 (log
    energy). The unbiased Gram matrix of means is derived here: -P D P / 2 of the unbiased squared
    distances D.

    Args:
        geometry: Of `class_geometry`, best with unbiased=True: means of few samples lie near a
            simplex because their noise does.

    Returns:
        Scalars, as wide as the geometry's.
    """
    gram = centred_gram(geometry.distance2)
    k = len(gram)
    total = gram.diagonal().mean()  # tr S_B
    within = geometry.variance.mean()
    norm = gram.diagonal().clamp(min=0).sqrt()
    told = gram.diagonal() > _noise(geometry)
    cosine = (gram / torch.outer(norm, norm))[told][:, told]
    if int(told.sum()) < max(2, k / 2):
        cosine = torch.full_like(gram, math.nan)
    off = cosine[~torch.eye(len(cosine), dtype=torch.bool, device=gram.device)]
    frame = (torch.eye(k).to(gram) - 1 / k) / math.sqrt(k - 1)
    apart2 = 2 - 2 * off
    energy = -apart2[apart2 > 0].log() / 2  # unbiased, two directions may be nearer than one is
    if 2 * len(energy) < len(apart2):
        energy = torch.full_like(off, math.nan)
    return Simplex(
        within_share=within / (within + total),
        equinorm=norm.std(correction=0) / norm.mean(),
        equiangular=off.std(correction=0),
        coherence=(off + 1 / (k - 1)).abs().mean(),
        etf_distance=torch.linalg.matrix_norm(gram / torch.linalg.matrix_norm(gram) - frame),
        log_energy=energy.mean() + math.log(2 * k / (k - 1)) / 2,
        log_energy_spread=energy.std(correction=0),
        told=told.sum(),
    )


def _noise(geometry: ClassGeometry) -> Tensor:
    """Squared length [K] that a mean at the centre may seem to have by noise; 0 if not unbiased."""
    if not geometry.unbiased:
        return torch.zeros_like(geometry.variance)
    # Twice the squared norm of the covariance of a mean is the variance of its squared length.
    return RESOLUTION * (2 * geometry.second_trace.clamp(min=0)).sqrt() / geometry.count


def nc1(
    features: Tensor,
    labels: Tensor,
    geometry: ClassGeometry,
    *,
    reduce: Reduce | None = None,
) -> Tensor:
    """Within-class over between-class variability, tr(S_W S_B^+) / K.

    Papyan et al., PNAS 2020, figure 6; their notebook plots it without the division by K. One
    product of the features with the means, and no D x D matrix: S_B^+ acts on the span of the
    means alone. Classes count alike, whatever their sizes.

    Args:
        features: [n, D], of this shard.
        labels: [n], integers in [0, K).
        geometry: Plug-in moments of all shards.
        reduce: Sums over all shards.

    Returns:
        A scalar, 0 at collapse; plug-in, so that few samples lower it. nan where all means are one.

    Raises:
        ValueError: features and labels that do not fit, or unbiased moments.
    """
    if geometry.unbiased:
        raise ValueError("NC1 has no unbiased form: pass plug-in moments.")
    k = len(geometry.mean)
    check_features(features, labels, k, sharded=True)
    labels, double = labels.long(), wide(features.device)
    with exact_arithmetic(features.device):
        mean = geometry.mean.to(double)
        centred = mean - mean.mean(0)
        values, axes = torch.linalg.eigh(centred @ centred.T)
        kept = values > values[-1].clamp(min=0) * k * torch.finfo(double).eps
        if not bool(kept.any()):
            return torch.full_like(values[0], math.nan)
        # S_B^+ = K M' (G^+)^2 M, so that the trace over K is the mean of |G^+ M r|^2 of residuals.
        onto = (axes[:, kept] / values[kept]).T @ centred  # [rank, D]
        weight = 1 / (k * geometry.count.to(double).clamp(min=1))
        kind = features.dtype if features.dtype.itemsize >= 4 else torch.float32
        value = _mean_square(features, labels, mean, onto, weight, kind, reduce)
        length2 = (geometry.variance.to(mean) + mean.square().sum(1)).mean()
        if kind != double and bool(value < THIN * length2 * onto.square().sum()):
            value = _mean_square(features, labels, mean, onto, weight, double, reduce)
    return value


def within_rank(
    features: Tensor,
    labels: Tensor,
    geometry: ClassGeometry,
    *,
    reduce: Reduce | None = None,
) -> Tensor:
    """Effective rank of the covariance within classes: what is left for other tasks.

    exp of the entropy of its eigenvalues (Roy and Vetterli, EUSIPCO 2007), classes alike. One D x D
    sum and its eigenvalues.

    Args:
        features: [n, D], of this shard.
        labels: [n], integers in [0, K).
        geometry: Of all shards.
        reduce: Sums over all shards.

    Returns:
        A scalar from 1 to D; nan where classes are points.
    """
    check_features(features, labels, len(geometry.mean), sharded=True)
    mean = geometry.mean.to(wide(features.device))
    with exact_arithmetic(features.device):
        within = within_covariance(features, labels.long(), mean, geometry.count, reduce=reduce)
        return effective_rank(torch.linalg.eigvalsh(within).clamp(min=0).flip(0))


def _mean_square(
    features: Tensor,
    labels: Tensor,
    mean: Tensor,
    onto: Tensor,
    weight: Tensor,
    dtype: torch.dtype,
    reduce: Reduce | None,
) -> Tensor:
    """Weighted sum over all shards of |onto (x - mean)|^2, the product computed in `dtype`."""
    size = onto.abs().max()  # on the scale of 1, which float32 holds
    turn = (onto / size).to(dtype).T
    own = mean.to(dtype) @ turn  # [K, rank]
    value = weight.new_zeros(())
    rows = max(1, BLOCK // (len(onto) + features.shape[1]))
    for x, y in zip(torch.split(features, rows), torch.split(labels, rows), strict=True):
        along = torch.addmm(own[y], x.to(dtype), turn, beta=-1)
        value += along.square_().sum(1).to(weight) @ weight[y]
    found: Tensor = (value if reduce is None else reduce(value)) * size.square()
    return found


def simplex_floor(classes: int, dim: int, samples: float) -> SimplexFloor:
    """What means of white noise would give; see `SimplexFloor`.

    Args:
        classes: K.
        dim: D.
        samples: n, the harmonic mean over the classes.
    """
    k, d = classes, dim
    rank = 2 - 2 * math.sqrt(d / (k - 1)) if d < k - 1 else 0.0
    return SimplexFloor(
        nc1=(samples - 1) * (k - 1) / (d - k) if d > k else math.nan,
        equinorm=1 / math.sqrt(2 * d),
        equiangular=1 / math.sqrt(d),
        coherence=math.sqrt(2 / (math.pi * d)),
        etf_distance=math.sqrt(k / d),
        etf_least=math.sqrt(max(0.0, rank)),
    )
