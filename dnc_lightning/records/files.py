"""Whole-file writes, which nobody ever sees half done, and reads that trust no file.

A file is read if it is a regular one and small enough. Of an archive the directory is read first:
what its members declare decides before anything is inflated.
"""

from __future__ import annotations

import math
import os
import re
import stat
import struct
import zipfile
from pathlib import Path, PurePath
from typing import IO

import numpy as np
from numpy.typing import NDArray

TEMPORARY_SUFFIX = ".part"
ARRAY_SUFFIX = ".npy"  # of the members of an .npz file
MEBIBYTE = 2**20
MOST_OF_AN_ARRAY = 64 * MEBIBYTE  # float32 of 4,096 classes
MOST_OF_AN_ARCHIVE = 256 * MEBIBYTE  # all members, inflated
MOST_OF_A_DIRECTORY = MEBIBYTE  # some 10,000 members


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


def check_regular(path: Path, most: int) -> None:
    """Look at a file that strangers may have put there, before it is opened.

    Raises:
        OSError: It cannot be read, or is a device, a pipe or a folder.
        ValueError: It is larger than `most` bytes.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError(f"expected a regular file at {path}, got a device, a pipe or a folder")
    if found.st_size > most:
        raise ValueError(
            f"expected at most {most // MEBIBYTE} MB in {path}, got {found.st_size // MEBIBYTE} MB"
        )


def open_archive(folder: Path, name: str) -> zipfile.ZipFile:
    """Open an archive inside a folder, as this package writes them.

    Args:
        folder: Of a run.
        name: Path relative to it, as a file of the run gives it.

    Raises:
        ValueError: It leads out of the folder, or is no such archive, or one that declares more
            than it may hold.
    """
    try:
        pure, path = PurePath(name), folder / name
        inside = path.resolve().is_relative_to(folder.resolve())
        if pure.is_absolute() or ".." in pure.parts or not inside or not path.is_file():
            raise ValueError("no file of the run's folder")
        with path.open("rb") as file:
            file.seek(-22, os.SEEK_END)  # the record that ends an archive without a comment
            signature, size = struct.unpack("<4s8xI6x", file.read(22))
        if signature != b"PK\x05\x06" or size > MOST_OF_A_DIRECTORY:
            raise ValueError("no archive, or one of too many members")
        archive = zipfile.ZipFile(path)
        if sum(member.file_size for member in archive.infolist()) > MOST_OF_AN_ARCHIVE:
            archive.close()
            raise ValueError("too large")
    except Exception as error:  # what zipfile raises over a damaged archive is not documented
        raise ValueError(f"{name} cannot be read: {error}") from error
    return archive


def member_of(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    """Read one member of an archive.

    Raises:
        ValueError: It is missing, damaged, or declares more than `most` bytes.
    """
    try:
        member = archive.getinfo(name)
        if member.file_size > most:
            raise ValueError(f"{member.file_size:,} bytes")
        return archive.read(member)
    except Exception as error:
        raise ValueError(f"{name} cannot be read: {error}") from error


def array_in(archive: zipfile.ZipFile, key: str) -> NDArray[np.float32]:
    """Read one array of numbers of an .npz file by its key.

    Raises:
        ValueError: It is missing, damaged, too large, or holds something else.
    """
    name = key + ARRAY_SUFFIX
    try:
        member = archive.getinfo(name)
        with archive.open(member) as file:
            shape, fortran, dtype = _array_header(file)
            size = math.prod(shape) * dtype.itemsize
            if dtype.kind not in "fiub" or min(shape, default=0) < 0 or size > MOST_OF_AN_ARRAY:
                raise ValueError(f"{dtype} {shape}")
            if member.file_size != file.tell() + size:
                raise ValueError(f"{shape} in {member.file_size} bytes")
            values = np.frombuffer(file.read(), dtype).astype(np.float32)
    except Exception as error:
        raise ValueError(f"{name} cannot be read: {error}") from error
    return values.reshape(shape[::-1]).T if fortran else values.reshape(shape)


def _array_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(file)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }[version]
    return read(file)


def plain_parts(name: str) -> list[str]:
    """The parts of a path that stays below where it begins: "../a" gives "__" and "a"."""
    return [re.sub(r"^\.+$", lambda dots: "_" * len(dots[0]), p) for p in name.split("/") if p]
