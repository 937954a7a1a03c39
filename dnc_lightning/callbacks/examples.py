"""A few thumbnails of every class beside the records, so that a report can show what it names."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from dnc_lightning.probe.bank import ImageBank
from dnc_lightning.probe.labels import Task
from dnc_lightning.records.files import write_atomically
from dnc_lightning.records.store import EXAMPLES_FILE
from dnc_lightning.reporting.optional import installed
from dnc_lightning.reporting.read.examples import member

EXAMPLES = 4  # of each class
THUMBNAIL = 48  # pixels, height and width at most
QUALITY = 90
MOST_CLASSES = 2000  # of all tasks: a probe of 21,000 must not spend minutes


def write_examples(folder: Path, tasks: Mapping[str, Task], bank: ImageBank) -> list[str]:
    """Write `examples.zip` into a run folder, unless one is there; never raises.

    Nothing is written for images of other than 1 or 3 channels, or without Pillow.

    Args:
        folder: The run folder.
        tasks: Labels [n] of the whole probe set, not of this process's shard alone.
        bank: This process's shard of the images.

    Returns:
        Problems.
    """
    try:
        path = folder / EXAMPLES_FILE
        if installed("PIL") and not path.exists():
            first = bank.image(0)
            if first.ndim == 3 and first.shape[0] in (1, 3):
                write_atomically(path, _archive(tasks, bank))
    except Exception as error:
        return [f"The report will show no example images: {error!r}. Training goes on."]
    return []


def _archive(tasks: Mapping[str, Task], bank: ImageBank) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for task, index, positions in islice(_choose(tasks, bank), MOST_CLASSES):
            strip = encode_strip([bank.image(position) for position in positions])
            # A member by its name alone carries no date: equal probes leave equal files.
            archive.writestr(zipfile.ZipInfo(member(task, index)), strip)
    return buffer.getvalue()


def _choose(tasks: Mapping[str, Task], bank: ImageBank) -> Iterator[tuple[str, int, list[int]]]:
    """Yield task, class and positions of its examples, first those that need no decoding."""
    held = frozenset(bank.positions)
    # Small tasks first: the limit then cuts the one that is shown in part anyway.
    for name, task in sorted(tasks.items(), key=lambda item: len(item[1].classes)):
        order = torch.argsort(task.labels, stable=True)
        counts = torch.bincount(task.labels, minlength=len(task.classes))
        for index, own in enumerate(torch.split(order, counts.tolist())):
            if len(own):
                found = sorted(own.tolist(), key=lambda position: position not in held)
                yield name, index, found[:EXAMPLES]


def encode_strip(images: list[Tensor]) -> bytes:
    """Return one JPEG of thumbnails side by side, each the square in the middle of an image.

    Args:
        images: [C, H, W] each, all of one shape, with C of 1 or 3, uint8 or float; see `as_bytes`.

    Returns:
        A JPEG of height s and width s times the number of images, s = min(48, H, W) pixels.
    """
    from PIL import Image

    pixels = torch.stack([as_bytes(image) for image in images])
    height, width = pixels.shape[2:]
    short = min(height, width)
    side = min(THUMBNAIL, short)
    top, left = (height - short) // 2, (width - short) // 2
    square = pixels[..., top : top + short, left : left + short]
    small = functional.interpolate(square, (side, side), mode="bilinear", antialias=True)
    strip = small.permute(2, 0, 3, 1).reshape(side, side * len(images), -1).numpy()
    buffer = io.BytesIO()
    # Halved colour resolution would show at this size.
    Image.fromarray(strip if strip.shape[2] == 3 else strip[..., 0]).save(
        buffer, "JPEG", quality=QUALITY, subsampling=0, optimize=True
    )
    return buffer.getvalue()


def as_bytes(image: Tensor) -> Tensor:
    """Return an image as uint8, of the same shape.

    Floats in [0, 1] are scaled to 255; others, such as images that a transform has standardised,
    are stretched from their own least to their own greatest value.
    """
    if image.dtype == torch.uint8:
        return image
    image = torch.nan_to_num(image.float(), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = image.aminmax()
    if low < 0 or high > 1:
        image = (image - low) / (high - low).clamp(min=1e-12)
    return (image * 255).round().to(torch.uint8)
