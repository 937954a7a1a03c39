"""Factors with the place of the object as a continuous target, and as ordered classes."""

from __future__ import annotations

import torch
from torch import Tensor

from dnc_lightning import ProbeSet
from recipes.data.factors import Factors, FactorsDataset
from recipes.data.in_memory import InMemoryImages
from recipes.data.labelled import Targets

COLUMNS = 7
REACH = 3.0
"""Pixels that the object is off the centre at most, to each side."""


class PlacedImages(InMemoryImages):
    """Images of `FactorsDataset` with one more task, and places in every batch.

    Labels are those of Factors and `column`, the place from left to right in `COLUMNS` ordered
    classes. A batch also has `place` ``[B, 2]`` and `across` ``[B, 1]``, in halves of the range.

    Args:
        images: Of Factors.
    """

    def __init__(self, images: FactorsDataset) -> None:
        self.places = images.centres / REACH
        column = ((self.places[:, 0] + 1) / 2 * COLUMNS).long().clamp(0, COLUMNS - 1)
        named = [f"column {k}" for k in range(COLUMNS)]
        super().__init__(
            images.images, {**images.targets, "column": column}, {**images.classes, "column": named}
        )

    @property
    def continuous(self) -> dict[str, Tensor]:
        """Name -> target ``[N, n]``."""
        return {"place": self.places, "across": self.places[:, :1]}

    def labels(self, indices: list[int]) -> Targets:
        """Return the targets of some images, ``[B]`` per task and ``[B, n]`` of places."""
        rows = torch.as_tensor(indices)
        return super().labels(indices) | {k: y[rows] for k, y in self.continuous.items()}


class FactorsPlaces(Factors):
    """Factors with places. Arguments are those of `Factors`."""

    def train_images(self) -> PlacedImages:
        """Render the training images."""
        return PlacedImages(super().train_images())

    def probe_images(self) -> PlacedImages:
        """Render the probe split."""
        return PlacedImages(super().probe_images())

    @property
    def probe_set(self) -> ProbeSet:
        """The held-out images with their labels and places."""
        images = self.probe_images()
        return ProbeSet(images, self.probe_per_class, seed=0, targets=images.continuous)
