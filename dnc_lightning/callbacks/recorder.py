"""The records of one callback on disk, on rank zero."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from dnc_lightning.callbacks.identity import changes
from dnc_lightning.records.holding import Hold
from dnc_lightning.records.store import (
    RECORDS_FILE,
    Record,
    RecordWriter,
    claim_folder,
    read_header,
)


class Recorder:
    """Appends to a run folder; what the disk refuses is returned in words, never raised."""

    def __init__(self) -> None:
        self.writer: RecordWriter | None = None
        self.written = 0
        self.anew = False  # a resumed run whose records begin here
        self.header: Mapping[str, Any] = {}
        self._hold: Hold | None = None  # from `open` to `close`, against other runs

    def open(
        self, folder: Path, header: Mapping[str, Any], previous: Path | None, last_step: int
    ) -> list[str]:
        """Start a folder, or go on with the one that a checkpoint names.

        Args:
            folder: Where the records of this run should lie; a fresh run takes the first free of
                `folder`, `folder-v1`, ... so that it never mixes with another.
            header: Facts of the run.
            previous: Folder of the run that is resumed; its records are copied if it is another
                or a run is still writing there, and left alone if they are those of another
                experiment.
            last_step: Step of the last record to keep; the resumed run makes later ones anew.

        Returns:
            Problems.
        """
        problems: list[str] = []
        self.header = header
        try:
            if previous is not None:
                self.anew, problems = _resumption(previous, header)
            if previous is None or self.anew:
                folder = claim_folder(folder)
                self._hold = Hold(folder)
                self.writer = _opened(folder, header)
                return problems
            try:
                own = previous.resolve() == folder.resolve()
                self._hold = Hold(folder) if own else None
            except BlockingIOError:
                own = False
                problems.append(
                    f"Another run is still writing to {previous}: this one goes on with a copy of "
                    "its records."
                )
            if not own:
                folder = claim_folder(folder)
                self._hold = Hold(folder)
                shutil.copytree(previous, folder, dirs_exist_ok=True, copy_function=_copy)
            writer = _opened(folder, header)
            writer.truncate_after(last_step)
            self.writer = writer
        except (OSError, ValueError) as error:
            problems.append(f"No records are written: {error}. Training goes on.")
        return problems

    def close(self) -> None:
        """Let others write to the folder."""
        if self._hold is not None:
            self._hold.let_go()

    def write(
        self, record: Record, matrices: Mapping[str, Tensor], *, again: bool = False
    ) -> list[str]:
        """Write one probe.

        Args:
            record: The probe.
            matrices: "{encoder}/{task}/{metric}" -> [C, C].
            again: In place of the one of the same step.

        Returns:
            Problems.
        """
        if self.writer is None:
            return []
        try:
            arrays = {key: value.cpu().numpy() for key, value in matrices.items()}
            if again:
                self.writer.replace(record, arrays)
            else:
                self.writer.append(record, arrays)
                self.written += 1
        except OSError as error:
            return [f"The probe at step {record.step} was not recorded: {error}. Training goes on."]
        return []


class RecordingCallback(Callback):
    """Lets others write to its folder as soon as its run has ended, however it ends."""

    _recorder_: Recorder

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Let another run go on in the folder."""
        self._recorder_.close()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Let another run go on in the folder."""
        self._recorder_.close()


def _copy(source: str, target: str) -> None:
    with suppress(FileNotFoundError):  # the run that still writes there has replaced it
        shutil.copy2(source, target)


def _opened(folder: Path, header: Mapping[str, Any]) -> RecordWriter:
    writer = RecordWriter(folder)
    writer.open(header)
    return writer


def _resumption(previous: Path, header: Mapping[str, Any]) -> tuple[bool, list[str]]:
    """Whether the records of a resumed run must begin anew, and what there is to say."""
    if not (previous / RECORDS_FILE).exists():
        return True, [f"The records of the resumed run are not at {previous}: starting anew."]
    try:
        old = read_header(previous)
    except (OSError, ValueError) as error:
        return True, [f"The resumed run is not known by its header: {error}. Starting anew."]
    if changed := changes(old, header):
        return True, [
            f"The resumed run, whose records stay in {previous}, was probed otherwise: "
            f"{'; '.join(changed)}. One curve must not hold both: starting anew, in a folder of "
            "its own."
        ]
    if (before := old.get("precision", header["precision"])) != header["precision"]:
        return False, [
            f"The records up to here were made in precision {before}, later ones in "
            f"{header['precision']}."
        ]
    return False, []
