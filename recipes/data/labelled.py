"""What the loader and the probe need of a set of labelled images."""

from __future__ import annotations

from abc import abstractmethod

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

Targets = Tensor | dict[str, Tensor]
Classes = list[str] | dict[str, list[str]]


class LabelledImages(Dataset):
    """A map-style dataset that knows all labels beforehand, with one or several labelings.

    Labels are read off `targets`, so that a batch of labels reads no image, and a probe's choice
    only the few that it compares them with.

    Args:
        targets: Class indices, ``[N]``, int64; or one such tensor per task.
        classes: Class names; or one list of names per task.
    """

    def __init__(self, targets: Targets, classes: Classes) -> None:
        self.targets = targets
        self.classes = classes

    def __len__(self) -> int:
        targets = self.targets
        return len(next(iter(targets.values())) if isinstance(targets, dict) else targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int | dict[str, int]]:
        """Return one image, ``[3, H, W]`` uint8, and its class index (one per task)."""
        if isinstance(self.targets, dict):
            return self.image(index), {task: int(y[index]) for task, y in self.targets.items()}
        return self.image(index), int(self.targets[index])

    @abstractmethod
    def image(self, index: int) -> Tensor:
        """Return one image, ``[3, H, W]`` uint8, of the size that all of them have."""

    @abstractmethod
    def picture(self, index: int) -> Image.Image:
        """Return one image as it is stored, RGB."""

    def take(self, indices: list[int]) -> tuple[Tensor, Targets]:
        """Return a batch: images ``[B, 3, H, W]`` uint8, and targets ``[B]`` per task."""
        return torch.stack([self.image(index) for index in indices]), self.labels(indices)

    def labels(self, indices: list[int]) -> Targets:
        """Return the targets of some images, ``[B]`` per task."""
        rows = torch.as_tensor(indices)
        if isinstance(self.targets, dict):
            return {task: y[rows] for task, y in self.targets.items()}
        return self.targets[rows]
