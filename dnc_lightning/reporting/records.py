"""A run on disk: what a probe writes and every report reads.

```
run.json                        header: probe set, encoders, tasks, settings (a dict)
records.jsonl                   one probe a line, appended
matrices/step-000000012.npz     "{encoder}/{task}/cdnv" and ".../directional_cdnv", float32 [C, C]
examples.zip                    "{task}/00012.jpg": thumbnails of class 12, side by side; optional
```

Only whole lines and whole files are ever left behind, save for the last line of `records.jsonl`
after a kill; the reader skips that one and says so.
"""

from __future__ import annotations

import io
import json
import math
import os
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from dnc_lightning.reporting.files import TEMPORARY_SUFFIX, write_atomically

VERSION = 1
HEADER_FILE = "run.json"
RECORDS_FILE = "records.jsonl"
MATRICES_FOLDER = "matrices"
EXAMPLES_FILE = "examples.zip"


@dataclass(frozen=True)
class Record:
    """One probe of one run."""

    step: int  # optimizer steps done when the probe ran
    epoch: int
    time: float  # seconds of training wall time
    scalars: Mapping[str, float]  # logged key -> value, nan where undefined
    uncalibrated: Mapping[str, float] = field(default_factory=dict)  # before BatchNorm calibration
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    matrices: str | None = None  # path of the .npz relative to the run folder; set by the writer


