"""Bring the samples of a class together that several shards hold, in slices of bounded size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor

from dnc_lightning.functional._tiles import SCRATCH_BYTES, ClassTiles, Reduce

SLOTS = 2**18
"""Places in the table in which every shard looks for one of its own."""

ROUNDS = 8
"""Times that shards look for places of their own before they give up."""


@dataclass(frozen=True)
class Shards:
    """What every shard holds of every class."""

    count: Tensor  # [W, C] samples, on the CPU
    own: int  # row of this shard

    @classmethod
    def find(cls, data: ClassTiles, mark: Tensor, total: Reduce) -> Shards | None:
        """Number the shards by what they hold, as a sum over them is all that they share.

        Each takes a place in a table that follows from its mark. Where two take the same, all look
        for others: the numbers are those of the data alone, so that a run repeats itself.

        Args:
            data: Of this shard.
            mark: Numbers that differ between shards that differ.
            total: Sums over the shards.

        Returns:
            The counts; None where two shards hold the same samples.
        """
        digest, device, empty = _digest(mark), mark.device, not len(data.features)
        for turn in range(ROUNDS):
            place = Random(f"{digest} {turn}").randrange(SLOTS)
            table = torch.zeros(SLOTS, device=device)
            table[place] = 0 if empty else 1
            table = total(table)
            if int(table.max()) <= 1:
                taken = table.nonzero()[:, 0].tolist()
                count = torch.zeros(len(taken), len(data.count), device=device)
                own = 0 if empty else taken.index(place)
                count[own] += data.count.to(count)
                return cls(total(count).long().cpu(), own)
        return None


@dataclass(frozen=True)
class Gathered:
    """All samples of the classes begin:end, on every shard."""

    whole: ClassTiles  # their residuals in class order; no samples of other classes
    before: Tensor  # [C] samples of each class that stand before this shard's own, on the CPU


def gathered_classes(
    data: ClassTiles, shift: Tensor, centre: Tensor, shards: Shards, total: Reduce
) -> Iterator[Gathered]:
    """Yield all classes, a few at a time, with residuals `features - shift - centre[class]`.

    Each slice is one sum of [n, D], to which a shard adds zeros where others hold the samples.
    """
    count, d = shards.count.sum(0), data.features.shape[1]
    before = shards.count[: shards.own].sum(0)
    most = max(1, SCRATCH_BYTES // (2 * data.dtype.itemsize * d))
    for begin, end in _slices(count.tolist(), most):
        inside = torch.zeros_like(count)
        inside[begin:end] = count[begin:end]
        start = inside.cumsum(0) - inside
        rows = torch.zeros(int(inside.sum()), d, dtype=data.dtype, device=shift.device)
        for tile in data.only(begin, end).tiles(shift, centre):
            nth = tile.place - data.start.to(shift.device)[tile.classes][:, None]
            place = (start + before).to(shift.device)[tile.classes][:, None] + nth
            rows[place[tile.real]] = tile.residual[tile.real]
        whole = ClassTiles(total(rows), None, start, inside, data.rows, data.dtype)
        yield Gathered(whole, before)


def _slices(count: list[int], most: int) -> Iterator[tuple[int, int]]:
    """Ranges of classes with at most `most` samples together, or one class with more."""
    begin, held = 0, 0
    for c, n in enumerate(count):
        if held and held + n > most:
            yield begin, c
            begin, held = c, 0
        held += n
    yield begin, len(count)


def _digest(mark: Tensor) -> int:
    """A number that follows from all bits of a tensor."""
    bits = mark.detach().double().cpu().contiguous().view(torch.int64).flatten()
    weight = 2 * torch.arange(len(bits)) + 1
    return int(((bits ^ (bits >> 31)) * weight).sum())
