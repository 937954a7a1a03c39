"""Any images on disk, in one folder per class."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from PIL import Image
from torchvision import datasets

from recipes.data.decoded import DecodedImages, check_same_classes, listed, shorter_side
from recipes.data.module import ProbedImages


class ImageFolder(ProbedImages):
    """Image files in ``data_dir/train/<class>/`` and ``data_dir/val/<class>/``, as ImageNet is.

    Where the model makes views on its device, training images are ``[B, 3, s, s]`` uint8: their
    shorter side is resized to s = 256 / 224 of `image_size` and a square is cut from the centre, so
    that a random crop has a margin. Where workers make views, these see the whole picture. Probe
    images are resized likewise and cut to `image_size`. Targets are ``[B]``.

    Cost:
        Each image is decoded when it is used, on the order of 5 ms per photograph and core, so
        take as many workers as there are cores for each GPU. Opening lists all files once: some
        seconds per million on a local disk.

    Args:
        data_dir: Folder that holds both splits.
        train_dir: Name of the training split's folder.
        probe_dir: Name of the folder of held-out images, which the probe set is chosen from.
        image_size: Side of the images that the model takes, pixels.
        batch_size: Images per batch and process.
        probe_per_class: Probe images per class.
        num_workers: Loader processes per training process.
        seed: Of the order and of the views that workers make.

    Raises:
        ValueError: When the folders are opened, before training: a folder is not there or holds
            no images, or the classes of the two splits differ.
    """

    def __init__(
        self,
        data_dir: str,
        train_dir: str = "train",
        probe_dir: str = "val",
        image_size: int = 224,
        batch_size: int = 256,
        probe_per_class: int = 100,
        num_workers: int = 4,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, probe_per_class, num_workers, seed)
        self.data_dir = data_dir
        self.train_dir = train_dir
        self.probe_dir = probe_dir
        self.image_size = image_size

    def train_images(self) -> DecodedImages:
        """List the training images."""
        train, _ = self._folders()
        return open_folder(train, shorter_side(self.image_size), shorter_side(self.image_size))

    def probe_images(self) -> DecodedImages:
        """List the held-out images."""
        _, probe = self._folders()
        return open_folder(probe, shorter_side(self.image_size), self.image_size)

    def _folders(self) -> tuple[Path, Path]:
        root = Path(self.data_dir)
        if not root.is_dir():
            raise ValueError(
                f"data_dir must be a folder with {self.train_dir}/ and {self.probe_dir}/, got "
                f"{self.data_dir!r}, which is not there. Set data.data_dir."
            )
        folders = root / self.train_dir, root / self.probe_dir
        for folder in folders:
            if not folder.is_dir():
                raise ValueError(
                    f"{root} must hold a folder {folder.name!r}, got "
                    f"{listed(entry.name for entry in root.iterdir())}. Set data.train_dir and "
                    "data.probe_dir to the folders of the two splits."
                )
        # Names alone: listing a large training set again for the probe would cost seconds.
        train, probe = ([c.name for c in folder.iterdir() if c.is_dir()] for folder in folders)
        check_same_classes(train, probe, f"folders in {root}")
        return folders


def open_folder(folder: Path, shorter: int, crop: int) -> DecodedImages:
    """List the images of one split, without reading any.

    Args:
        folder: Holds one folder per class.
        shorter: Length that the shorter side is resized to, pixels.
        crop: Side of the square cut from the centre, pixels.

    Returns:
        The images, with the names of their folders as classes, in alphabetical order.

    Raises:
        ValueError: If there is no class, or a class without images.
    """
    try:
        files = datasets.ImageFolder(str(folder))
    except FileNotFoundError as error:
        raise ValueError(
            f"{folder} must hold one folder of images per class: {error}. Put the images there, or "
            "remove folders that are not classes."
        ) from error
    targets = torch.tensor(files.targets)
    return DecodedImages(partial(_read, files), targets, files.classes, shorter, crop)


def _read(files: datasets.ImageFolder, index: int) -> Image.Image:
    return files.loader(files.samples[index][0])
