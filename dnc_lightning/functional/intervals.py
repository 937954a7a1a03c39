"""Confidence intervals for the population, from one probe: the infinitesimal jackknife."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import torch
from torch import Tensor

from dnc_lightning.functional._checks import check_features
from dnc_lightning.functional._class_geometry import ClassGeometry, rescale
from dnc_lightning.functional._gradients import Gradient, differentiate_terms, pulled
from dnc_lightning.functional._moments import (
    along_axes,
    class_totals,
    common_shift,
    find_shards,
    self_products,
)
from dnc_lightning.functional._pairs import BLOCK_PAIRS, PairTerm
from dnc_lightning.functional._scale import unit_scale
from dnc_lightning.functional._tiles import (
    ClassTiles,
    Reduce,
    exact_arithmetic,
    row_blocks,
    wide,
)
from dnc_lightning.functional.geometry import class_geometry, needs_double
from dnc_lightning.functional.unbiased import debias

Statistic = Callable[[ClassGeometry], Tensor]
"""A differentiable function of moments, [K] numbers."""

LEAVES = (
    "mean",
    "variance",
    "distance2",
    "axis_variance",
    "second_trace",
    "third_moment",
    "fourth_moment",
)


@dataclass(frozen=True)
class Estimate:
    """Estimates of K numbers of the population."""

    value: Tensor  # [K]
    standard_error: Tensor  # [K]
    low: Tensor  # [K] lower end of the interval
    high: Tensor  # [K] upper end


def population_estimate(
    features: Tensor,
    labels: Tensor,
    statistic: Statistic | Sequence[PairTerm],
    *,
    num_classes: int | None = None,
    level: float = 0.95,
    reduce: Reduce | None = None,
    geometry: ClassGeometry | None = None,
) -> Estimate:
    """Estimate what `statistic` would be for the population that the samples were drawn from.

    The value is the statistic of the unbiased moments. Its standard error is the infinitesimal
    jackknife: the statistic's derivative to every sample's weight, in closed form through the
    moments (derived here, see docs/theory.md, section 3). The interval is that of the logarithm,
    for statistics that are positive, with Student's quantiles for the smallest class.

    Args:
        features: [N, D], floating point.
        labels: [N], integers in [0, C).
        statistic: Moments -> [K], differentiable by torch; given unbiased moments. Its graph holds
            some dozens of [C, C]; K terms that sum over pairs, without a unit, are differentiated
            in blocks.
        num_classes: C, as in `class_geometry`.
        level: Coverage of the interval, in (0, 1).
        reduce: Sums over shards, as in `class_geometry`.
        geometry: Plug-in moments of these samples, if they are there already.

    Returns:
        Estimates of the K numbers; nan where the statistic is.

    Raises:
        ValueError: level outside (0, 1), or as `class_geometry`.

    Examples:
        >>> x = torch.randn(300, 8) + 3 * torch.eye(8)[torch.arange(300) % 3]
        >>> mean_cdnv = lambda g: pair_mean(cdnv(g))[None]
        >>> estimate = population_estimate(x, torch.arange(300) % 3, mean_cdnv)
        >>> bool(estimate.low < estimate.value) and bool(estimate.value < estimate.high)
        True
    """
    if not 0 < level < 1:
        raise ValueError(f"level must be in (0, 1), got {level}: 0.95 is ninety-five percent.")
    classes = check_features(features, labels, num_classes, sharded=reduce is not None)
    plug_in = geometry or class_geometry(features, labels, num_classes=classes, reduce=reduce)
    total: Reduce = reduce or (lambda tensor: tensor)
    with exact_arithmetic(features.device):
        features, exponent = unit_scale(features, total)
        plug_in = rescale(plug_in, exponent)
        if needs_double(plug_in):
            features = features.to(wide(features.device))
        if callable(statistic):
            value, gradients = _differentiate(plug_in, lambda g: statistic(rescale(g, -exponent)))
            groups: Iterable[list[Gradient]] = [gradients]
        else:
            value, groups = differentiate_terms(plug_in, statistic)
        data = ClassTiles.build(features, labels.long(), classes)
        shift = common_shift(data, total)
        mean, size = plug_in.mean.nan_to_num(0) - shift, plug_in.count.clamp(min=1)
        shards = find_shards(data, size, reduce)
        second = self_products(data, shift, mean, size, shards, reduce)
        squares = torch.cat(
            [
                _influence_squares(data, shift, mean, plug_in, group, second, total)
                for group in groups
            ]
        )
    n = plug_in.count
    known = n > 1
    factor = torch.where(known, 1 / (n * (n - 1)).clamp(min=1), 0.0)
    error = (squares * factor).sum(1).sqrt()
    quantile = _student_quantile((1 + level) / 2, float(n[n > 0].min()) - 1)
    spread = (quantile * error / value).exp()
    return Estimate(value=value, standard_error=error, low=value / spread, high=value * spread)


def _student_quantile(probability: float, freedom: float) -> float:
    """Student's t quantile by its expansion around the normal one, to 1 % from 5 degrees on."""
    z = NormalDist().inv_cdf(probability)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    return z + first / freedom + second / freedom**2 if freedom > 0 else float("inf")


