"""From moments of the samples to estimates of the population's (docs/theory.md, section 3)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dnc_lightning.functional._class_geometry import ClassGeometry
from dnc_lightning.functional._pairs import PairRows, fill_diagonal, pair_rows

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
    blocks = [
        (pairs.distance2, pairs.axis_variance, pairs.cross_trace, pairs.resolved)
        for pairs in debiased_rows(geometry)
    ]
    distance2, axis_variance, cross_trace, resolved = map(torch.cat, zip(*blocks, strict=True))
    classes = debias_classes(geometry)
    return replace(
        geometry,
        variance=classes.variance,
        distance2=distance2,
        axis_variance=axis_variance,
        second_trace=classes.second_trace,
        cross_trace=cross_trace,
        third_moment=classes.third[:, None] * geometry.third_moment,
        fourth_moment=classes.fourth_moment,
        resolved=resolved,
        unbiased=True,
        axis_covariance=None,
    )


@dataclass(frozen=True)
class UnbiasedClasses:
    """What the unbiased moments of pairs take from their classes."""

    count: Tensor  # [C] samples; nan where they are too few
    variance: Tensor  # [C]
    second_trace: Tensor  # [C]
    fourth_moment: Tensor  # [C]
    excess: Tensor  # [C] trace of the fourth cumulant
    third: Tensor  # [C] factor of the third moment


def debias_classes(moments: ClassGeometry | PairRows) -> UnbiasedClasses:
    """The unbiased moments of classes of plug-in ones."""
    n = torch.where(moments.count >= MIN_SAMPLES, moments.count, torch.nan)
    bessel = n / (n - 1)
    variance = bessel * moments.variance
    trace_square = bessel.square() * moments.second_trace
    second = _second_trace(n, variance, trace_square, moments.fourth_moment)
    fourth, variance2 = _fourth_moment(n, variance, second, moments.fourth_moment)
    third = n.square() / ((n - 1) * (n - 2))
    return UnbiasedClasses(n, variance, second, fourth, fourth - variance2 - 2 * second, third)


def debiased_rows(geometry: ClassGeometry) -> Iterator[PairRows]:
    """All pairs of the unbiased moments, without holding them; of such as they are."""
    if geometry.unbiased:
        yield from pair_rows(geometry)
        return
    classes, exact = debias_classes(geometry), geometry.cross_trace_exact
    for pairs in pair_rows(geometry):
        yield debias_rows(pairs, classes, exact)


def debias_rows(pairs: PairRows, classes: UnbiasedClasses, exact: bool) -> PairRows:
    """The unbiased moments of some rows of plug-in ones; `exact` as `cross_trace_exact`."""
    p, n, own = pairs, classes.count, pairs.own
    second, excess = classes.second_trace, classes.excess
    bessel = n / (n - 1)
    if exact:
        cross = own(bessel) * bessel * p.cross_trace
        itself = torch.arange(p.rows.start, p.rows.stop, device=n.device)[:, None]
        cross = torch.where(itself == torch.arange(len(n), device=n.device), second, cross)
    else:
        root = second.clamp(min=0).sqrt()
        cross = own(root) * root
    third, rival_third = p.third * classes.third, p.rival_third * own(classes.third)
    projection = p.projection * classes.third
    own_shift = own(projection) - rival_third  # delta_ij . t_i
    rival_shift = third - projection  # delta_ij . t_j
    per_sample = classes.variance / n
    distance2 = p.distance2 - own(per_sample) - per_sample
    axis = own(bessel) * p.axis_variance - own(second / n) - cross / n
    axis = axis - 2 * own_shift / own(n) + own(excess / n.square())
    rival = bessel * p.rival_variance - second / n - cross / own(n)
    rival = rival + 2 * rival_shift / n + excess / n.square()
    found = replace(
        p,
        variance=classes.variance,
        second_trace=second,
        fourth_moment=classes.fourth_moment,
        projection=projection,
        distance2=fill_diagonal(distance2, p.rows, 0.0),
        axis_variance=fill_diagonal(axis, p.rows, 0.0),
        rival_variance=fill_diagonal(rival, p.rows, 0.0),
        cross_trace=cross,
        third=third,
        rival_third=rival_third,
    )
    return replace(found, resolved=p.resolved & (resolution(found) >= RESOLUTION))


def resolution(estimate: PairRows) -> Tensor:
    """Standard errors by which squared distances differ from those of equal means, [b, C].

    Args:
        estimate: Unbiased moments.

    Returns:
        z scores, nan where a class has fewer than 4 samples.
    """
    n = estimate.count
    null = 2 * estimate.second_trace / (n * (n - 1))
    error2 = estimate.own(null) + null + 4 * estimate.cross_trace / (estimate.own(n) * n)
    return estimate.distance2 / error2.clamp(min=torch.finfo(error2.dtype).tiny).sqrt()


def samples_to_resolve(geometry: ClassGeometry, share: float = 0.9) -> int | None:
    """Samples per class with which about `share` of the pairs would be resolved.

    The z score of a pair grows in proportion to the samples of its classes.

    Args:
        geometry: Plug-in or unbiased moments.
        share: Of the ordered pairs, in (0, 1].

    Returns:
        The number; None where too many distances are not even positive.
    """
    found = []
    for pairs in debiased_rows(geometry):
        z = fill_diagonal(resolution(pairs), pairs.rows, torch.nan)
        smaller = torch.minimum(pairs.own(pairs.count), pairs.count)
        needed = torch.where(z > 0, smaller * RESOLUTION / z, torch.inf)
        found.append(needed[~z.isnan()])
    all_needed = torch.cat(found)
    if not len(all_needed):
        return None
    value = float(all_needed.kthvalue(max(1, math.ceil(share * len(all_needed)))).values)
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
