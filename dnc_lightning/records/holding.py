"""Who writes into a folder: one process at a time, for as long as it lives."""

from __future__ import annotations

import os
from pathlib import Path

LOCKS = Path("/proc/locks")

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


def held_folders() -> frozenset[tuple[int, int]]:
    """Device and inode of every folder or file that a process of this machine holds.

    Looked up in the system's own table, for whoever tries a lock to learn of it could be in the way
    of a run that begins just then. Empty where the system shows no such table.
    """
    try:
        lines = LOCKS.read_text().splitlines()
    except OSError:
        return frozenset()
    held = set()
    for line in lines:
        words = line.split()
        if "FLOCK" in words and "->" not in words:  # "->" waits for one
            major, minor, inode = words[5].split(":")
            held.add((os.makedev(int(major, 16), int(minor, 16)), int(inode)))
    return frozenset(held)
