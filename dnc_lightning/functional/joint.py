"""The certificate that knows how the margins of one query move together."""

from __future__ import annotations

import torch
from torch import Tensor

from dnc_lightning.functional._class_geometry import ClassGeometry
from dnc_lightning.functional.margins import cantelli, margin_moments

ROUNDS = 16
"""Most alternations of correlation matrix and scales; the first has most of the gain."""

FEWEST = 4
"""Fewest of them: a round without gain can be followed by some with."""

STEPS = 2
"""Steps towards the best correlation matrix of one round."""

TOLERANCE = 1e-4
"""Relative gain of a round under which a class counts as done."""

BATCH_ENTRIES = 2**22
"""Covariance entries of the classes that are worked on at once."""


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
        [C] in [0, 1], nan for classes without samples.

    Raises:
        ValueError: the geometry holds no `axis_covariance`.
    """
    if geometry.axis_covariance is None:
        raise ValueError(
            'kind="joint" needs the covariances along all axes, which plug-in moments hold on '
            "request: class_geometry(..., joint=True)."
        )
    margins = margin_moments(geometry, shots)
    pairs = cantelli(margins)
    present = (geometry.count > 0).nonzero()[:, 0]
    out = torch.full_like(geometry.variance, torch.nan)
    for i in torch.split(present, max(1, BATCH_ENTRIES // max(1, len(present)) ** 2)):
        rivals = present.expand(len(i), -1)
        rivals = rivals[rivals != i[:, None]].view(len(i), -1)
        row, left, right = i[:, None, None], rivals[:, :, None], rivals[:, None]
        covariance = 4 * geometry.axis_covariance[row, left, right] + margins.shared[row]
        variance = margins.variance[i[:, None], rivals].clamp(min=0)
        covariance.diagonal(dim1=1, dim2=2).copy_(variance)
        mean = margins.mean[i[:, None], rivals]
        union = pairs[i[:, None], rivals].nan_to_num(nan=1.0).sum(1)
        out[i] = _improve(mean, covariance, union)
    return out.clamp(max=1)


def _improve(mean: Tensor, covariance: Tensor, union: Tensor) -> Tensor:
    """Least bound found for classes with margins' mean [B, K] and covariance [B, K, K].

    Works with M / E M, whose mean is 1, on the CPU in float64: many small eigenproblems.
    """
    relative = covariance / mean[:, :, None] / mean[:, None]
    useful = (mean > 0).all(1) & relative.isfinite().flatten(1).all(1)
    relative, best = relative[useful].to("cpu", torch.float64), union[useful].cpu().double()
    if relative.numel() == 0:
        return union
    second = 1 + relative
    scale = 1 / second.diagonal(dim1=1, dim2=2)
    moment = _moment(scale, relative)
    weight = _ridged(moment).diagonal(dim1=1, dim2=2)
    for turn in range(ROUNDS):
        for _ in range(STEPS):
            correlation, weight = _better_correlation(_ridged(moment), weight)
        inverse = torch.linalg.inv(correlation)
        scale = torch.linalg.solve(inverse * second, inverse.sum(2)).clamp(min=0)
        moment = _moment(scale, relative)
        before, best = best, torch.fmin(best, (inverse * moment).sum((1, 2)))
        if turn + 1 >= FEWEST and bool((best >= before * (1 - TOLERANCE)).all()):
            break
    out = union.clone()
    out[useful] = best.to(out)
    return out


def _moment(scale: Tensor, relative: Tensor) -> Tensor:
    """E[y y'] of y = 1 - scale * M / E M, [B, K, K]."""
    rest = 1 - scale
    spread = scale[:, :, None] * relative * scale[:, None]
    return rest[:, :, None] * rest[:, None] + spread


def _ridged(moment: Tensor) -> Tensor:
    """A little on the diagonal, so that margins without variance have a correlation."""
    ridge = 1e-6 * moment.diagonal(dim1=1, dim2=2).mean(1).clamp(min=1e-24)
    return moment + torch.diag_embed(ridge[:, None].expand(moment.shape[:2]))


def _better_correlation(moment: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """One step towards the correlation matrix R that minimises tr R^-1 S, [B, K, K].

    The minimum has S = R L R with a diagonal L, the weights [B, K]; R is solved for given
    weights, scaled to a unit diagonal, and the weights are corrected by what the scaling took.
    """
    root = weight.sqrt()
    both = root[:, :, None] * root[:, None]
    values, vectors = torch.linalg.eigh(both * moment)
    middle = (vectors * values.clamp(min=0).sqrt()[:, None]) @ vectors.mT / both
    diagonal = middle.diagonal(dim1=1, dim2=2).clamp(min=1e-30)
    # Away from singular: any correlation matrix is valid, an invertible one is computable.
    correlation = 0.999999 * middle * (diagonal[:, :, None] * diagonal[:, None]).rsqrt()
    correlation.diagonal(dim1=1, dim2=2).fill_(1)
    return correlation, weight * diagonal.square()
