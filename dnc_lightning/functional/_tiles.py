"""Walk over labelled features class by class in tiles of bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

Reduce = Callable[[Tensor], Tensor]
"""Sums a tensor over all shards; every shard calls it with the same shapes in the same order."""

TILE_BYTES = 64 * 2**20
"""Scratch memory that one tile may take; outputs of size [C, C] and [C, D] come on top."""


@dataclass(frozen=True)
class Tile:
    """Samples of a few classes, padded with zero rows to a common number of samples."""

    classes: Tensor  # [c] class indices
    residual: Tensor  # [c, n, D] features minus `centre` of their class, zero where padded
    real: Tensor  # [c, n] bool, False where padded


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

    def _tile(self, classes: Tensor, first: int, shift: Tensor, centre: Tensor | None) -> Tile:
        size = (self.count[classes] - first).clamp(0, self.rows)
        start = self.start[classes] + first
        n, d = int(size.max()), self.features.shape[1]
        device = self.features.device
        full = bool((size == n).all())
        contiguous = full and bool((start[1:] - start[:-1] == n).all())
        index = classes.to(device)
        if contiguous:
            rows = slice(int(start[0]), int(start[0]) + len(classes) * n)
            picked = self._rows(rows)
        else:
            flat = (start[:, None] + torch.arange(n).clamp(max=(size - 1)[:, None])).flatten()
            flat = flat.to(device)
            picked = self._rows(flat)
        residual = (picked.to(self.dtype) - shift).view(len(classes), n, d)
        if centre is not None:
            residual -= centre[index][:, None]
        real = (torch.arange(n) < size[:, None]).to(device)
        if not full:
            residual.masked_fill_(~real[:, :, None], 0.0)
        return Tile(classes=index, residual=residual, real=real)

    def _rows(self, rows: slice | Tensor) -> Tensor:
        if self.order is None and isinstance(rows, slice):
            return self.features[rows]
        index = rows if self.order is None else self.order[rows]
        assert isinstance(index, Tensor)
        return self.features.index_select(0, index)


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
