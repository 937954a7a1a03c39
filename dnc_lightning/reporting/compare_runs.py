"""Several runs side by side: where they lie, their names, which are seeds of one method."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dnc_lightning.records.schema import plain
from dnc_lightning.records.store import HEADER_FILE, RECORDS_FILE, Run, read_run
from dnc_lightning.reporting.read.views import View, views

# A part of a path, or the end of one, that only counts repetitions: "seed0", "vit_seed=1", "3".
SEED = re.compile(r"(?:^|[-_. ])(?:seed|rep|repeat|trial|s)[-_=]?\d+$|^\d+$", re.IGNORECASE)
SETTINGS = ("name", "model", "encoders", "tasks", "pooling", "normalize", "shots", "ways")


@dataclass(frozen=True)
class Named:
    """A run and the path that tells it from the others."""

    name: str  # "simclr/seed0"
    run: Run


@dataclass(frozen=True)
class Group:
    """The seeds of one method."""

    label: str
    runs: tuple[Named, ...]  # at least one


@dataclass(frozen=True)
class Method:
    """One line of a comparison: the runs of a group, seen through one encoder."""

    label: str
    runs: tuple[Named, ...]
    encoder: str

    @property
    def once(self) -> bool:
        """Whether nothing was probed twice, as of encoders that are not trained."""
        return all(len(named.run.records) == 1 for named in self.runs)

    def view(self, task: str) -> View | None:
        """Return the view of a task, if these runs have it."""
        found = (v for v in views(self.runs[0].run) if (v.encoder, v.task) == (self.encoder, task))
        return next(found, None)


@dataclass(frozen=True)
class Found:
    """What reading a number of folders gave."""

    groups: tuple[Group, ...]
    problems: tuple[str, ...]  # runs, or parts of them, that could not be read, in words

    @property
    def runs(self) -> list[Named]:
        """Every run that was read, in the order of the groups."""
        return [named for group in self.groups for named in group.runs]


def run_folders(path: str | os.PathLike[str]) -> list[Path]:
    """Return the run folders at or below a path, sorted.

    Raises:
        FileNotFoundError: If there is no such folder, or none of a run below it.
    """
    path = Path(path)
    if not path.is_dir():
        raise FileNotFoundError(f"expected a folder, but there is none at {path}")
    folders = sorted(found.parent for found in path.rglob(RECORDS_FILE) if _whole(found.parent))
    if not folders:
        raise FileNotFoundError(
            f"expected {RECORDS_FILE} and {HEADER_FILE} in {path} or below it, but found none: "
            "pass the folder of a run, or one above several, that ProbeCallback recorded in"
        )
    return folders


def find_runs(
    paths: Sequence[str | os.PathLike[str]], labels: Sequence[str] | None = None
) -> Found:
    """Read every run at or below some paths, and group the seeds of each method.

    Runs are one group if their paths differ only in what counts repetitions ("seed0", "vit_s1",
    a bare number) and their headers agree in model, encoders, tasks and probe settings.

    Args:
        paths: Run folders, or folders above them.
        labels: One for each path: all runs of a path are then one group of this name, as far as
            their headers agree.

    Returns:
        Groups in the order of `paths`; what cannot be read is left out and named.

    Raises:
        ValueError: If there are not as many labels as paths.
    """
    if labels and len(labels) != len(paths):
        raise ValueError(
            f"expected one label for each of the {len(paths)} paths, got {len(labels)}: "
            f"{', '.join(labels)}"
        )
    problems: list[str] = []
    folders: dict[Path, str] = {}  # with the label of the path that it was found below
    for path, label in zip(paths, labels or [""] * len(paths), strict=True):
        try:
            for folder in run_folders(path):
                folders.setdefault(folder.resolve(), label)
        except FileNotFoundError as error:
            problems.append(str(error))
    groups: dict[tuple[str, str], list[Named]] = {}
    for (folder, label), name in zip(folders.items(), run_names(list(folders)), strict=True):
        try:
            run = read_run(folder)
        except (ValueError, OSError) as error:
            problems.append(f"{name} is left out: {error}")
            continue
        problems += [f"{name}: {problem}" for problem in run.problems]
        if not run.records:
            problems.append(f"{name} is left out: no probe has been recorded yet")
            continue
        key = (label or method_of(name), _settings(run))
        groups.setdefault(key, []).append(Named(name, run))
    return Found(tuple(_labelled(groups)), tuple(problems))


def methods_of(groups: Sequence[Group]) -> list[Method]:
    """Return every group and encoder; the label names the encoder where a group has several."""
    methods = []
    for group in groups:
        # All runs of a group have the encoders and tasks of the first.
        encoders = list(dict.fromkeys(view.encoder for view in views(group.runs[0].run)))
        for encoder in encoders:
            label = group.label if len(encoders) == 1 else f"{group.label} · {encoder}"
            methods.append(Method(label, group.runs, encoder))
    return methods


def tasks_of(methods: Sequence[Method]) -> list[str]:
    """Return every task that some method has."""
    return list(dict.fromkeys(v.task for m in methods for v in views(m.runs[0].run)))


def run_names(folders: Sequence[Path]) -> list[str]:
    """Return the shortest paths that tell folders apart, "simclr/seed0".

    "dnc/probe", where a `ProbeCallback` writes by default, and whatever all paths share are left
    out, as are control characters.
    """
    parts = [
        list(folder.parts[:-2] if folder.parts[-2:] == ("dnc", "probe") else folder.parts)
        for folder in folders
    ]
    parts = [list(map(plain, path)) for path in parts]
    if len(parts) == 1:
        return [parts[0][-1]]
    shared = [set(column) for column in zip(*parts, strict=False)]
    same_length = len({len(path) for path in parts}) == 1
    start = next((i for i, names in enumerate(shared) if len(names) > 1), len(shared))
    return [
        "/".join(
            part
            for i, part in enumerate(path)
            if i >= start and not (same_length and len(shared[i]) == 1)
        )
        or path[-1]
        for path in parts
    ]


def method_of(name: str) -> str:
    """Return a run's name without what counts repetitions.

    Examples:
        >>> method_of("fashion/simclr_seed0"), method_of("simclr/seed=1"), method_of("resnet_18")
        ('fashion/simclr', 'simclr', 'resnet_18')
    """
    return "/".join(filter(None, (SEED.sub("", part) for part in name.split("/"))))


def _whole(folder: Path) -> bool:
    return (folder / HEADER_FILE).exists()


def _settings(run: Run) -> str:
    chosen: dict[str, Any] = {name: run.header.get(name) for name in SETTINGS}
    return json.dumps(chosen, sort_keys=True)


def _labelled(groups: dict[tuple[str, str], list[Named]]) -> Iterator[Group]:
    """Name groups by method, then by model, then number those that are still alike."""
    methods = [method for method, _ in groups]
    taken: dict[str, int] = {}
    for (method, _), runs in groups.items():
        model = str(runs[0].run.header.get("model") or "run")
        label = method or model
        if method and methods.count(method) > 1:
            label = f"{method} · {model}"
        taken[label] = taken.get(label, 0) + 1
        yield Group(label if taken[label] == 1 else f"{label} ({taken[label]})", tuple(runs))
