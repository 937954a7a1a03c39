"""Whole-file writes, which nobody ever sees half done, and single arrays of a matrix file."""

from __future__ import annotations

import os
import re
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

TEMPORARY_SUFFIX = ".part"
ARRAY_SUFFIX = ".npy"  # of the members of an .npz file
UNREADABLE = (OSError, ValueError, KeyError, zipfile.BadZipFile)
"""What opening a missing or damaged matrix file raises, or reading an array of it."""


def write_atomically(path: Path, content: bytes) -> None:
    """Replace `path` by `content` in one step, creating its folder.

    A reader sees the old file or the new one; after a kill at most a `*.part` file lies beside it.

    Args:
        path: File to write.
        content: Everything it is to hold.

    Raises:
        OSError: If the folder cannot be written or the disk is full; `path` is then unchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}{TEMPORARY_SUFFIX}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def array_in(archive: zipfile.ZipFile, key: str) -> NDArray[np.float32]:
    """Read one array of an .npz file by its key; raises what is `UNREADABLE`."""
    with archive.open(key + ARRAY_SUFFIX) as member:
        return np.asarray(np.lib.format.read_array(member), dtype=np.float32)


def plain_parts(name: str) -> list[str]:
    """The parts of a path that stays below where it begins: "../a" gives "__" and "a"."""
    return [re.sub(r"^\.+$", lambda dots: "_" * len(dots[0]), p) for p in name.split("/") if p]
