"""Health of features sample by sample and unit by unit, without labels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dnc_lightning.functional._scale import times_power_of_two, unit_rows, unit_scale
from dnc_lightning.functional._tiles import exact_arithmetic, wide
from dnc_lightning.functional._whole import chosen, evenly_spaced
from dnc_lightning.functional.few_shot import Shard
from dnc_lightning.functional.spectrum import Spectrum

UNIFORMITY_SAMPLES = 1024
"""Samples whose pairs are compared: half a million distances."""


@dataclass(frozen=True)
class Norms:
    """Lengths of features."""

    mean: Tensor  # scalar
    spread: Tensor  # scalar, standard deviation over mean; nan where all are 0


def feature_norms(features: Tensor, *, shard: Shard | None = None) -> Norms:
    """Mean and relative spread of the lengths of features [n, D] of all processes."""
    samples = len(features) if shard is None else len(shard.labels)

    def total(tensor: Tensor) -> Tensor:
        return tensor if shard is None else shard.reduce(tensor)

    with exact_arithmetic(features.device):
        scaled, exponent = unit_scale(features, total)
        norm = torch.linalg.vector_norm(scaled, dim=1, dtype=wide(features.device))
        mean = total(norm.sum()) / samples
        deviation = (total((norm - mean).square().sum()) / samples).sqrt()
        return Norms(times_power_of_two(mean, -exponent), deviation / mean)


def dead_units(spectrum: Spectrum) -> Tensor:
    """Share of the units that have the same value for all samples, up to rounding."""
    still = spectrum.deviation <= spectrum.rounding * spectrum.mean.abs()
    return still.to(spectrum.mean.dtype).mean()


def uniformity(features: Tensor, *, shard: Shard | None = None) -> Tensor:
    """The logarithm of the mean of exp(-2 |x - y|^2) over pairs of directions of features.

    Wang and Isola, arXiv:2005.10242: 0 where all directions are one, `sphere_uniformity` where they
    fill the sphere. Over all pairs of distinct samples, of 1,024 that are evenly spaced in the set
    where there are more.

    Args:
        features: [n, D].
        shard: Where the samples stand in the whole set; None if they are the whole set.

    Returns:
        Scalar, at most 0; nan for one sample.
    """
    samples = len(features) if shard is None else len(shard.labels)
    places = evenly_spaced(samples, UNIFORMITY_SAMPLES)
    number = len(places)
    with exact_arithmetic(features.device):
        direction = unit_rows(chosen(features, places, shard))
        square = direction.square().sum(1)
        pairs = (direction @ direction.T).mul_(-2).add_(square[:, None]).add_(square)
        pairs.clamp_(min=0).mul_(-2).exp_().fill_diagonal_(0)
        return (pairs.sum(dtype=wide(features.device)) / (number * (number - 1))).log()


def sphere_uniformity(dim: int) -> float:
    """The uniformity of directions that fill the sphere of R^D, near -4 + 8/D.

    E exp(4 x.y) of two independent directions is the series 0F1(D/2; 4).
    """
    term, series = 1.0, 1.0
    for k in range(60):
        term *= 4 / ((k + 1) * (dim / 2 + k))
        series += term
    return math.log(series) - 4
