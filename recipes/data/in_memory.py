"""Labelled images held as one uint8 tensor."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

Targets = Tensor | dict[str, Tensor]
Classes = list[str] | dict[str, list[str]]


class InMemoryImages(Dataset):
    """A map-style dataset over one image tensor, with one or several labelings.

    Args:
        images: Pixels, ``[N, C, H, W]``, uint8.
        targets: Class indices, ``[N]``, int64; or one such tensor per task.
        classes: Class names; or one list of names per task.
    """

    def __init__(self, images: Tensor, targets: Targets, classes: Classes) -> None:
        self.images = images
        self.targets = targets
        self.classes = classes

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int | dict[str, int]]:
        """Return one image, ``[C, H, W]`` uint8, and its class index (one per task)."""
        if isinstance(self.targets, dict):
            return self.images[index], {task: int(y[index]) for task, y in self.targets.items()}
        return self.images[index], int(self.targets[index])

    def take(self, indices: list[int]) -> tuple[Tensor, Targets]:
        """Return a batch at once: images ``[B, C, H, W]`` uint8, and targets ``[B]`` per task."""
        rows = torch.as_tensor(indices)
        if isinstance(self.targets, dict):
            return self.images[rows], {task: y[rows] for task, y in self.targets.items()}
        return self.images[rows], self.targets[rows]


def shuffled_batches(dataset: InMemoryImages, batch_size: int) -> DataLoader:
    """Return a shuffling loader of whole batches, without the incomplete last one.

    Args:
        dataset: The images to draw from.
        batch_size: Images per batch and process.

    Returns:
        A loader of what `InMemoryImages.take` returns.

    Raises:
        ValueError: If the dataset cannot fill one batch.
    """
    if not 1 <= batch_size <= len(dataset):
        raise ValueError(
            f"batch_size must lie between 1 and the number of training images, {len(dataset)}; "
            f"got {batch_size}. Lower batch_size or load more images."
        )
    # The loader runs over indices and one tensor lookup makes the batch: collating images one
    # by one would cost more than a training step of a small network.
    return DataLoader(
        range(len(dataset)),
        batch_size=batch_size,
        shuffle=True,
        drop_last=True,
        collate_fn=dataset.take,
    )
