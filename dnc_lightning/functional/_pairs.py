"""The moments of pairs of classes, some rows at a time: no stack of [C, C] is ever held."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dnc_lightning.functional._class_geometry import ClassGeometry
from dnc_lightning.functional._tiles import row_blocks

BLOCK_PAIRS = 2**17
"""Pairs of a block: their numbers stay in the caches of a core while a formula walks over them."""


@dataclass(frozen=True)
class PairRows:
    """Moments of the ordered pairs (i, j) of b classes i with all C classes j.

    Fields of classes are those of all C, which formulas spread with `own` for i; as they stand
    they are those of j.
    """

    rows: slice  # the b classes i
    count: Tensor  # [C]
    variance: Tensor  # [C]
    second_trace: Tensor  # [C]
    fourth_moment: Tensor  # [C]
    projection: Tensor  # [C] mu_j . t_j
    distance2: Tensor  # [b, C]
    axis_variance: Tensor  # [b, C] A_ij
    rival_variance: Tensor  # [b, C] A_ji
    cross_trace: Tensor  # [b, C]
    third: Tensor  # [b, C] mu_i . t_j
    rival_third: Tensor  # [b, C] mu_j . t_i
    resolved: Tensor  # [b, C] bool
    coincident: Tensor | None  # [b, C] bool

    def own(self, values: Tensor) -> Tensor:
        """The values [..., C] of the classes i, [..., b, 1]."""
        return values[..., self.rows, None]

    @property
    def defined(self) -> Tensor:
        """Pairs of resolved means whose classes have a variance, bool [b, C]."""
        several = self.count > 1
        return self.resolved & self.own(several) & several

    @property
    def present(self) -> Tensor:
        """Pairs of two different classes that have samples, bool [b, C]."""
        there = self.count > 0
        return fill_diagonal(self.own(there) & there, self.rows, False)

    @property
    def safe_distance2(self) -> Tensor:
        """Squared distances, 1 where there is none to divide by: derivatives stay finite."""
        return torch.where(self.resolved, self.distance2, 1.0)


Number = Callable[[PairRows], Tensor]
"""A number of every pair of some rows, [..., b, C]."""


def pair_rows(geometry: ClassGeometry, stacked: int = 1) -> Iterator[PairRows]:
    """All pairs of a geometry; `stacked` numbers of each are to be held at once."""
    for rows in row_blocks(geometry.num_classes, BLOCK_PAIRS // stacked):
        yield take_rows(geometry, rows)


def take_rows(geometry: ClassGeometry, rows: slice) -> PairRows:
    """The pairs of some classes with all."""
    g, third = geometry, geometry.third_projection
    return PairRows(
        rows=rows,
        count=g.count,
        variance=g.variance,
        second_trace=g.second_trace,
        fourth_moment=g.fourth_moment,
        projection=third.diagonal(),
        distance2=g.distance2[rows],
        axis_variance=g.axis_variance[rows],
        rival_variance=g.axis_variance[:, rows].T,
        cross_trace=g.cross_trace[rows],
        third=third[rows],
        rival_third=third[:, rows].T,
        resolved=g.resolved[rows],
        coincident=None if g.coincident is None else g.coincident[rows],
    )


def all_pairs(geometry: ClassGeometry, number: Number, stacked: int = 1) -> Tensor:
    """A number of all pairs, [..., C, C]."""
    return torch.cat([number(pairs) for pairs in pair_rows(geometry, stacked)], -2)


def fill_diagonal(values: Tensor, rows: slice, value: float) -> Tensor:
    """Set the entries of classes with themselves in the rows [b, C] of a matrix, in place."""
    values[:, rows].fill_diagonal_(value)
    return values


@dataclass(frozen=True)
class PairSums:
    """Sums over all pairs, row by row."""

    totals: list[Tensor]  # K times [C] of each number, over the pairs where it is not nan
    defined: Tensor  # [C] number of pairs that have a CDNV
    resolved: Tensor  # [C] number of pairs that are resolved
    coincident: Tensor  # [C] number of pairs that differ by rounding alone
    present: Tensor  # [C] bool, classes with samples
    known: Tensor  # bool, whether the variances of all of them are known

    @classmethod
    def of(cls, blocks: Iterable[PairRows], numbers: Sequence[Number]) -> PairSums:
        """Walk over blocks that hold all rows."""
        found = []
        for p in blocks:
            counts = [p.defined, p.resolved, p.resolved & False]
            if p.coincident is not None:
                counts[2] = p.coincident
            sums = [number(p).nansum(1) for number in numbers]
            found.append([*(pairs.sum(1) for pairs in counts), *sums])
        defined, resolved, coincident, *totals = map(torch.cat, zip(*found, strict=True))
        present = p.count > 0
        known = p.variance[present].isfinite().all()
        return cls(totals, defined, resolved, coincident, present, known)


@dataclass(frozen=True)
class PairTerm:
    """A statistic that sums over pairs: it and its derivatives take [C, C] entries in blocks."""

    number: Number  # of unbiased moments, [b, C]; nan for pairs that do not count
    combine: Callable[[Tensor, PairSums], Tensor]  # its sums by rows [C] -> scalar
