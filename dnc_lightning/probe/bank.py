"""Decoded images of one process's shard, kept where they fit."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from tqdm.auto import tqdm

Storage = Literal["device", "pinned", "host", "stream"]

DEVICE_SHARE = 0.1
"""Part of the free accelerator memory that images may take before training has claimed its own."""

HOST_SHARE = 0.5
"""Part of the free host memory that images may take; beyond it they are decoded at each probe."""


@dataclass(frozen=True)
class ImageBank:
    """Images [n, C, H, W], uint8 or float32, or the means to decode them again."""

    read: Callable[[int], Tensor]  # position in the probe set -> [C, H, W], of one shape
    positions: Sequence[int]  # n positions in the probe set
    storage: Storage
    images: Tensor | None  # [n, C, H, W]; None for "stream"

    @classmethod
    def build(
        cls,
        read: Callable[[int], Tensor],
        positions: Sequence[int],
        device: torch.device,
        *,
        progress: bool = True,
    ) -> ImageBank:
        """Decode the images once, with a progress bar, and place them for `device`."""
        if not positions:
            return cls(read, positions, "host", None)
        bytes_each = read(positions[0]).numel()
        if bytes_each * len(positions) > HOST_SHARE * free_host_memory():
            return cls(read, positions, "stream", None)
        images = _decode(read, positions, progress)
        if device.type == "cuda":
            if images.nbytes <= DEVICE_SHARE * torch.cuda.mem_get_info(device)[0]:
                return cls(read, positions, "device", images.to(device))
            return cls(read, positions, "pinned", images.pin_memory())
        storage: Storage = "host" if device.type == "cpu" else "device"
        return cls(read, positions, storage, images.to(device))

    def image(self, position: int) -> Tensor:
        """Return one image [C, H, W] on the CPU, decoded again where it is not kept."""
        if self.images is None or position not in self.positions:
            return self.read(position)
        return self.images[self.positions.index(position)].cpu()

    def batches(self, batch_size: int, device: torch.device) -> Iterator[Tensor]:
        """Yield float images [<= batch_size, C, H, W] on `device`, in order."""
        for begin in range(0, len(self.positions), batch_size):
            end = begin + batch_size
            if self.images is not None:
                batch = self.images[begin:end]
            else:
                batch = _stack([self.read(p) for p in self.positions[begin:end]])
            images = as_float(batch.to(device, non_blocking=True))
            # Encoders may work in place, and the next probe needs these again.
            yield images.clone() if images is batch and self.images is not None else images


def as_float(images: Tensor) -> Tensor:
    """Scale uint8 images to [0, 1] as torchvision's ToTensor does; leave floats alone."""
    return images / 255 if images.dtype == torch.uint8 else images


def free_host_memory() -> float:
    """Free memory of the host in bytes; infinite where the system does not tell."""
    try:
        return float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (ValueError, OSError, AttributeError):
        return float("inf")


def _decode(read: Callable[[int], Tensor], positions: Sequence[int], progress: bool) -> Tensor:
    images: Tensor | None = None
    rows = tqdm(positions, desc="Probe: decoding images", leave=False, disable=not progress)
    for row, position in enumerate(rows):
        image = read(position)
        if images is None:
            images = torch.empty(len(positions), *image.shape, dtype=image.dtype)
        if images.dtype == torch.uint8 and image.is_floating_point():
            images = as_float(images)
        images[row] = as_float(image) if images.is_floating_point() else image
    assert images is not None
    return images


def _stack(images: list[Tensor]) -> Tensor:
    if any(image.is_floating_point() for image in images):
        images = [as_float(image) for image in images]
    return torch.stack(images)
