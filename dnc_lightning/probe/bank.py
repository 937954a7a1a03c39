"""Decoded images of one process's shard, kept where they fit."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Literal

import torch
from torch import Tensor
from tqdm.auto import tqdm

from dnc_lightning.probe.codes import Coded, DoesNotFitError, Shelf, as_float, decode, floats_of
from dnc_lightning.probe.items import UnreadableError
from dnc_lightning.probe.memory import free_host_memory
from dnc_lightning.probe.reading import Loading, Read, Reader, one_thread

Storage = Literal["device", "pinned", "host", "stream"]

DEVICE_SHARE = 0.1
"""Part of the free accelerator memory that images may take before training has claimed its own."""

HOST_SHARE = 0.5
"""Part of the free host memory that images may take; beyond it they are decoded at each probe."""


@dataclass(frozen=True)
class ImageBank:
    """Images [n, C, H, W], kept bit by bit in few bytes, or the means to decode them again."""

    read: Read  # position in the probe set -> [C, H, W], of one shape
    positions: Sequence[int]  # n positions in the probe set, rising
    storage: Storage
    images: Tensor | None  # [n, C, H, W], uint8 or float32; None for "stream"
    table: Tensor | None = None  # [C, 256], the floats that uint8 images stand for, if no pixels
    loading: Loading = field(default_factory=Loading)
    failed: Mapping[int, str] = field(default_factory=dict)  # position -> what is wrong with it

    @classmethod
    def build(
        cls,
        read: Read,
        positions: Sequence[int],
        device: torch.device,
        *,
        progress: bool = True,
        loading: Loading | None = None,
        skip: bool = False,
    ) -> ImageBank:
        """Decode the images once, with a progress bar, and place them for `device`.

        Args:
            read: Position in the probe set -> image.
            positions: Those of the images, rising.
            device: Where they will be embedded.
            progress: Show the bar.
            loading: How to read; one after the other in this process if None.
            skip: Leave samples out whose files cannot be read, as `failed`.

        Raises:
            ValueError: names a sample that cannot be read, or that is no image like the others.
        """
        loading = loading or Loading()
        limit = HOST_SHARE * free_host_memory() / loading.neighbours
        reader = Reader(read, loading)
        shelf: Shelf | None = Shelf(len(positions), limit)
        failed: dict[int, str] = {}
        with one_thread(), closing(reader.images(positions)) as read_images:  # ends its workers
            rows = tqdm(
                read_images,
                desc="Probe: decoding images",
                total=len(positions),
                unit=" images",
                leave=False,
                disable=not progress,
            )
            for position, image in zip(positions, rows, strict=True):
                if isinstance(image, UnreadableError):
                    if not skip:
                        raise image
                    failed[position] = str(image)
                elif shelf is not None:
                    try:
                        shelf.put(image)
                    except DoesNotFitError as error:
                        loading.notes.append(_cost(error.nbytes, limit, len(positions), reader))
                        shelf = None
                if shelf is None and not skip:
                    break
        kept = [p for p in positions if p not in failed] if failed else positions
        bank = cls(read, kept, "host", None, None, loading, failed)
        if shelf is None:
            return replace(bank, storage="stream")
        return bank if shelf.images is None else bank._placed(shelf, device, limit)

    def _placed(self, shelf: Shelf, device: torch.device, limit: float) -> ImageBank:
        assert shelf.images is not None
        images, table = shelf.images[: shelf.count], shelf.table
        storage: Storage = "host" if device.type == "cpu" else "device"
        if device.type != "cuda" or images.nbytes <= _free_device_memory(device):
            images = images.to(device)
        elif images.nbytes + 2 ** (images.nbytes - 1).bit_length() <= limit:
            # Beside its source for a moment, and torch rounds pinned memory up to a power of two.
            storage, images = "pinned", images.pin_memory()
        else:
            storage = "host"
        return replace(self, storage=storage, images=images, table=table)

    @property
    def dtype(self) -> torch.dtype | None:
        """Type of the images as they came: uint8 pixels or float32; None if they are not kept."""
        if self.images is None:
            return None
        return self.images.dtype if self.table is None else self.table.dtype

    def first(self, n: int) -> ImageBank:
        """Return the first n images at most, of this same memory where they are kept."""
        images = None if self.images is None else self.images[:n]
        return replace(self, positions=self.positions[:n], images=images, failed={})

    def image(self, position: int) -> Tensor:
        """Return one image [C, H, W] on the CPU, decoded again where it is not kept."""
        row = bisect_left(self.positions, position)
        if self.images is None or row == len(self.positions) or self.positions[row] != position:
            return self.read(position)
        image = self.images[row : row + 1].cpu()
        return (image if self.table is None else decode(image, self.table.cpu()))[0]

    def batches(self, batch_size: int, device: torch.device) -> Iterator[Tensor]:
        """Yield float images [<= batch_size, C, H, W] on `device`, in order."""
        if self.images is None:
            for batch in self._stream(batch_size):
                yield batch.to(device, non_blocking=True)
            return
        table = None if self.table is None else self.table.to(device)
        for kept in torch.split(self.images, batch_size):
            batch = kept.to(device, non_blocking=True)
            if table is not None:
                yield decode(batch, table)
            else:
                images = as_float(batch)
                # Encoders may work in place, and the next probe needs these again.
                yield images.clone() if images is kept else images

    def _stream(self, batch_size: int) -> Iterator[Tensor]:
        """Decode float images [<= batch_size, C, H, W] on the CPU; workers decode ahead."""
        images = Reader(self.read, self.loading).images(self.positions)
        while True:
            with one_thread():
                batch = [_readable(image) for image in islice(images, batch_size)]
            if not batch:
                return
            yield torch.stack(batch)


def _readable(image: Tensor | Coded | UnreadableError) -> Tensor:
    if isinstance(image, UnreadableError):
        raise image
    return floats_of(image)


def _free_device_memory(device: torch.device) -> float:
    return DEVICE_SHARE * torch.cuda.mem_get_info(device)[0]


def _cost(nbytes: int, limit: float, size: int, reader: Reader) -> str:
    """Announce that images are decoded anew at each probe."""
    seconds = reader.seconds_each * size
    workers = reader.loading.chosen(seconds)
    return (
        f"This process's {size:,} probe images take {nbytes / 1e9:.3g} GB and may take "
        f"{limit / 1e9:.3g}: they are decoded anew at each probe, in about "
        f"{seconds / max(workers, 1):.2g} s with {workers} workers. Fewer or smaller images "
        "(per_class, transform) are kept in memory."
    )
