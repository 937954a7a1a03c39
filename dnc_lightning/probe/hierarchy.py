"""Coarser tasks made of finer ones: species -> family, fine label -> superclass."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from operator import index
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
import torch
from torch import Tensor

from dnc_lightning.functional.labels import coarsen
from dnc_lightning.probe.labels import Task

Hierarchy = Mapping[str, Any]
"""Name of the coarse task -> mapping, or (name of the fine task, mapping)."""


def add_coarse_tasks(tasks: Mapping[str, Task], hierarchy: Hierarchy | None) -> dict[str, Task]:
    """Append one task per entry of a hierarchy, made of one that is there already.

    Args:
        tasks: Labellings of the same N samples.
        hierarchy: Coarse name -> mapping, or (fine task, mapping); entries may build on earlier
            ones. A mapping is a dict, class name or label -> coarse name or number; a tensor
            [C_fine] of coarse numbers, by label; or the path of a JSON file that holds such a dict.

    Returns:
        The tasks, then the coarse ones in the order given.

    Raises:
        ValueError: names the entry, and a class that its mapping misses or does not know, what a
            file holds instead of a dict, a coarse task of one class, a name that is taken, or a
            fine task that is missing or not named where there are several.
    """
    found = dict(tasks)
    if hierarchy is not None and not isinstance(hierarchy, Mapping):
        raise ValueError(
            f"hierarchy must be a dict coarse name -> mapping, got {type(hierarchy).__name__}. "
            'Write {"superclass": {"cat": "animal", ...}}.'
        )
    for name, entry in (hierarchy or {}).items():
        if name in found:
            raise ValueError(
                f"hierarchy[{name!r}] has the name of another task. Choose one that is not among "
                f"{', '.join(found)}."
            )
        fine, mapping = _entry(name, entry, tasks)
        if fine not in found:
            raise ValueError(
                f"hierarchy[{name!r}] coarsens task {fine!r}, which is not among "
                f"{', '.join(found)}. Name one of these."
            )
        found[str(name)] = _coarse_task(str(name), found[fine], fine, _load(name, mapping))
    return found


def _entry(name: str, entry: Any, tasks: Mapping[str, Task]) -> tuple[str, Any]:
    if isinstance(entry, tuple) and len(entry) == 2 and isinstance(entry[0], str):
        return entry
    if len(tasks) > 1:
        raise ValueError(
            f"hierarchy[{name!r}] must name the task that it coarsens, as there are "
            f"{', '.join(tasks)}. Write ({next(iter(tasks))!r}, mapping)."
        )
    return next(iter(tasks)), entry


def _load(name: str, mapping: Any) -> Mapping[Any, Any]:
    """The mapping as a dict; that of a tensor has label numbers as keys."""
    if isinstance(mapping, Tensor | np.ndarray):
        numbers = torch.as_tensor(mapping)
        if numbers.ndim != 1 or numbers.is_floating_point() or numbers.is_complex():
            raise ValueError(
                f"hierarchy[{name!r}] must be integers [C_fine], one coarse number per fine class, "
                f"got {numbers.dtype} {list(numbers.shape)}. Pass .long() of one dimension."
            )
        return dict(enumerate(numbers.tolist()))
    source = ""
    if isinstance(mapping, str | os.PathLike):
        source = f" in {os.fspath(mapping)}"
        try:
            mapping = json.loads(Path(mapping).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ValueError(
                f"hierarchy[{name!r}] must be a readable JSON file, got {source[4:]}: "
                f"{error}. Write a dict of fine class -> coarse name into it."
            ) from error
    if not isinstance(mapping, Mapping):
        raise ValueError(
            f"hierarchy[{name!r}] must be a dict fine class -> coarse name, integers [C_fine] or a "
            f"JSON file with such a dict, got {type(mapping).__name__}{source}."
        )
    return mapping


def _coarse_task(name: str, task: Task, fine: str, mapping: Mapping[Any, Any]) -> Task:
    number = {value: c for c, value in enumerate(task.values)}
    place = {class_name: c for c, class_name in enumerate(task.classes)}
    coarse: dict[int, Any] = {}
    for key, value in mapping.items():
        c = place.get(key) if isinstance(key, str) else None
        if c is None and (label := _integer(key)) is not None:
            c = number.get(label)
            known = c is not None or 0 <= label < len(task.known)
        else:
            known = c is not None or key in task.known
        if not known:
            raise ValueError(
                f"hierarchy[{name!r}] maps {key!r}, which is no class of task {fine!r}: there is "
                f"{_listed(task.classes)}. Correct or drop it."
            )
        if not isinstance(value, str | SupportsIndex):
            raise ValueError(
                f"hierarchy[{name!r}] must give names or integers, got {value!r} for {key!r}."
            )
        if c is not None and coarse.setdefault(c, value) != value:
            raise ValueError(
                f"hierarchy[{name!r}] maps {task.classes[c]!r} to both {coarse[c]!r} and "
                f"{value!r}. Keep one."
            )
    try:
        labels = coarsen(task.labels, coarse, classes=task.classes)
    except ValueError as error:
        raise ValueError(f"hierarchy[{name!r}]: {error}") from error
    values, labels = torch.unique(labels, return_inverse=True)
    if len(values) < 2:
        raise ValueError(
            f"hierarchy[{name!r}] must make at least two classes, got "
            f"{next(iter(coarse.values()))!r} only. Leave it out, or map to more."
        )
    names = sorted({v for v in coarse.values() if isinstance(v, str)}) or None
    classes = tuple(str(v) if names is None else names[v] for v in values.tolist())
    return Task(labels=labels, classes=classes, values=tuple(values.tolist()))


def _integer(key: Any) -> int | None:
    """A class label; JSON has strings for keys."""
    if isinstance(key, str):
        return int(key) if key.isdecimal() else None
    return index(key) if isinstance(key, SupportsIndex) else None


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(map(repr, names[:8])) + (" ..." if len(names) > 8 else "")
