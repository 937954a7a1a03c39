"""Walk over labelled features class by class in tiles of bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

Reduce = Callable[[Tensor], Tensor]
"""Sums a tensor over all shards; every shard calls it with the same shapes in the same order."""

SCRATCH_BYTES = 256 * 2**20
"""What any step holds at once beside its inputs and outputs, of size [C, C] and [C, D] too."""

TILE_BYTES = SCRATCH_BYTES // 4
"""The part of it that the samples of one tile take, with their coordinates along all axes."""


@dataclass(frozen=True)
class Tile:
    """Samples of a few classes, padded with zero rows to a common number of samples."""

    classes: Tensor  # [c] class indices
    residual: Tensor  # [c, n, D] features minus `centre` of their class, zero where padded
    real: Tensor  # [c, n] bool, False where padded
    place: Tensor  # [c, n] places in class order, where padded that of the last


@dataclass(frozen=True)
class ClassTiles:
    """The samples of one shard, ordered by class, and how they are cut into tiles."""

    features: Tensor  # [N, D]
    order: Tensor | None  # [N] rows sorted by class; None when they already are
    start: Tensor  # [C] first row of each class in that order, on the CPU
    count: Tensor  # [C] samples of each class in this shard, on the CPU
    rows: int  # samples a tile holds at most
    dtype: torch.dtype  # of the residuals

    @classmethod
    def build(cls, features: Tensor, labels: Tensor, num_classes: int) -> ClassTiles:
        """Sort `features` [N, D] by `labels` [N] once and size the tiles."""
        dtype = features.dtype if features.dtype == torch.float64 else torch.float32
        count = torch.bincount(labels, minlength=num_classes).cpu()
        is_sorted = bool((labels[1:] >= labels[:-1]).all())
        row_bytes = 2 * dtype.itemsize * (features.shape[1] + num_classes)
        return cls(
            features=features,
            order=None if is_sorted else labels.argsort(stable=True),
            start=count.cumsum(0) - count,
            count=count,
            rows=max(1, TILE_BYTES // row_bytes),
            dtype=dtype,
        )

    def only(self, begin: int, end: int) -> ClassTiles:
        """The samples of the classes begin:end alone."""
        count = torch.zeros_like(self.count)
        count[begin:end] = self.count[begin:end]
        return replace(self, count=count)

    @property
    def classes_fit(self) -> bool:
        """Whether every class fits into one tile."""
        return int(self.count.max()) <= self.rows

    def tiles(self, shift: Tensor, centre: Tensor | None) -> Iterator[Tile]:
        """Yield each sample once as `features - shift - centre[class]`.

        Two subtractions keep the digits that a large common offset would cost: the first is
        exact for features close to `shift` [D], the second works on numbers of the spread's size.
        """
        by_size = self.count.argsort(stable=True)
        sizes = self.count[by_size].tolist()
        begin = sum(size == 0 for size in sizes)
        while begin < len(sizes):
            end = begin + 1
            while end < len(sizes) and (end + 1 - begin) * sizes[end] <= self.rows:
                end += 1
            classes = by_size[begin:end]
            for first in range(0, sizes[end - 1], self.rows):
                yield self._tile(classes, first, shift, centre)
            begin = end

    def places(self, classes: Tensor, first: int = 0) -> tuple[Tensor, Tensor]:
        """Where the samples of some classes [c] stand in class order, from the `first` on.

        Returns:
            Places [c, n], and which of them are real, bool [c, n], both on the CPU.
        """
        size = (self.count[classes] - first).clamp(0, self.rows)[:, None]
        column = torch.arange(int(size.max()))
        last = (size - 1).clamp(min=0)
        return self.start[classes][:, None] + first + column.minimum(last), column < size

    def _tile(self, classes: Tensor, first: int, shift: Tensor, centre: Tensor | None) -> Tile:
        place, real = self.places(classes, first)
        (c, n), d = place.shape, self.features.shape[1]
        device = self.features.device
        full, begin = bool(real.all()), int(place[0, 0])
        index, real = classes.to(device), real.to(device)
        if full and bool((place[1:, 0] - place[:-1, 0] == n).all()):
            picked = self._rows(slice(begin, begin + c * n))
        else:
            picked = self._rows(place.flatten().to(device))
        residual = (picked.to(self.dtype) - shift).view(c, n, d)
        if centre is not None:
            residual -= centre[index][:, None]
        if not full:
            residual.masked_fill_(~real[:, :, None], 0.0)
        return Tile(classes=index, residual=residual, real=real, place=place.to(device))

    def _rows(self, rows: slice | Tensor) -> Tensor:
        if self.order is None and isinstance(rows, slice):
            return self.features[rows]
        index = rows if self.order is None else self.order[rows]
        assert isinstance(index, Tensor)
        return self.features.index_select(0, index)


def row_blocks(classes: int, entries: int) -> Iterator[slice]:
    """Cut the rows of a matrix [C, C] into blocks of about `entries` entries."""
    height = max(1, entries // max(1, classes))
    for begin in range(0, classes, height):
        yield slice(begin, min(begin + height, classes))


def wide(device: torch.device) -> torch.dtype:
    """The dtype of per-class sums: float64, except on MPS, which has none."""
    return torch.float32 if device.type == "mps" else torch.float64


@contextmanager
def exact_arithmetic(device: torch.device) -> Iterator[None]:
    """No gradients, autocast or reduced-precision matrix products inside, all restored after.

    Users train with TF32 or under autocast; three digits are too few for a variance.
    """
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(precision)
