"""Who writes into a folder: one process at a time, for as long as it lives."""

from __future__ import annotations

import os
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


class Hold:
    """A folder held against other processes and other holds of this one.

    The system lets go of it when the process ends, however it ends. Where it knows no such locks,
    or the file system none, a folder can always be held.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        """Hold a folder.

        Raises:
            BlockingIOError: another hold is on it.
            OSError: the folder cannot be opened.
        """
        self._descriptor: int | None = None
        if fcntl is None:
            return
        descriptor = os.open(Path(folder), os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if isinstance(error, BlockingIOError):
                raise  # any other: a file system without locks
        else:
            self._descriptor = descriptor

    def let_go(self) -> None:
        """Free the folder; once is enough."""
        if self._descriptor is not None:
            # Workers that were forked meanwhile share the lock: closing alone would not free it.
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            os.close(self._descriptor)
            self._descriptor = None
