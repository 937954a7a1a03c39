"""Whole-file writes that a kill, a full disk or a concurrent reader never sees half done."""

from __future__ import annotations

import os
import re
from pathlib import Path

TEMPORARY_SUFFIX = ".part"


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


def plain_parts(name: str) -> list[str]:
    """The parts of a path that stays below where it begins: "../a" gives "__" and "a"."""
    return [re.sub(r"^\.+$", lambda dots: "_" * len(dots[0]), p) for p in name.split("/") if p]
