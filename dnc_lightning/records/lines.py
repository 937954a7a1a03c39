"""One record as one line of JSON."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

VERSION = 1


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
        ValueError: If a line was written by a newer version.
    """
    records: list[Record] = []
    problems: list[str] = []
    lines = path.read_bytes().splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        try:
            content = json.loads(line)
        except ValueError:
            content = None
        if not isinstance(content, dict):
            cut_short = number == len(lines) and not line.endswith(b"\n")
            why = "was cut short (the run was stopped while writing)" if cut_short else "is damaged"
            problems.append(f"{path.name}, line {number}, {why}: left out")
            continue
        check_version(content.get("version"), path)
        try:
            records.append(_record_from(content))
        except (KeyError, ValueError, TypeError, AttributeError):
            problems.append(f"{path.name}, line {number}, is damaged: left out")
    return records, problems


def check_version(version: object, path: Path) -> None:
    """Refuse what a newer version has written."""
    if not isinstance(version, int):
        raise ValueError(f'expected an integer "version" in {path}, got {version!r}')
    if version > VERSION:
        raise ValueError(
            f"{path} is of version {version}, but this dnc_lightning reads versions up to "
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


def _record_from(content: Mapping[str, Any]) -> Record:
    return Record(
        step=int(content["step"]),
        epoch=int(content["epoch"]),
        time=_number(content["time"]),
        scalars={key: _number(value) for key, value in content["scalars"].items()},
        uncalibrated={key: _number(value) for key, value in content["uncalibrated"].items()},
        notes=tuple(map(str, content["notes"])),
        warnings=tuple(map(str, content["warnings"])),
        matrices=content["matrices"],
    )


def record_line(record: Record) -> bytes:
    """Format a record; what is not finite becomes null."""
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
    return float(value) if math.isfinite(value) else None


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
