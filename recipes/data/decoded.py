"""Labelled images that are decoded when they are needed, and brought to one size."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import functional as F

from recipes.data.labelled import Classes, LabelledImages, Targets

_LISTED = 10  # names in an error, of what may be a thousand


class DecodedImages(LabelledImages):
    """A map-style dataset that reads and decodes one image at a time.

    Args:
        read: Index -> PIL image of any mode.
        targets: Class indices, ``[N]``, int64; or one such tensor per task.
        classes: Class names; or one list of names per task.
        shorter: Length that the shorter side is resized to, pixels.
        crop: Side of the square cut from the centre, pixels, at most `shorter`.
    """

    def __init__(
        self,
        read: Callable[[int], Image.Image],
        targets: Targets,
        classes: Classes,
        shorter: int,
        crop: int,
    ) -> None:
        super().__init__(targets, classes)
        self.read = read
        self.shorter = shorter
        self.crop = crop

    def picture(self, index: int) -> Image.Image:
        """Return one image in its own size, RGB."""
        image = self.read(index)
        return image if image.mode == "RGB" else image.convert("RGB")

    def image(self, index: int) -> Tensor:
        """Return one image, ``[3, crop, crop]`` uint8."""
        resized = F.resize(self.picture(index), self.shorter)
        pixels = np.array(F.center_crop(resized, self.crop))
        return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def shorter_side(image_size: int) -> int:
    """Return the shorter side of stored images from which squares of `image_size` are cut.

    The usual 256 for 224, and as much in proportion for other sizes: training images keep a margin
    that random crops can use, and probe images lose it.

    Raises:
        ValueError: If `image_size` is not positive.
    """
    if image_size < 1:
        raise ValueError(f"image_size must be at least 1 pixel, got {image_size}. Try 224.")
    return round(image_size * 256 / 224)


def check_same_classes(train: Iterable[str], probe: Iterable[str], where: str) -> None:
    """Refuse splits whose classes differ: the probe's numbers would not be about the training's.

    Args:
        train: Names of the training classes.
        probe: Names of the probe's classes.
        where: What holds the classes, for the error, such as "folders".

    Raises:
        ValueError: If one split has a class that the other one lacks.
    """
    train, probe = set(train), set(probe)
    if train != probe:
        parts = [
            f"{len(names)} only in the {split} split ({listed(names)})"
            for split, names in (("training", train - probe), ("probe", probe - train))
            if names
        ]
        raise ValueError(
            f"training and probe split must have the same classes, got {where} with "
            f"{' and '.join(parts)}. Add what is missing, remove the rest, or choose other splits."
        )


def listed(names: Iterable[str]) -> str:
    """Return the first names in order, for an error message."""
    ordered = sorted(map(str, names))
    more = f" and {len(ordered) - _LISTED} more" if len(ordered) > _LISTED else ""
    return (", ".join(ordered[:_LISTED]) or "nothing") + more
