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

import contextlib
import dataclasses
import io
import itertools
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnc_lightning.records.declarations import declarations
from dnc_lightning.records.files import (
    ARRAY_SUFFIX,
    MEBIBYTE,
    TEMPORARY_SUFFIX,
    array_in,
    check_regular,
    open_archive,
    write_atomically,
)
from dnc_lightning.records.lines import (
    VERSION,
    Record,
    check_version,
    ends_a_line,
    read_lines,
    record_line,
    step_in,
    to_json,
)
from dnc_lightning.records.schema import HEADER, checked, parse

__all__ = ["Record", "RecordWriter", "Run", "claim_folder", "read_header", "read_run"]

HEADER_FILE = "run.json"
RECORDS_FILE = "records.jsonl"
MATRICES_FOLDER = "matrices"
EXAMPLES_FILE = "examples.zip"
MOST_OF_A_HEADER = 8 * MEBIBYTE


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
            with open_archive(self.folder, record.matrices) as archive:
                keys = [name.removesuffix(ARRAY_SUFFIX) for name in archive.namelist()]
                return {key: array_in(archive, key) for key in keys}
        except ValueError:
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
        write_atomically(self.folder / HEADER_FILE, to_json(content, indent=2).encode())
        (self.folder / MATRICES_FOLDER).mkdir(exist_ok=True)
        for leftover in self.folder.rglob(f"*{TEMPORARY_SUFFIX}"):
            leftover.unlink(missing_ok=True)
        records = self.folder / RECORDS_FILE
        if not records.exists():
            write_atomically(records, b"")
        elif (content_before := records.read_bytes()) and not content_before.endswith(b"\n"):
            self._rewrite(read_lines(records)[0])

    def append(self, record: Record, matrices: Mapping[str, NDArray[Any]]) -> Record:
        """Write one probe: the matrices first, then the line that refers to them.

        A step has one line: the records may not hold this one yet, see `replace`.

        Args:
            record: The probe; its `matrices` field is filled in here.
            matrices: "{encoder}/{task}/{metric}" -> [C, C]; may be empty.

        Returns:
            The record as written.

        Raises:
            OSError: If the disk refuses; no line then refers to a missing file.
        """
        record = self._with_matrices(record, matrices)
        with (self.folder / RECORDS_FILE).open("a+b") as file:
            # A write that a full disk cut short must not swallow the next record too.
            if file.tell() and not ends_a_line(file):
                file.write(b"\n")
            file.write(record_line(record))
            file.flush()
            os.fsync(file.fileno())
        return record

    def replace(self, record: Record, matrices: Mapping[str, NDArray[Any]]) -> Record:
        """Write one probe in place of that of the same step, at the end of the records.

        Args:
            record: As in `append`.
            matrices: As in `append`.

        Returns:
            The record as written.

        Raises:
            OSError: If the disk refuses; the old line is then still there.
        """
        record, path = self._with_matrices(record, matrices), self.folder / RECORDS_FILE
        # Bytes of the others are kept as they are: what this version cannot read stays too.
        lines = [
            line.removesuffix(b"\n") + b"\n"
            for line in path.read_bytes().splitlines(keepends=True)
            if step_in(line) != record.step
        ]
        write_atomically(path, b"".join([*lines, record_line(record)]))
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
            self._rewrite(record for record in read_lines(records)[0] if record.step <= step)
        for path in (self.folder / MATRICES_FOLDER).glob("step-*.npz"):
            if int(path.stem.removeprefix("step-")) > step:
                path.unlink(missing_ok=True)

    def _with_matrices(self, record: Record, matrices: Mapping[str, NDArray[Any]]) -> Record:
        if not matrices:
            return record
        path = f"{MATRICES_FOLDER}/step-{record.step:09d}.npz"
        buffer = io.BytesIO()
        arrays: Any = {key: np.asarray(value, np.float32) for key, value in matrices.items()}
        np.savez(buffer, **arrays)
        write_atomically(self.folder / path, buffer.getvalue())
        return dataclasses.replace(record, matrices=path)

    def _rewrite(self, records: Iterable[Record]) -> None:
        write_atomically(self.folder / RECORDS_FILE, b"".join(map(record_line, records)))


def claim_folder(folder: str | os.PathLike[str]) -> Path:
    """Make the first of `folder`, `folder-v1`, ... that no run has, and take it in the same step.

    Of any number of processes that ask at once, each gets a folder of its own.

    Args:
        folder: Where the records should lie.

    Returns:
        A folder with an empty `records.jsonl`.

    Raises:
        OSError: If it cannot be written.
    """
    folder = Path(folder)
    for version in itertools.count():
        candidate = folder if version == 0 else folder.with_name(f"{folder.name}-v{version}")
        candidate.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            (candidate / RECORDS_FILE).touch(exist_ok=False)  # the system lets one of them do this
            return candidate
    raise AssertionError("unreachable")


def read_header(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the header of a run folder.

    Raises:
        OSError: If there is none.
        ValueError: If it is not readable, or was written by a newer version.
    """
    path = Path(folder) / HEADER_FILE
    check_regular(path, MOST_OF_A_HEADER)
    try:
        header = parse(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"expected JSON in {path}, got something else: {error}") from error
    if not isinstance(header, dict):
        raise ValueError(f"expected a JSON object in {path}, got {type(header).__name__}")
    check_version(header.get("version"), path)
    try:
        return dict(checked(HEADER, header))
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error


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
    header = read_header(folder)
    records, problems = read_lines(folder / RECORDS_FILE)
    problems += declarations(header)[1]
    for place, record in enumerate(records):
        if record.matrices is not None and not _is_archive(folder, record.matrices):
            problems.append(f"{record.matrices} (step {record.step}) is missing or damaged")
            records[place] = dataclasses.replace(record, matrices=None)
    if (folder / EXAMPLES_FILE).exists() and not _is_archive(folder, EXAMPLES_FILE):
        problems.append(f"{EXAMPLES_FILE} is damaged: no example images are shown")
    return Run(folder=folder, header=header, records=tuple(records), problems=tuple(problems))


def _is_archive(folder: Path, name: str) -> bool:
    try:
        open_archive(folder, name).close()
    except ValueError:
        return False
    return True
