"""Which of several centres is nearest, with ties seen as ties."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dnc_lightning.functional._scale import within_rounding
from dnc_lightning.functional._tiles import row_blocks

BLOCK_ENTRIES = 2**22
"""Squared distances of centres that are held at once, 16 MB in float32."""


@dataclass(frozen=True)
class Points:
    """Features around the mean of all of them."""

    features: Tensor  # [n, D]
    offset: Tensor  # [D] that mean, float64 (float32 on MPS)

    def __len__(self) -> int:
        return len(self.features)

    def take(self, rows: Tensor) -> Points:
        """Some of them."""
        return Points(self.features[rows], self.offset)

    @property
    def exact(self) -> Tensor:
        """[n, D] as precise as the offset."""
        # Cast first: of two types the difference is far slower.
        return self.features.to(self.offset.dtype) - self.offset


@dataclass(frozen=True)
class Centres:
    """The class centres of E episodes."""

    exact: Tensor  # [E, C, D] float64 (float32 on MPS), around the mean of all features
    rough: Tensor  # [E, C, D] the same in float32
    square: Tensor  # [E, C] squared norms, float32
    chosen: Tensor  # [E, C] bool, classes of the episode
    same: Tensor | None  # [E, C, C] bool, pairs that differ by rounding alone; None if none do

    @classmethod
    def build(cls, exact: Tensor, offset: Tensor, chosen: Tensor, rounding: float) -> Centres:
        """Compare the centres with each other.

        Args:
            exact: [E, C, D] around `offset`.
            offset: [D], what was subtracted from the features.
            chosen: [E, C] bool.
            rounding: Relative rounding of the features, see `_scale.rounding`.
        """
        rough = exact.float()
        square = torch.linalg.vector_norm(rough, dim=2).square_()
        limit = rounding * torch.linalg.vector_norm(exact + offset, dim=2).amax(1)  # [E]
        # Float32 finds too many: its products hold squared distances to 1e-5 of the largest.
        rough_limit = (1e-5 * square.amax(1) + 2 * limit.float().square())[:, None, None]
        classes = exact.shape[1]
        episodes = torch.zeros(len(exact), dtype=torch.bool, device=exact.device)
        for rows in row_blocks(classes, max(1, BLOCK_ENTRIES // len(exact))):
            distance2 = square[:, rows, None] + square[:, None] - 2 * rough[:, rows] @ rough.mT
            near = distance2 <= rough_limit
            near &= chosen[:, rows, None] & chosen[:, None]
            near[:, :, rows].diagonal(dim1=1, dim2=2).fill_(False)
            episodes |= near.flatten(1).any(1)
        if not bool(episodes.any()):
            return cls(exact, rough, square, chosen, None)
        same = torch.zeros(len(exact), classes, classes, dtype=torch.bool, device=exact.device)
        for e in episodes.nonzero()[:, 0].tolist():
            distance2 = _distances(exact[e], exact[e]).square()
            same[e] = within_rounding(exact[e] + offset, distance2, rounding)
            same[e] &= chosen[e, :, None] & chosen[e]
        return cls(exact, rough, square, chosen, same if bool(same.any()) else None)


def nearest_errors(points: Points, labels: Tensor, centres: Centres, query: Tensor) -> Tensor:
    """Error of each query: 0, 1, or 1 - 1/k where k centres are equally near, [E, n].

    Almost all queries are decided by scores in float32; those within its rounding of a tie are
    looked at in double precision, and what stays close there by distances to the centres.

    Args:
        points: n of them.
        labels: [n] int64.
        centres: Of E episodes.
        query: [E, n] bool; the error of others is 0.
    """
    data = points.exact.float()
    rough, square = centres.rough, centres.square
    episodes, classes, d = rough.shape
    score = torch.addmm(square.view(-1, 1), rough.flatten(0, 1), data.T, beta=-0.5)
    score = score.view(episodes, classes, len(data))
    if not bool(centres.chosen.all()):
        score.masked_fill_(~centres.chosen[:, :, None], -torch.inf)
    row = labels.expand(episodes, 1, -1)
    own = score.gather(1, row)[:, 0]
    ahead = own - score.scatter_(1, row, -torch.inf).amax(1)
    widest = square.masked_fill(~centres.chosen, 0).amax(1, keepdim=True)
    norm = torch.linalg.vector_norm(data, dim=1)
    unsure = ahead.abs() <= _tolerance(d, torch.float32) * (widest + widest.sqrt() * norm)
    if centres.same is not None:
        unsure |= centres.same.any(2).gather(1, labels.expand(episodes, -1))
    unsure &= query
    error = ((ahead < 0) & query).to(centres.exact.dtype)
    for e in unsure.any(1).nonzero()[:, 0].tolist():
        rows = unsure[e].nonzero()[:, 0]
        error[e, rows] = _careful(points.take(rows).exact, labels[rows], centres, e)
    return error


def _careful(exact: Tensor, labels: Tensor, centres: Centres, e: int) -> Tensor:
    """Errors of some queries of episode `e` in double precision, [k]."""
    centre = centres.exact[e]
    square = centre.square().sum(1)
    score = exact @ centre.T - square / 2
    score.masked_fill_(~centres.chosen[e], -torch.inf)
    ahead = score - score.gather(1, labels[:, None])
    widest = square.masked_fill(~centres.chosen[e], 0).amax()
    norm = torch.linalg.vector_norm(exact, dim=1)
    tolerance = _tolerance(exact.shape[1], exact.dtype) * (widest + widest.sqrt() * norm)
    tied = ahead.abs() <= tolerance[:, None]
    nearer = ahead > tolerance[:, None]
    same = torch.nn.functional.one_hot(labels, len(centre)).bool()
    if centres.same is not None:
        same |= centres.same[e][labels]
    close = (tied & ~same).any(1).nonzero()[:, 0]
    if len(close):
        tied[close], nearer[close] = _by_distance(exact[close], labels[close], centres, e)
    tied |= same
    guess = 1 - 1 / tied.sum(1).to(exact.dtype)
    return torch.where((nearer & ~same).any(1), 1.0, guess)


def _by_distance(exact: Tensor, labels: Tensor, centres: Centres, e: int) -> tuple[Tensor, Tensor]:
    """Centres equally near as a query's own, and nearer ones, bool [k, C] each."""
    distance = _distances(exact, centres.exact[e])
    distance.masked_fill_(~centres.chosen[e], torch.inf)
    own = distance.gather(1, labels[:, None])
    # A centre is a sum, so its digits end where those of its largest entries do.
    reach = torch.linalg.vector_norm(centres.exact[e], dim=1).amax()
    slack = _tolerance(exact.shape[1], exact.dtype) * (own + distance + reach)
    behind = (distance - own) * (distance + own)
    limit = slack * (distance + own)
    return behind.abs() <= limit, behind < -limit


def _tolerance(dim: int, dtype: torch.dtype) -> float:
    """Relative rounding of a sum of `dim` products."""
    return float(torch.finfo(dtype).eps * (4 + 2 * dim**0.5))


def _distances(points: Tensor, centres: Tensor) -> Tensor:
    return torch.cdist(points, centres, compute_mode="donot_use_mm_for_euclid_dist")
