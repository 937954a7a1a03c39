"""Exact mean and variance of the margin of the nearest-class-centre classifier."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dnc_lightning.functional._class_geometry import ClassGeometry


@dataclass(frozen=True)
class MarginMoments:
    """Of M_ij = |x - c_j|^2 - |x - c_i|^2 for x of class i and centres of m_i and m_j samples."""

    mean: Tensor  # [..., C, C]
    variance: Tensor  # [..., C, C]
    shared: Tensor  # [..., C], the part of Cov(M_ij, M_ik) that the centre of class i causes


def margin_moments(geometry: ClassGeometry, shots: Tensor) -> MarginMoments:
    """Mean and variance of every margin (derived here, see docs/theory.md, section 4).

    Args:
        geometry: Moments; with `cross_trace="fast"` the variance is an upper bound.
        shots: m [..., C], may be infinite.

    Returns:
        Moments; nan for classes without samples.
    """
    g, m = geometry, shots
    own = centre_variance(g, m)
    projection = g.third_projection  # mu_i . t_j
    delta_third = projection - projection.diagonal()  # delta_ij . t_j
    rival = m[..., None, :]
    mean = g.distance2 + g.variance / rival - (g.variance / m)[..., :, None]
    if g.coincident is not None:  # rounding decides these margins, either way
        mean = torch.where(g.coincident, 0.0, mean)
    variance = (
        4 * g.axis_variance
        + 4 * (g.axis_variance.T + g.cross_trace) / rival
        + 4 * (g.second_trace / m)[..., :, None]
        + own[..., :, None]
        + own[..., None, :]
        - 4 * delta_third / rival.square()
    )
    return MarginMoments(mean=mean, variance=variance, shared=4 * g.second_trace / m + own)


def centre_variance(geometry: ClassGeometry, m: Tensor) -> Tensor:
    """Var |c_i - mu_i|^2 = (E|x - mu_i|^4 - v_i^2 + 2 (m - 1) q_i) / m^3 of centres, [..., C]."""
    g = geometry
    spread = (g.fourth_moment - g.variance.square()) / m**3
    return torch.where(m.isinf(), 0.0, spread + 2 * g.second_trace * (m - 1) / m**3)


def cantelli(margins: MarginMoments) -> Tensor:
    """P(M <= 0) <= Var / (Var + E^2) where E > 0, else 1."""
    variance = margins.variance.clamp(min=0)
    return torch.where(margins.mean > 0, variance / (variance + margins.mean.square()), 1.0)
