"""One record as one line of JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import IO, Any

from dnc_lightning.records.files import MEBIBYTE, check_regular
from dnc_lightning.records.schema import FAR, RECORD, checked, parse, short

VERSION = 1
MOST_OF_A_FILE = 256 * MEBIBYTE
MOST_OF_A_LINE = 8 * MEBIBYTE
MOST_NUMBERS = 4_000_000  # of all records
MOST_DAMAGED = 10_000  # lines
MOST_PROBLEMS = 20  # that are named one by one


@dataclass(frozen=True)
class Record:
    """One probe of one run."""

    step: int  # steps done when the probe ran, in the unit that the header names
    epoch: int
    time: float  # seconds of training wall time
    scalars: Mapping[str, float]  # logged key -> value, nan where undefined
    uncalibrated: Mapping[str, float] = field(default_factory=dict)  # before BatchNorm calibration
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    matrices: str | None = None  # path of the .npz relative to the run folder; set by the writer


def read_lines(path: Path) -> tuple[list[Record], list[str]]:
    """Read the records of a file, and name, in words, the lines that hold none.

    Raises:
        OSError: If it is no regular file.
        ValueError: If a line was written by a newer version, or the file is too large.
    """
    records: list[Record] = []
    problems: list[str] = []
    numbers = damaged = 0
    check_regular(path, MOST_OF_A_FILE)
    with path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(MOST_OF_A_LINE), b""), start=1):
            if damaged > MOST_DAMAGED or numbers > MOST_NUMBERS:
                problems.append(f"{path.name}: what follows line {number - 1:,} is not read")
                break
            read = _read_line(line, path)
            if isinstance(read, Record):
                records.append(read)
                numbers += len(read.scalars) + len(read.uncalibrated)
                continue
            damaged += 1
            if damaged <= MOST_PROBLEMS:
                problems.append(f"{path.name}, line {number}, {read}: left out")
    if damaged > MOST_PROBLEMS:
        more = damaged - MOST_PROBLEMS
        problems.insert(MOST_PROBLEMS, f"{path.name}: {more:,} more lines are left out")
    return records, problems


def _read_line(line: bytes, path: Path) -> Record | str:
    """A record, or what is wrong with a line that holds none."""
    try:
        content = parse(line)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        whole = line.endswith(b"\n")
        return "is damaged" if whole else "was cut short (the run was stopped while writing)"
    if isinstance(version := content.get("version"), int):
        check_version(version, path)
    try:
        return _record_from(content)
    except ValueError as error:
        return f"is damaged ({error})"


def read_ends(path: Path, last: int) -> tuple[Record, list[Record]]:
    """Read the first record of a file and the last ones, in a time that its length does not change.

    Raises:
        ValueError: If one of them is damaged, or there are none.
    """
    with path.open("rb") as file:
        first = file.readline()
        end, block, tail = file.seek(0, os.SEEK_END), len(first) * last, b""
        while end > 0 and tail.count(b"\n") <= last:  # the newline before them too
            end, before = max(0, end - block), end
            file.seek(end)
            tail = file.read(before - end) + tail
    records = [_record_from(parse(line)) for line in (first, *tail.splitlines()[-last:])]
    return records[0], records[1:]


def check_version(version: object, path: Path) -> None:
    """Refuse what a newer version has written.

    Raises:
        ValueError: it is newer, or no version at all.
    """
    if not isinstance(version, int) or not version >= 1:
        raise ValueError(f'expected an integer "version" in {path}, got {short(version)}')
    if version > VERSION:
        raise ValueError(
            f"{path} is of version {short(version)}, but this dnc_lightning reads versions up to "
            f'{VERSION}: update it (pip install -U "dnc_lightning")'
        )


def step_in(line: bytes) -> object:
    """The step of a record's line; None where it is damaged."""
    try:
        return json.loads(line)["step"]
    except (ValueError, TypeError, KeyError):
        return None


def ends_a_line(file: IO[bytes]) -> bool:
    """Whether a file that is not empty ends with a whole line."""
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"


def _record_from(content: object) -> Record:
    found = checked(RECORD, content)
    given = {f.name: found[f.name] for f in fields(Record)}
    return Record(**given | {name: tuple(given[name]) for name in ("notes", "warnings")})


def record_line(record: Record) -> bytes:
    """Format a record; what is not finite, or larger than `FAR`, becomes null."""
    content = {
        "version": VERSION,
        **vars(record),
        "time": _finite(record.time),
        "scalars": {key: _finite(value) for key, value in record.scalars.items()},
        "uncalibrated": {key: _finite(value) for key, value in record.uncalibrated.items()},
        "notes": list(map(str, record.notes)),
        "warnings": list(map(str, record.warnings)),
    }
    return to_json(content).encode() + b"\n"


def to_json(content: Mapping[str, Any], indent: int | None = None) -> str:
    """Format plain JSON, which has no nan and no infinity."""
    return json.dumps(content, allow_nan=False, ensure_ascii=False, indent=indent)


def _finite(value: float) -> float | None:
    return float(value) if abs(value) <= FAR else None
