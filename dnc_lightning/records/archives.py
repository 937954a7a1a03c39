"""Matrix files that stay open while a report is made, so that each is opened once for all tasks."""

from __future__ import annotations

import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from dnc_lightning.records.store import Record, Run

ReadMatrix = Callable[[Record, str], NDArray[np.float32] | None]
"""Reads one matrix of a record by its key; None where it is missing or damaged."""

MOST_OPEN = 256  # files; systems allow a process about a thousand


class Archives:
    """Reads single matrices of a run's records; a context manager that closes the files."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.opened: OrderedDict[str, tuple[IO[bytes], Mapping[str, Any]]] = OrderedDict()

    def __enter__(self) -> Archives:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        while self.opened:
            self._close_oldest()

    def read(self, record: Record, key: str) -> NDArray[np.float32] | None:
        """Read one matrix of a record; None where it is missing or damaged."""
        if record.matrices is None:
            return None
        try:
            return np.asarray(self._archive(record.matrices)[key], dtype=np.float32)
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            return None

    def _archive(self, path: str) -> Mapping[str, Any]:
        if path not in self.opened:
            if len(self.opened) >= MOST_OPEN:
                self._close_oldest()
            # numpy leaves a file that it cannot read open, if it opened it itself.
            file = Path(self.run.folder / path).open("rb")  # noqa: SIM115 - closed by _close_oldest
            self.opened[path] = file, {}
            self.opened[path] = file, np.load(file)
        self.opened.move_to_end(path)
        return self.opened[path][1]

    def _close_oldest(self) -> None:
        file, archive = self.opened.popitem(last=False)[1]
        if isinstance(archive, np.lib.npyio.NpzFile):
            archive.close()
        file.close()


def read_one(run: Run) -> ReadMatrix:
    """Return a reader that opens a record's file for every matrix, and leaves none open."""

    def read(record: Record, key: str) -> NDArray[np.float32] | None:
        with Archives(run) as archives:
            return archives.read(record, key)

    return read
