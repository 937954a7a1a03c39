"""Exact mean and variance of the margin of the nearest-class-centre classifier."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dnc_lightning.functional._class_geometry import ClassGeometry
from dnc_lightning.functional._pairs import PairRows, take_rows


@dataclass(frozen=True)
class MarginMoments:
    """Of M_ij = |x - c_j|^2 - |x - c_i|^2 for x of class i and centres of m_i and m_j samples."""

    mean: Tensor  # [..., b, C] of the classes i of some rows with all
    variance: Tensor  # [..., b, C]
    shared: Tensor  # [..., C], the part of Cov(M_ij, M_ik) that the centre of class i causes


def margin_moments(geometry: ClassGeometry, shots: Tensor) -> MarginMoments:
    """Mean and variance of every margin (derived here, see docs/theory.md, section 4).

    Args:
        geometry: Moments; with `cross_trace="fast"` the variance is an upper bound.
        shots: m [..., C], may be infinite.

    Returns:
        Moments of all pairs, b = C; nan for classes without samples.
    """
    return margin_rows(take_rows(geometry, slice(0, geometry.num_classes)), shots)


def margin_rows(pairs: PairRows, shots: Tensor) -> MarginMoments:
    """`margin_moments` of some rows."""
    p, m = pairs, shots
    centre = centre_variance(p, m)
    shared = 4 * p.second_trace / m + centre
    rival = m[..., None, :]
    mean = p.distance2 + p.variance / rival - p.own(p.variance / m)
    if p.coincident is not None:  # rounding decides these margins, either way
        mean = torch.where(p.coincident, 0.0, mean)
    variance = 4 * p.axis_variance + 4 * (p.rival_variance + p.cross_trace) / rival
    variance = variance - 4 * (p.third - p.projection) / rival.square()  # delta_ij . t_j
    variance = variance + p.own(shared) + centre[..., None, :]
    return MarginMoments(mean=mean, variance=variance, shared=shared)


def centre_variance(pairs: PairRows, m: Tensor) -> Tensor:
    """Var |c_i - mu_i|^2 = (E|x - mu_i|^4 - v_i^2 + 2 (m - 1) q_i) / m^3 of centres, [..., C]."""
    spread = (pairs.fourth_moment - pairs.variance.square()) / m**3
    return torch.where(m.isinf(), 0.0, spread + 2 * pairs.second_trace * (m - 1) / m**3)


def cantelli(margins: MarginMoments) -> Tensor:
    """P(M <= 0) <= Var / (Var + E^2) where E > 0, else 1."""
    variance = margins.variance.clamp(min=0)
    return torch.where(margins.mean > 0, variance / (variance + margins.mean.square()), 1.0)
