"""Labelled images held as one uint8 tensor."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor

from recipes.data.labelled import Classes, LabelledImages, Targets


class InMemoryImages(LabelledImages):
    """A map-style dataset over one image tensor, with one or several labelings.

    Args:
        images: Pixels, ``[N, 3, H, W]``, uint8.
        targets: Class indices, ``[N]``, int64; or one such tensor per task.
        classes: Class names; or one list of names per task.
    """

    def __init__(self, images: Tensor, targets: Targets, classes: Classes) -> None:
        super().__init__(targets, classes)
        self.images = images

    def image(self, index: int) -> Tensor:
        """Return one image, ``[3, H, W]`` uint8."""
        return self.images[index]

    def picture(self, index: int) -> Image.Image:
        """Return one image as a PIL image, RGB."""
        return Image.fromarray(self.images[index].permute(1, 2, 0).contiguous().numpy())

    def take(self, indices: list[int]) -> tuple[Tensor, Targets]:
        """Return a batch: images ``[B, 3, H, W]`` uint8, and targets ``[B]`` per task."""
        # One lookup for the batch: stacking images one by one would cost more than a training
        # step of a small network.
        return self.images[torch.as_tensor(indices)], self.labels(indices)
