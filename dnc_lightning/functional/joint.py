"""The certificate that knows how the margins of one query move together."""

from __future__ import annotations

import torch
from torch import Tensor

from dnc_lightning.functional.geometry import ClassGeometry
from dnc_lightning.functional.margins import margin_moments

ROUNDS = 3
"""Alternations of correlation matrix and scales; the first has most of the gain."""

INNER = 8
"""Fixed-point steps for the correlation matrix of one round."""


def joint_bound(geometry: ClassGeometry, shots: Tensor) -> Tensor:
    """Bound P(some M_ij <= 0) for each class i, never above the sum of the pairs' certificates.

    For scales z >= 0 and any correlation matrix R, y = 1 - z * M has y'R^-1 y >= 1 as soon as one
    margin is not positive, so that P <= E[y'R^-1 y] (derived here, see docs/theory.md, section 4).
    R = I and the best z give the sum of Cantelli terms; R and z are then improved by turns, and
    the least value is kept. Every value on the way is a valid bound.

    Args:
        geometry: With `axis_covariance` [C, C, C].
        shots: m [C].

    Returns:
        [C], nan for classes without samples.

    Raises:
        ValueError: the geometry holds no `axis_covariance`.
    """
    if geometry.axis_covariance is None:
        raise ValueError(
            'kind="joint" needs the covariances along all axes: class_geometry(..., joint=True).'
        )
    margins = margin_moments(geometry, shots)
    out = torch.full_like(geometry.variance, torch.nan)
    present = (geometry.count > 0).nonzero().flatten()
    for i in present.tolist():
        rivals = present[present != i]
        mean = margins.mean[i, rivals]
        covariance = 4 * geometry.axis_covariance[i][rivals][:, rivals] + margins.shared[i]
        covariance = covariance.clone()
        covariance.diagonal().copy_(margins.variance[i, rivals])
        out[i] = _one_class(mean, covariance)
    return out


def _one_class(mean: Tensor, covariance: Tensor) -> Tensor:
    """Least bound found for one class from the margins' mean [K] and covariance [K, K]."""
    variance = covariance.diagonal()
    hopeless = ~((mean > 0) & variance.isfinite())
    if bool(hopeless.any()):
        return torch.ones_like(mean[0])
    second = mean.square() + variance
    scale = mean / second
    best = (variance / second).sum()
    for _ in range(ROUNDS):
        rest = 1 - scale * mean
        moment = torch.outer(rest, rest) + scale[:, None] * covariance * scale
        inverse = torch.linalg.inv(_best_correlation(moment))
        quadratic = inverse * (covariance + torch.outer(mean, mean))
        scale = torch.linalg.solve(quadratic, mean * inverse.sum(1)).clamp(min=0)
        rest = 1 - scale * mean
        moment = torch.outer(rest, rest) + scale[:, None] * covariance * scale
        value = (inverse * moment).sum()
        if not bool(value < best * (1 - 1e-6)):
            return torch.fmin(best, value)
        best = value
    return torch.as_tensor(best)


def _best_correlation(moment: Tensor) -> Tensor:
    """The correlation matrix R that minimises tr R^-1 S: S = R L R for a diagonal L."""
    weight = 1 / moment.diagonal().clamp(min=torch.finfo(moment.dtype).tiny)
    correlation = moment
    for _ in range(INNER):
        root = weight.sqrt()
        values, vectors = torch.linalg.eigh(root[:, None] * moment * root)
        middle = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
        correlation = middle / root[:, None] / root
        weight = weight * correlation.diagonal().square().clamp(min=1e-12)
    scale = correlation.diagonal().clamp(min=1e-150).rsqrt()
    correlation = scale[:, None] * correlation * scale
    # Away from singular: any correlation matrix is valid, an invertible one is computable.
    correlation = correlation * 0.999999
    correlation.diagonal().fill_(1)
    return correlation
