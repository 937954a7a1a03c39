"""Runs below some folders, followed as they are written, damaged, deleted, or appear."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dnc_lightning.records.holding import held_folders
from dnc_lightning.records.schema import plain
from dnc_lightning.records.store import HEADER_FILE, RECORDS_FILE, read_run
from dnc_lightning.reporting.compare_runs import run_names
from dnc_lightning.reporting.live.rows import row

LOOK_EVERY = 0.5
"""Seconds between two looks at the records of known runs."""

SEARCH_PATIENCE = 50
"""Folders are searched for new runs when so many times as long has passed as it took, ..."""

SEARCH_EVERY = 1.0
"""... and this many seconds at least."""

State = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True)
class Seen:
    """A run as it was last read."""

    folder: Path
    state: State  # of its files
    training: bool  # whether a process of this machine holds the folder
    row: dict[str, Any]  # what the overview shows, with "id", "version" and "problem"


@dataclass
class Watched:
    """All runs at or below some folders, and what changed since.

    Only what lies inside one of them is ever opened: a link that leads out is passed over.
    """

    roots: Sequence[Path]
    runs: dict[str, Seen] = field(default_factory=dict)  # by id
    count: int = 0  # changes so far
    changed: threading.Condition = field(default_factory=threading.Condition)
    _next_search: float = 0.0
    _folders: list[Path] = field(default_factory=list)
    _names: dict[Path, str] = field(default_factory=dict)

    def look(self) -> None:
        """Read what is new once, and wake up whoever waits for it."""
        now = time.monotonic()
        if now >= self._next_search:
            self._folders = self._search()
            self._names = dict(zip(self._folders, run_names(self._folders), strict=True))
            took = time.monotonic() - now
            self._next_search = now + max(SEARCH_EVERY, SEARCH_PATIENCE * took)
        held = held_folders()
        found = {}
        for folder in self._folders:
            name = identity(folder)
            seen = self._read(folder, self.runs.get(name), held)
            if seen is not None:
                found[name] = seen
        with self.changed:
            if found != self.runs:
                self.runs = found
                self.count += 1
                self.changed.notify_all()

    def wait(self, count: int, seconds: float) -> int:
        """Return the number of changes once it is not `count` any more, or the time is up."""
        with self.changed:
            self.changed.wait_for(lambda: self.count != count, timeout=seconds)
            return self.count

    def _search(self) -> list[Path]:
        # Unlike Path.rglob it passes over what is deleted while it looks.
        found = {
            folder
            for root in self.roots
            for place, _, names in os.walk(root)
            if RECORDS_FILE in names and _inside(folder := Path(place).resolve(), self.roots)
        }
        return sorted(found)

    def _read(self, folder: Path, before: Seen | None, held: frozenset[Any]) -> Seen | None:
        try:
            state = tuple(map(_state, (folder / HEADER_FILE, folder / RECORDS_FILE)))
            place = folder.stat()
        except OSError:
            return None  # deleted, or not whole yet
        training = (place.st_dev, place.st_ino) in held
        name = self._names[folder]
        if before and (before.state, before.training, before.row["name"]) == (
            state,
            training,
            name,
        ):
            return before
        # Whatever stands there now is another file, so its place is looked at anew.
        if not all(_inside(folder / name, self.roots) for name in (HEADER_FILE, RECORDS_FILE)):
            return None
        version = hashlib.sha256(repr((state, training)).encode()).hexdigest()[:16]
        about: dict[str, Any] = {
            "id": identity(folder),
            "version": version,
            "name": name,
            "folder": plain(str(folder)),
            "training": training,
            "written": state[1][0] / 1e9,
        }
        try:
            about |= row(read_run(folder)) | {"problem": ""}
        except Exception as error:  # whatever strangers may have written
            about |= {"problem": plain(f"cannot be read: {error}")}
        return Seen(folder, state, training, about)


def identity(folder: Path) -> str:
    """Return the name of a run in addresses, which says nothing of where it lies."""
    return hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]


def _state(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino


def _inside(path: Path, roots: Sequence[Path]) -> bool:
    real = path.resolve()
    return any(real.is_relative_to(root) for root in roots)
