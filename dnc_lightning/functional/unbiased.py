"""From moments of the samples to estimates of the population's (docs/theory.md, section 3)."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from dnc_lightning.functional._class_geometry import ClassGeometry

RESOLUTION = 3.0
"""Standard errors by which two class means must differ before their pair has a CDNV."""

MIN_SAMPLES = 4
"""Samples that the unbiased second trace needs."""


def debias(geometry: ClassGeometry) -> ClassGeometry:
    """Turn plug-in moments into unbiased estimates of the population's.

    With n samples per class the plug-in distance is too large by v_i/n_i + v_j/n_j, so that early
    in training the plug-in CDNV measures n rather than the encoder. Every field is replaced by
    its unbiased estimate (derived here, see docs/theory.md, section 3). A pair is resolved when
    its distance is at least 3 standard errors of the distance of equal means.

    Args:
        geometry: Plug-in moments of at least 4 samples per class; smaller classes become nan.

    Returns:
        The estimates; `axis_variance` and `distance2` can be negative for unresolved pairs.

    Raises:
        ValueError: the moments are already unbiased.
    """
    if geometry.unbiased:
        raise ValueError("geometry is unbiased already; pass plug-in moments.")
    g = geometry
    n = torch.where(g.count >= MIN_SAMPLES, g.count, torch.nan)
    bessel = n / (n - 1)
    variance = bessel * g.variance
    second = _second_trace(n, variance, bessel.square() * g.second_trace, g.fourth_moment)
    fourth, variance2 = _fourth_moment(n, variance, second, g.fourth_moment)
    third = (n.square() / ((n - 1) * (n - 2)))[:, None] * g.third_moment
    if g.cross_trace_exact:
        cross = bessel[:, None] * bessel * g.cross_trace
        cross = cross.where(~torch.eye(len(n), dtype=torch.bool, device=n.device), second)
    else:
        root = second.clamp(min=0).sqrt()
        cross = root[:, None] * root

    per_sample = variance / n
    distance2 = g.distance2 - per_sample[:, None] - per_sample
    unbiased = replace(g, third_moment=third)
    projection = unbiased.third_projection  # mu_i . t_j
    delta_third = projection.diagonal()[:, None] - projection.T  # delta_ij . t_i
    excess = fourth - variance2 - 2 * second
    axis = (
        bessel[:, None] * g.axis_variance
        - (second / n)[:, None]
        - cross / n
        - 2 * delta_third / n[:, None]
        + (excess / n.square())[:, None]
    )
    estimate = replace(
        unbiased,
        variance=variance,
        distance2=distance2.fill_diagonal_(0),
        axis_variance=axis.fill_diagonal_(0),
        second_trace=second,
        cross_trace=cross,
        fourth_moment=fourth,
        unbiased=True,
        axis_covariance=None,
    )
    return replace(estimate, resolved=g.resolved & (resolution(estimate) >= RESOLUTION))


def resolution(estimate: ClassGeometry) -> Tensor:
    """Standard errors by which squared distances differ from those of equal means, [C, C].

    Args:
        estimate: Unbiased moments.

    Returns:
        z scores, nan where a class has fewer than 4 samples.
    """
    n = estimate.count
    null = 2 * estimate.second_trace / (n * (n - 1))
    error2 = null[:, None] + null + 4 * estimate.cross_trace / (n[:, None] * n)
    return estimate.distance2 / error2.clamp(min=torch.finfo(error2.dtype).tiny).sqrt()


def samples_to_resolve(estimate: ClassGeometry, share: float = 0.9) -> int | None:
    """Samples per class with which about `share` of the pairs would be resolved.

    The z score of a pair grows in proportion to the samples of its classes.

    Args:
        estimate: Unbiased moments.
        share: Of the ordered pairs, in (0, 1].

    Returns:
        The number; None where too many distances are not even positive.
    """
    z = resolution(estimate)
    off = ~torch.eye(len(z), dtype=torch.bool, device=z.device)
    smaller = torch.minimum(estimate.count[:, None], estimate.count)
    needed = torch.where(z > 0, smaller * RESOLUTION / z, torch.inf)[off & ~z.isnan()]
    if not len(needed):
        return None
    ranked = needed.sort().values
    value = float(ranked[max(0, math.ceil(share * len(ranked)) - 1)])
    return None if math.isinf(value) else math.ceil(value)


def _second_trace(n: Tensor, trace: Tensor, trace_square: Tensor, fourth: Tensor) -> Tensor:
    """Unbiased tr Sigma^2 from tr S, tr S^2 (ddof=1) and the plug-in fourth moment, all [C]."""
    inner = (n - 1) * (n - 2) * trace_square + trace.square() - n.square() / (n - 1) * fourth
    return (n - 1) / (n * (n - 2) * (n - 3)) * inner


def _fourth_moment(
    n: Tensor, trace: Tensor, second: Tensor, plug_in: Tensor
) -> tuple[Tensor, Tensor]:
    """Unbiased E|x - mu|^4 and (tr Sigma)^2 [C], solved from the expectations of two estimates.

    E[plug-in fourth] = a M4 + b q + c v^2 and E[(tr S)^2] = (1 - 1/n) v^2 + M4/n + 2q/(n(n-1)).
    """
    a = (n - 1).pow(4) / n.pow(4) + (n - 1) / n.pow(4)
    b = 4 * (n - 1).pow(3) / n.pow(4) + 2 * (n - 1) * (n - 2) / n.pow(4)
    c = b / 2
    rest = trace.square() - 2 * second / (n * (n - 1))
    fourth = (plug_in - b * second - c * n / (n - 1) * rest) / (a - c / (n - 1))
    return fourth, (rest - fourth / n) * n / (n - 1)