def _differentiate(plug_in: ClassGeometry, statistic: Statistic) -> tuple[Tensor, list[Gradient]]:
    """Value [K] of the statistic of debiased moments, and its gradients to the plug-in ones."""
    with torch.enable_grad():
        leaves = {
            name: getattr(plug_in, name).detach().nan_to_num(0).requires_grad_() for name in LEAVES
        }
        root = leaves["second_trace"].clamp(min=torch.finfo(torch.float32).tiny).sqrt()
        moved = root / root.detach()
        cross = plug_in.cross_trace.nan_to_num(0) * moved[:, None] * moved
        value = statistic(debias(replace(plug_in, **leaves, cross_trace=cross)))
        gradients = []
        for item in value:
            found = torch.autograd.grad(
                item, list(leaves.values()), retain_graph=True, allow_unused=True
            )
            by_name = {
                name: torch.zeros_like(leaf) if grad is None else grad.nan_to_num(0)
                for (name, leaf), grad in zip(leaves.items(), found, strict=True)
            }
            pull = by_name.pop("distance2")
            by_name["mean"] += pulled(pull, leaves["mean"].detach())
            gradients.append(Gradient(**by_name))
    return value.detach(), gradients


def _influence_squares(
    data: ClassTiles,
    shift: Tensor,
    mean: Tensor,
    plug_in: ClassGeometry,
    gradients: list[Gradient],
    second: Tensor,
    total: Reduce,
) -> Tensor:
    """Sum over each class's samples of (n times the derivative to the sample's weight)^2, [K, C].

    One pass along all axes, for what stands for a sample and for what the class means move, and a
    short one for how that moves the samples; all statistics share both.
    """
    centre, axes = mean.to(data.dtype), (mean - mean.mean(0)).to(data.dtype).T.contiguous()
    size = plug_in.count.clamp(min=1)[:, None]
    slopes = [_Slopes.build(plug_in, gradient, data.dtype) for gradient in gradients]
    k, (classes, d) = len(slopes), mean.shape
    turned = torch.zeros(k, classes, d, dtype=mean.dtype, device=mean.device)
    crossed = torch.zeros_like(turned)
    influence = torch.zeros(k, len(second), dtype=data.dtype, device=mean.device)
    for tile in data.tiles(shift, centre):
        residual, c, place = tile.residual, tile.classes, tile.place[tile.real]
        square, quadratic = residual.square().sum(2), second[tile.place]
        along = along_axes(tile, axes)
        share = along / size.to(data.dtype)[c][:, None]
        for s, slope in enumerate(slopes):
            weight = share * slope.axis[c][:, None]
            crossed[s] -= (weight.flatten(0, 1).T @ residual.flatten(0, 1)).to(mean.dtype)
            product = residual @ slope.own[c][:, :, None]
            part = (product.transpose(1, 2) @ residual)[:, 0]
            turned[s].index_add_(0, c, part.to(mean.dtype))
            own = square * (residual @ slope.third[c][:, :, None])[:, :, 0]
            own += slope.variance[c][:, None] * square - slope.constant[c][:, None]
            own += slope.fourth[c][:, None] * square.square()
            own += 2 * slope.second[c][:, None] * quadratic
            # sum_j a_ij (r . delta_ij)^2, the weights with one of the factors already.
            own += weight.mul_(along).sum(2) * size.to(data.dtype)[c]
            influence[s, place] = own[tile.real]
    turned, crossed = total(torch.stack([turned, crossed])).unbind()
    push = torch.stack([slope.push for slope in slopes]) + turned / size + 2 * crossed
    push = push.to(data.dtype)
    for tile in data.tiles(shift, centre):
        moved = tile.residual @ push[:, tile.classes].permute(1, 2, 0)
        influence[:, tile.place[tile.real]] += moved[tile.real].T
    return total(torch.stack([class_totals(data, row.square(), mean.dtype) for row in influence]))


@dataclass(frozen=True)
class _Slopes:
    """One statistic's gradient, arranged by what it multiplies in a sample's influence."""

    axis: Tensor  # [C, C] of (r . delta_ij)^2
    third: Tensor  # [C, D] of |r|^2 r
    variance: Tensor  # [C] of |r|^2
    second: Tensor  # [C] of r' Sigma_i r, half
    fourth: Tensor  # [C] of |r|^4
    push: Tensor  # [C, D] of r, but for what covariances turn
    own: Tensor  # [C, D] what Sigma_i turns
    constant: Tensor  # [C] what centres the influence

    @classmethod
    def build(cls, plug_in: ClassGeometry, gradient: Gradient, dtype: torch.dtype) -> _Slopes:
        g, axis = gradient, gradient.axis_variance.fill_diagonal_(0)
        position, third = plug_in.mean.nan_to_num(0), plug_in.third_moment.nan_to_num(0)
        push = g.mean - 4 * g.fourth_moment[:, None] * third
        push = push - plug_in.variance.nan_to_num(0)[:, None] * g.third_moment
        direction = axis.sum(1, keepdim=True) * position - axis @ position
        along = torch.cat(
            [
                (axis[rows] * plug_in.axis_variance[rows]).nan_to_num(0).sum(1)
                for rows in row_blocks(len(axis), BLOCK_PAIRS)
            ]
        )
        constant = (
            g.variance * plug_in.variance
            + g.fourth_moment * plug_in.fourth_moment
            + 2 * g.second_trace * plug_in.second_trace
            + along
            + (g.third_moment * third).sum(1)
        )
        return cls(
            axis=axis.to(dtype),
            third=g.third_moment.to(dtype),
            variance=g.variance.to(dtype),
            second=g.second_trace.to(dtype),
            fourth=g.fourth_moment.to(dtype),
            push=push,
            own=(2 * direction - 2 * g.third_moment).to(dtype),
            constant=constant.nan_to_num(0).to(dtype),
        )
