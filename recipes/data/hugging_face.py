"""Any image dataset of the Hugging Face hub, or of a folder in one of its formats."""

from __future__ import annotations

from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image

from recipes.data.decoded import DecodedImages, shorter_side
from recipes.data.hugging_face_files import check_columns, open_split, read_labels
from recipes.data.module import ProbedImages

if TYPE_CHECKING:
    from datasets import Dataset


class HuggingFace(ProbedImages):
    """Two splits of a Hugging Face dataset, such as ``timm/mini-imagenet``.

    Images have the shapes of `ImageFolder`. Targets are ``[B]``; with a list of label columns, a
    mapping of each column's name to ``[B]``, so that every column is a task.

    Cost:
        As `ImageFolder`, after a download into the folder that HF_HOME names (mini-ImageNet: some
        GB). Opening reads the label columns, no image: about a second per million.

    Args:
        name: Name on the hub; or a local folder: written by `DatasetDict.save_to_disk`, with one
            folder per split written by `Dataset.save_to_disk`, or with image or parquet files.
        train_split: Split to train on; slices such as ``train[:90%]`` work except for folders
            written by `save_to_disk`.
        probe_split: Held-out split, which the probe set is chosen from.
        image_column: Column of the images.
        label_columns: Column of the labels, which makes one task named "label"; or a list of
            columns, which makes one task each. Integers, strings or class labels.
        subset: Configuration of the dataset, where it has several.
        image_size: Side of the images that the model takes, pixels.
        batch_size: Images per batch and process.
        probe_per_class: Probe images per class.
        num_workers: Loader processes per training process.
        seed: Of the order and of the views that workers make.

    Raises:
        ValueError: When the dataset is opened, before training: `datasets` is not installed, the
            dataset or one of its splits or columns is not found, a column is of another type, or
            the classes of the two splits differ.
    """

    def __init__(
        self,
        name: str,
        train_split: str = "train",
        probe_split: str = "validation",
        image_column: str = "image",
        label_columns: str | list[str] = "label",
        subset: str | None = None,
        image_size: int = 224,
        batch_size: int = 256,
        probe_per_class: int = 100,
        num_workers: int = 4,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, probe_per_class, num_workers, seed)
        self.name = name
        self.train_split = train_split
        self.probe_split = probe_split
        self.image_column = image_column
        self.label_columns = label_columns
        self.subset = subset
        self.image_size = image_size

    def prepare_data(self) -> None:
        """Download the dataset if this machine has no copy, once per node."""
        for split in (self.train_split, self.probe_split):
            open_split(self.name, self.subset, split)

    def train_images(self) -> DecodedImages:
        """Open the training split."""
        return self._images(0, shorter_side(self.image_size))

    def probe_images(self) -> DecodedImages:
        """Open the held-out split."""
        return self._images(1, self.image_size)

    def _images(self, split: int, crop: int) -> DecodedImages:
        tasks = {column: targets[split] for column, targets in self._labels[0].items()}
        classes = self._labels[1]
        if isinstance(self.label_columns, str):
            tasks, classes = tasks[self.label_columns], classes[self.label_columns]
        pixels = self._splits[split].select_columns([self.image_column])
        return DecodedImages(
            partial(_read, pixels, self.image_column),
            tasks,
            classes,
            shorter_side(self.image_size),
            crop,
        )

    @cached_property
    def _splits(self) -> tuple[Dataset, Dataset]:
        train, probe = (
            open_split(self.name, self.subset, split)
            for split in (self.train_split, self.probe_split)
        )
        for split in (train, probe):
            check_columns(split, self.image_column, self._columns)
        return train, probe

    @cached_property
    def _labels(self) -> tuple[dict[str, tuple[torch.Tensor, torch.Tensor]], dict[str, Any]]:
        found = {column: read_labels(*self._splits, column) for column in self._columns}
        targets = {column: labels[:2] for column, labels in found.items()}
        return targets, {column: labels[2] for column, labels in found.items()}

    @property
    def _columns(self) -> list[str]:
        return [self.label_columns] if isinstance(self.label_columns, str) else self.label_columns


def _read(pixels: Dataset, column: str, index: int) -> Image.Image:
    return pixels[index][column]
