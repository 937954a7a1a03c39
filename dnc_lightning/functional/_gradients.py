"""Statistics that sum over pairs, and their gradients, a few rows of pairs at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import torch
from torch import Tensor

from dnc_lightning.functional._class_geometry import ClassGeometry
from dnc_lightning.functional._pairs import PairRows, PairSums, PairTerm, pair_rows
from dnc_lightning.functional._tiles import SCRATCH_BYTES
from dnc_lightning.functional.unbiased import (
    UnbiasedClasses,
    debias_classes,
    debias_rows,
    debiased_rows,
)


@dataclass(frozen=True)
class Gradient:
    """Of one statistic to plug-in moments; distances count for the means that they are between."""

    mean: Tensor  # [C, D]
    variance: Tensor  # [C]
    axis_variance: Tensor  # [C, C]
    second_trace: Tensor  # [C]
    third_moment: Tensor  # [C, D]
    fourth_moment: Tensor  # [C]


def pulled(gradient: Tensor, position: Tensor) -> Tensor:
    """How a gradient [C, C] to squared distances moves the means [C, D] that they are between."""
    both = gradient + gradient.T
    return 2 * (both.sum(1, keepdim=True) * position - both @ position)


def differentiate_terms(
    plug_in: ClassGeometry, terms: Sequence[PairTerm]
) -> tuple[Tensor, Iterator[list[Gradient]]]:
    """Values [K] of statistics of debiased moments, and their gradients to the plug-in ones.

    The gradients come in groups that are as large as the scratch memory allows.
    """
    sums = PairSums.of(debiased_rows(plug_in), [term.number for term in terms])
    values, weights = [], []
    with torch.enable_grad():
        for term, total in zip(terms, sums.totals, strict=True):
            leaf = total.requires_grad_()
            value = term.combine(leaf, sums)
            weights.append(torch.autograd.grad(value, leaf)[0].nan_to_num(0, 0, 0))
            values.append(value.detach())
    group = max(1, SCRATCH_BYTES // (3 * 8 * plug_in.num_classes**2))

    def groups() -> Iterator[list[Gradient]]:
        for begin in range(0, len(terms), group):
            some = slice(begin, begin + group)
            yield _gradients(plug_in, terms[some], weights[some])

    return torch.stack(values), groups()


def _gradients(
    plug_in: ClassGeometry, terms: Sequence[PairTerm], weights: Sequence[Tensor]
) -> list[Gradient]:
    """Gradients of sums over pairs whose rows have the weights [C]."""
    with torch.enable_grad():
        moments = {
            name: getattr(plug_in, name).detach().nan_to_num(0).requires_grad_()
            for name in ("variance", "second_trace", "fourth_moment")
        }
        root = moments["second_trace"].clamp(min=torch.finfo(torch.float32).tiny).sqrt()
        classes = debias_classes(replace(plug_in, **moments))
        outer = [*_moving(classes), root / root.detach()]
    inner = [values.detach().requires_grad_() for values in outer]
    found = [_Sums.empty(plug_in, len(inner)) for _ in terms]
    for pairs in pair_rows(plug_in):
        with torch.enable_grad():
            leaves, block = _block(pairs, inner[-1], plug_in.cross_trace_exact)
            unbiased = replace(classes, **dict(zip(MOVING, inner, strict=False)))
            moved = debias_rows(block, unbiased, plug_in.cross_trace_exact)
            for term, weight, into in zip(terms, weights, found, strict=True):
                total = weight[pairs.rows] @ term.number(moved).nan_to_num(0).sum(1)
                given = torch.autograd.grad(
                    total, [*leaves, *inner], retain_graph=True, allow_unused=True
                )
                into.add(pairs.rows, [None if g is None else g.nan_to_num(0) for g in given])
    out = []
    for into in found:
        by_class = torch.autograd.grad(
            outer, list(moments.values()), into.classes, retain_graph=True
        )
        named = dict(zip(moments, (g.nan_to_num(0) for g in by_class), strict=True))
        out.append(into.gradient(plug_in, named))
    return out


MOVING = ("variance", "second_trace", "fourth_moment", "excess")
"""What the unbiased pairs take from classes, apart from the cross trace."""


def _moving(classes: UnbiasedClasses) -> list[Tensor]:
    return [getattr(classes, name) for name in MOVING]


def _block(pairs: PairRows, moved: Tensor, exact: bool) -> tuple[list[Tensor], PairRows]:
    """Leaves that the pairs of some rows follow from, in the order of `_Sums.add`."""
    names = (
        "distance2", "axis_variance", "rival_variance", "third", "rival_third", "projection",
    )  # fmt: skip
    leaves = {name: getattr(pairs, name).detach().nan_to_num(0).requires_grad_() for name in names}
    cross = pairs.cross_trace.nan_to_num(0)
    if exact:
        cross = cross * pairs.own(moved) * moved
    return list(leaves.values()), replace(pairs, **leaves, cross_trace=cross)


@dataclass
class _Sums:
    """The gradient of one statistic, gathered over blocks of pairs."""

    distance2: Tensor  # [C, C]
    axis_variance: Tensor  # [C, C]
    third: Tensor  # [C, C] to mu_i . t_j
    classes: list[Tensor]  # [C] each

    @classmethod
    def empty(cls, plug_in: ClassGeometry, number: int) -> _Sums:
        distance2, axis, third = (torch.zeros_like(plug_in.distance2) for _ in range(3))
        classes = [torch.zeros_like(plug_in.variance) for _ in range(number)]
        return cls(distance2, axis, third, classes)

    def add(self, rows: slice, gradients: Sequence[Tensor | None]) -> None:
        """Add the gradients to the leaves of a block and to its classes."""
        distance2, axis, rival_axis, third, rival_third, projection, *classes = gradients
        here: list[tuple[Tensor, Tensor | None]] = [
            (self.distance2[rows], distance2),
            (self.axis_variance[rows], axis),
            (self.axis_variance[:, rows].T, rival_axis),
            (self.third[rows], third),
            (self.third[:, rows].T, rival_third),
            (self.third.diagonal(), projection),
        ]
        for into, part in chain(here, zip(self.classes, classes, strict=True)):
            if part is not None:
                into += part

    def gradient(self, plug_in: ClassGeometry, by_class: dict[str, Tensor]) -> Gradient:
        """The whole, with that to the moments of classes."""
        position = (plug_in.mean - plug_in.mean.nanmean(0)).nan_to_num(0)
        mean = pulled(self.distance2, position)
        mean += self.third @ plug_in.third_moment.nan_to_num(0)
        third = self.third.T @ position
        return Gradient(mean, axis_variance=self.axis_variance, third_moment=third, **by_class)