@dataclass(frozen=True)
class Run:
    """A run folder, read. Matrices stay on disk until asked for."""

    folder: Path
    header: Mapping[str, Any]
    records: tuple[Record, ...]  # in the order written
    problems: tuple[str, ...]  # what could not be read, in words

    def series(self, key: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return one scalar over training.

        Args:
            key: A logged key, for example "probe/label/cdnv".

        Returns:
            Steps [K] and values [K], over the K records that hold `key` (K may be 0).
        """
        having = [record for record in self.records if key in record.scalars]
        steps = np.array([record.step for record in having], dtype=np.int64)
        return steps, np.array([record.scalars[key] for record in having], dtype=np.float64)

    def matrices(self, record: Record) -> dict[str, NDArray[np.float32]]:
        """Read the pair matrices of one record.

        Args:
            record: One of `records`.

        Returns:
            "{encoder}/{task}/{metric}" -> [C, C], nan for undefined pairs; empty where there
            are none or the file is missing or damaged (`problems` then says so).
        """
        if record.matrices is None:
            return {}
        try:
            # numpy leaves a file that it cannot read open, if it opened it itself.
            with (self.folder / record.matrices).open("rb") as file, np.load(file) as archive:
                return {key: np.asarray(archive[key], dtype=np.float32) for key in archive.files}
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            return {}


class RecordWriter:
    """Appends the probes of one run to a folder; one process writes a folder at a time."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        """Store the folder, which `open` makes."""
        self.folder = Path(folder)

    def open(self, header: Mapping[str, Any]) -> None:
        """Write the header and make the folder ready for `append`.

        Records already there are kept, save for a line that a kill cut short: call
        `truncate_after(step)` to go on from a checkpoint, `truncate_after(-1)` to start anew.

        Args:
            header: JSON-serialisable facts of the run; "version" is added.

        Raises:
            OSError: If the folder cannot be written.
            ValueError: If the header is not plain JSON (nan and infinity are not).
        """
        content = {"version": VERSION, **header}
        write_atomically(self.folder / HEADER_FILE, _to_json(content, indent=2).encode())
        (self.folder / MATRICES_FOLDER).mkdir(exist_ok=True)
        for leftover in self.folder.rglob(f"*{TEMPORARY_SUFFIX}"):
            leftover.unlink(missing_ok=True)
        records = self.folder / RECORDS_FILE
        if not records.exists():
            write_atomically(records, b"")
        elif (content_before := records.read_bytes()) and not content_before.endswith(b"\n"):
            self._rewrite(_read_lines(records)[0])

    def append(self, record: Record, matrices: Mapping[str, NDArray[Any]]) -> Record:
        """Write one probe: the matrices first, then the line that refers to them.

        Args:
            record: The probe; its `matrices` field is filled in here.
            matrices: "{encoder}/{task}/{metric}" -> [C, C]; may be empty.

        Returns:
            The record as written.

        Raises:
            OSError: If the disk refuses; no line then refers to a missing file.
        """
        if matrices:
            path = f"{MATRICES_FOLDER}/step-{record.step:09d}.npz"
            buffer = io.BytesIO()
            arrays: dict[str, Any] = {
                key: np.asarray(value, dtype=np.float32) for key, value in matrices.items()
            }
            np.savez(buffer, **arrays)
            write_atomically(self.folder / path, buffer.getvalue())
            record = replace(record, matrices=path)
        with (self.folder / RECORDS_FILE).open("a+b") as file:
            # A write that a full disk cut short must not swallow the next record too.
            if file.tell() and not _ends_a_line(file):
                file.write(b"\n")
            file.write(_record_line(record))
            file.flush()
            os.fsync(file.fileno())
        return record

    def truncate_after(self, step: int) -> None:
        """Drop every record, and its matrices, of a step greater than `step`.

        Args:
            step: Last step to keep; -1 drops everything.

        Raises:
            OSError: If the folder cannot be written.
            ValueError: If the records are of a newer version.
        """
        records = self.folder / RECORDS_FILE
        if records.exists():
            self._rewrite(record for record in _read_lines(records)[0] if record.step <= step)
        for path in (self.folder / MATRICES_FOLDER).glob("step-*.npz"):
            if int(path.stem.removeprefix("step-")) > step:
                path.unlink(missing_ok=True)

    def _rewrite(self, records: Iterable[Record]) -> None:
        write_atomically(self.folder / RECORDS_FILE, b"".join(map(_record_line, records)))


def read_run(folder: str | os.PathLike[str]) -> Run:
    """Read a run folder.

    A last line that a kill cut short, an unreadable line and a missing matrix file are left out and
    named in `Run.problems`.

    Args:
        folder: Holds `run.json` and `records.jsonl`.

    Returns:
        The run; `records` is empty if no probe has been written yet.

    Raises:
        FileNotFoundError: If the folder, its header or its records are missing.
        ValueError: If the header is not readable, or anything was written by a newer version.
    """
    folder = Path(folder)
    for path in (folder, folder / HEADER_FILE, folder / RECORDS_FILE):
        if not path.exists():
            raise FileNotFoundError(
                f"expected a run folder with {HEADER_FILE} and {RECORDS_FILE}, but {path} does not "
                "exist: pass the folder that ProbeCallback wrote its records to"
            )
    header = _read_header(folder / HEADER_FILE)
    records, problems = _read_lines(folder / RECORDS_FILE)
    for record in records:
        if record.matrices is not None and not zipfile.is_zipfile(folder / record.matrices):
            problems.append(f"{record.matrices} (step {record.step}) is missing or damaged")
    if (folder / EXAMPLES_FILE).exists() and not zipfile.is_zipfile(folder / EXAMPLES_FILE):
        problems.append(f"{EXAMPLES_FILE} is damaged: no example images are shown")
    return Run(folder=folder, header=header, records=tuple(records), problems=tuple(problems))


def _read_header(path: Path) -> dict[str, Any]:
    try:
        header = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"expected JSON in {path}, got something else: {error}") from error
    if not isinstance(header, dict):
        raise ValueError(f"expected a JSON object in {path}, got {type(header).__name__}")
    _check_version(header.get("version"), path)
    return header


def _read_lines(path: Path) -> tuple[list[Record], list[str]]:
    records: list[Record] = []
    problems: list[str] = []
    lines = path.read_bytes().splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        try:
            content = json.loads(line)
            if not isinstance(content, dict):
                raise TypeError("not a JSON object")
        except (ValueError, TypeError):
            cut_short = number == len(lines) and not line.endswith(b"\n")
            why = "was cut short (the run was stopped while writing)" if cut_short else "is damaged"
            problems.append(f"{path.name}, line {number}, {why}: left out")
            continue
        _check_version(content.get("version"), path)
        try:
            records.append(_record_from(content))
        except (KeyError, ValueError, TypeError, AttributeError):
            problems.append(f"{path.name}, line {number}, is damaged: left out")
    return records, problems


def _check_version(version: object, path: Path) -> None:
    if not isinstance(version, int):
        raise ValueError(f'expected an integer "version" in {path}, got {version!r}')
    if version > VERSION:
        raise ValueError(
            f"{path} is of version {version}, but this dnc_lightning reads versions up to "
            f'{VERSION}: update it (pip install -U "dnc_lightning")'
        )


def _ends_a_line(file: IO[bytes]) -> bool:
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


def _record_line(record: Record) -> bytes:
    content = {
        "version": VERSION,
        "step": record.step,
        "epoch": record.epoch,
        "time": _finite(record.time),
        "scalars": {key: _finite(value) for key, value in record.scalars.items()},
        "uncalibrated": {key: _finite(value) for key, value in record.uncalibrated.items()},
        "notes": _strings(record.notes),
        "warnings": _strings(record.warnings),
        "matrices": record.matrices,
    }
    return _to_json(content).encode() + b"\n"


def _to_json(content: Mapping[str, Any], indent: int | None = None) -> str:
    return json.dumps(content, allow_nan=False, ensure_ascii=False, indent=indent)


def _strings(values: Sequence[str]) -> list[str]:
    return [str(value) for value in values]


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
