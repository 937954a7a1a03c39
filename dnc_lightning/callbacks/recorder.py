"""The records of one callback on disk, on rank zero."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from dnc_lightning.reporting.records import RECORDS_FILE, Record, RecordWriter


class Recorder:
    """Appends to a run folder; what the disk refuses is returned in words, never raised."""

    def __init__(self) -> None:
        self.writer: RecordWriter | None = None
        self.written = 0
        self.header: Mapping[str, Any] = {}

    def open(
        self, folder: Path, header: Mapping[str, Any], previous: Path | None, last_step: int
    ) -> list[str]:
        """Start a folder, or go on with the one that a checkpoint names.

        Args:
            folder: Where the records of this run should lie; a fresh run takes the first free of
                `folder`, `folder-v1`, ... so that it never mixes with another.
            header: Facts of the run.
            previous: Folder of the run that is resumed; its records are copied if it is another.
            last_step: Step of the last record to keep; the resumed run makes later ones anew.

        Returns:
            Problems.
        """
        problems = []
        self.header = header
        try:
            if previous is not None and not (previous / RECORDS_FILE).exists():
                problems.append(
                    f"The records of the resumed run are not at {previous}: starting anew."
                )
                previous = None
            if previous is None or previous.resolve() != folder.resolve():
                folder = _free(folder)
            if previous is not None and previous.resolve() != folder.resolve():
                shutil.copytree(previous, folder)
            writer = RecordWriter(folder)
            writer.open(header)
            writer.truncate_after(last_step)
            self.writer = writer
        except (OSError, ValueError) as error:
            problems.append(f"No records are written: {error}. Training goes on.")
        return problems

    def append(self, record: Record, matrices: Mapping[str, Tensor]) -> list[str]:
        """Write one probe; return problems."""
        if self.writer is None:
            return []
        try:
            arrays = {key: value.cpu().numpy() for key, value in matrices.items()}
            self.writer.append(record, arrays)
        except OSError as error:
            return [f"The probe at step {record.step} was not recorded: {error}. Training goes on."]
        self.written += 1
        return []


def _free(folder: Path) -> Path:
    version, candidate = 0, folder
    while (candidate / RECORDS_FILE).exists():
        version += 1
        candidate = folder.with_name(f"{folder.name}-v{version}")
    return candidate
