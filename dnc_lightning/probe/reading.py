"""Read the images of a probe in order, in this process or by the workers of a DataLoader."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from multiprocessing import current_process, get_start_method
from statistics import median_low
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dnc_lightning.probe.codes import Coded, Palette, Shelf, as_float, floats_of
from dnc_lightning.probe.items import UnreadableError

Read = Callable[[int], Tensor]
"""Position in the probe set -> image [C, H, W], the same whenever and wherever it is called."""

TRIED = 4
"""Images that this process reads first: how long one takes, and what workers must get as well."""

WORTH_WORKERS = 2.0
"""Seconds of reading from which on workers, who take some time to start, are used unasked."""

MOST_WORKERS = 16
"""Workers at most that are used unasked."""

CHUNK = 32
"""Images at most that a worker sends at a time."""

SHARED_BYTES = 48 << 20
"""Shared memory that images on the way from all workers may take: containers have 64 MB."""

PATIENCE = 30.0
"""Seconds without an image from the workers, and `SLOWER` times those that it would take this
process, until it goes on without them. Torch tells of a killed worker at once, unless what came
later, such as a Trainer's end, has put back the signal handlers of before."""

SLOWER = 20.0


@dataclass
class Loading:
    """How one process reads its images.

    Args:
        workers: Processes that read; None uses up to `most` where that pays.
        most: Processes at most that are used unasked; None for a share of the processor's cores.
        neighbours: Processes of this machine, this one included, that read at the same time.
    """

    workers: int | None = 0
    most: int | None = None
    neighbours: int = 1
    notes: list[str] = field(default_factory=list)  # what to tell about it; whoever tells it clears

    def chosen(self, seconds: float) -> int:
        """Number of workers for what would take this process `seconds` to read."""
        if self.workers is not None:
            return self.workers
        if seconds < WORTH_WORKERS:
            return 0
        if self.most is not None:
            return self.most
        # Where workers begin by running the user's script, it must be written for that: not unasked
        if get_start_method() != "fork":
            return 0
        share = _cores() // self.neighbours
        return min(share, MOST_WORKERS) if share > 1 else 0


@dataclass
class Reader:
    """Reads images in order; they are the same for any number of workers."""

    read: Read
    loading: Loading
    seconds_each: float = 0.0  # that this process took to read one
    workers: int = 0  # that were used the last time

    def images(
        self, positions: Sequence[int]
    ) -> Generator[Tensor | Coded | UnreadableError, None, None]:
        """Yield the image of each position, or what is wrong with its file.

        Raises:
            ValueError: anything else that is wrong with a sample, which is named.
        """
        tried, seconds = [], [0.0]
        for position in positions[:TRIED]:
            began = time.perf_counter()
            tried.append(self._one(position))
            seconds.append(time.perf_counter() - began)
        # The first one may wait for much that the others find ready.
        self.seconds_each = median_low(seconds[2:] or seconds)
        yield from tried
        done = len(tried)
        self.workers = self.loading.chosen(self.seconds_each * (len(positions) - done))
        if self.workers and done < len(positions):
            for image in self._from_workers(positions, tried):
                yield self._one(positions[done]) if image is None else image
                done += 1
        for position in positions[done:]:
            yield self._one(position)

    def _from_workers(
        self, positions: Sequence[int], tried: Sequence[Tensor | UnreadableError]
    ) -> Iterator[Tensor | Coded | None]:
        """Images after the `tried` ones, up to where workers fail; None where a sample does."""
        size = max([image.nbytes for image in tried if isinstance(image, Tensor)], default=1)
        known = [one.numpy() for one in tried if isinstance(one, Tensor)]
        chunk_size = SHARED_BYTES // (3 * self.workers * size)  # a worker makes one, two wait
        chunk = min(max(chunk_size, 1), CHUNK)
        try:
            loader = DataLoader(
                _Rows(self.read, positions, known),
                batch_size=chunk,
                num_workers=self.workers,
                collate_fn=_as_it_is,
                timeout=PATIENCE + SLOWER * chunk * self.seconds_each,
                generator=torch.Generator(),  # else it draws from the state that training uses
            )
            row = 0
            for packed in loader:
                for image in _unpacked(*packed):
                    if row >= len(tried):
                        yield image
                    elif not _equal(image, tried[row]):
                        self._do_without(
                            f"they read sample {row} of the probe otherwise than this process "
                            "does. A data set or transform must draw from the global random "
                            "states, or from a generator that it seeds by the index"
                        )
                        return
                    row += 1
        except Exception as error:
            # A worker that runs the user's script again must not train in it.
            if getattr(current_process(), "_inheriting", False):
                raise
            self._do_without(repr(error))

    def _do_without(self, reason: str) -> None:
        self.loading.notes.append(
            f"Probe images are read without the {self.workers} workers: {reason}. "
            "ProbeSet(num_workers=0) does so from the start."
        )
        self.workers = self.loading.workers = 0

    def _one(self, position: int) -> Tensor | UnreadableError:
        try:
            return self.read(position)
        except UnreadableError as error:
            return error


_Packed = tuple[list[bool], Tensor | None, NDArray[np.generic] | None]
"""Which samples could be read, their images, and the table if these are codes.

Images go through shared memory: a pipe holds half of one, so that both its ends would have to run
by turns. The table is small, and one open file less as an array.
"""


class _Rows(Dataset[Any]):
    """What workers read: chunks of rows."""

    def __init__(
        self, read: Read, positions: Sequence[int], known: Sequence[NDArray[np.generic]]
    ) -> None:
        self.read = read
        self.positions = positions
        self.known = known  # the first images: codes that begin with theirs are mostly alike

    @cached_property
    def palette(self) -> Palette | None:
        """Each worker goes on with its own."""
        shelf = Shelf(len(self.known), float("inf"))
        for image in self.known:
            shelf.put(torch.from_numpy(image))
        return shelf.palette

    def __len__(self) -> int:
        return len(self.positions)

    def __getitems__(self, rows: list[int]) -> _Packed:
        readable, shelf = [], Shelf(len(rows), float("inf"), self.palette)
        for row in rows:
            try:
                image = self.read(self.positions[row])
            except Exception:
                readable.append(False)  # who asked reads it again, and has the error with its cause
            else:
                readable.append(True)
                shelf.put(image)
        self.palette = shelf.palette
        kept = None if shelf.images is None else shelf.images[: shelf.count]
        return readable, kept, None if shelf.table is None else shelf.table.numpy()


def _as_it_is(chunk: Any) -> Any:
    return chunk


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute as a loader's workers do: sums over an image depend on the number of threads.

    It is also faster: an image is too small for threads to wait for each other.
    """
    threads = torch.get_num_threads()
    if threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _unpacked(
    readable: list[bool], kept: Tensor | None, table: NDArray[np.generic] | None
) -> Iterator[Tensor | Coded | None]:
    images = iter(() if kept is None else kept)
    values = None if table is None else torch.from_numpy(table)
    for one in readable:
        if not one:
            yield None
        else:
            yield next(images) if values is None else Coded(next(images), values)


def _equal(image: Tensor | Coded | None, tried: Tensor | UnreadableError) -> bool:
    if image is None or not isinstance(tried, Tensor):
        return image is None and not isinstance(tried, Tensor)
    return torch.equal(floats_of(image), as_float(tried))


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
