"""Matrix files that stay open while a report is made, so that each is opened once for all tasks."""

from __future__ import annotations

import zipfile
from collections import OrderedDict
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from dnc_lightning.records.files import UNREADABLE, array_in
from dnc_lightning.records.lines import Record
from dnc_lightning.records.store import Run

ReadMatrix = Callable[[Record, str], NDArray[np.float32] | None]
"""Reads one matrix of a record by its key; None where it is missing or damaged."""

MOST_OPEN = 256  # files; systems allow a process about a thousand


class Archives:
    """Reads single matrices of a run's records; a context manager that closes the files."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.opened: OrderedDict[str, zipfile.ZipFile] = OrderedDict()

    def __enter__(self) -> Archives:
        return self

    def __exit__(self, *_: object) -> None:
        while self.opened:
            self._close_oldest()

    def read(self, record: Record, key: str) -> NDArray[np.float32] | None:
        """Read one matrix of a record; None where it is missing or damaged."""
        if record.matrices is None:
            return None
        try:
            return array_in(self._archive(record.matrices), key)
        except UNREADABLE:
            return None

    def _archive(self, path: str) -> zipfile.ZipFile:
        if path not in self.opened:
            if len(self.opened) >= MOST_OPEN:
                self._close_oldest()
            self.opened[path] = zipfile.ZipFile(self.run.folder / path)
        self.opened.move_to_end(path)
        return self.opened[path]

    def _close_oldest(self) -> None:
        self.opened.popitem(last=False)[1].close()


def read_one(run: Run) -> ReadMatrix:
    """Return a reader that opens a record's file for every matrix, and leaves none open."""

    def read(record: Record, key: str) -> NDArray[np.float32] | None:
        with Archives(run) as archives:
            return archives.read(record, key)

    return read
