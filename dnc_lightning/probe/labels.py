"""The tasks of a probe: labels and names of their classes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dnc_lightning.probe.label_sources import Source, read_source
from dnc_lightning.probe.label_values import Column, Given

ACROSS = "orthogonality"
"""Stands in the keys of what several tasks say together where else a task does."""

FEATURES = "features"
"""Stands in the keys of what features show without labels where else a task does."""


@dataclass(frozen=True)
class Task:
    """One labelling of N samples into C classes."""

    labels: Tensor  # [N] int64 in [0, C)
    classes: tuple[str, ...]  # C names
    values: tuple[int, ...] = ()  # C labels in the data set, rising; () if they do not matter
    known: tuple[str, ...] = ()  # names of all classes of the data set by label, if it has them


def read_tasks(dataset: Any, labels: Any = None) -> dict[str, Task]:
    """Find the labels of every sample of a map-style data set, task by task.

    `labels`, if given. Else what the items say:

    - `(image, label, ...)` is one task, "label"; `(image, {"task": label}, ...)` one per entry.
    - Of a row `{"image": ..., ...}` the columns that `labels` names; else the first of the
      columns label, labels, target, targets and class that is there, and every column whose
      classes the data set names, as ClassLabel of Hugging Face does. No other column, whatever the
      type of its values; rows without any of these are refused.

    So that items need not be read one by one, labels are taken from the data set's `targets` or
    `labels`, or from its columns, also through `torch.utils.data.Subset` and `ConcatDataset`. They
    are compared with up to 32 items first, spread over data set and classes; where one differs,
    all items are read, and a warning says so.

    A label is an integer, bool or name, also alone in a tensor or array. Names of classes are
    those of the data set's `classes` or columns, if those are of these very labels; else labels
    are called by their value.

    Args:
        dataset: Map-style, length N.
        labels: [N] integers, bools or names, a mapping (or data frame) task -> [N] of these, or
            the name of a column of the data set's rows, or several.

    Returns:
        Task name -> labels and class names. Classes given by name are numbered in sorted order.

    Raises:
        ValueError: labels of the wrong length, type or range, or a task with one class only; the
            task is named. An item that cannot be read; the sample is named.

    Warns:
        UserWarning: `targets`, `labels` or columns that differ from the items.
    """
    return tasks_of(read_source(dataset, labels))


def tasks_of(source: Source) -> dict[str, Task]:
    """Number the classes of every task."""
    return {
        task: _as_task(column, source.given[task], source.names.get(task, ()))
        for task, column in source.columns.items()
    }


def check_task_names(names: Iterable[str]) -> None:
    """Refuse names of tasks that would not tell the keys of their metrics apart.

    Raises:
        ValueError: names the task or tasks, and the remedy.
    """
    names = list(names)
    for name in names:
        if not name or "/" in name:
            raise ValueError(
                f"a task's name must not be empty or hold '/', which separates the parts of metric "
                f"keys, got {name!r}. Rename it, such as to {name.replace('/', '_') or 'label'!r}."
            )
    if len(names) > 1 and ACROSS in names:
        raise ValueError(
            f"one of several tasks is called {ACROSS!r}, which the keys of what they say together "
            "begin with. Rename it."
        )
    if FEATURES in names:
        raise ValueError(
            f"a task is called {FEATURES!r}, which the keys of what needs no labels begin with. "
            "Rename it."
        )
    pairs: dict[str, tuple[str, str]] = {}
    for pair in combinations(names, 2):
        key = "-".join(pair)
        other = pairs.setdefault(key, pair)
        if other != pair:
            raise ValueError(
                f"tasks {other[0]!r} and {other[1]!r} would have the same key {ACROSS}/{key} as "
                f"{pair[0]!r} and {pair[1]!r}. Rename one of them, with '_' in place of '-'."
            )


def _as_task(column: Column, given: Given, names: Sequence[str]) -> Task:
    if column.dtype.kind == "i" and (column < 0).any():
        negative = np.flatnonzero(column < 0)
        raise ValueError(
            f"labels of task {given.task!r} must not be negative, got {column.min()}: "
            f"{len(negative)} of {len(column)} are, that of sample {negative[0]} the first. Leave "
            f"unlabelled samples out: {given.without('y >= 0')}."
        )
    present, compact = np.unique(column, return_inverse=True)
    values = present.tolist()
    if len(values) < 2:
        raise ValueError(
            f"task {given.task!r} must have at least two classes, got {values}. "
            "Check the labels, or the split."
        )
    if column.dtype.kind == "U":
        names, values = values, range(len(values))
    known = tuple(map(str, names)) if len(names) > values[-1] else ()
    return Task(
        labels=torch.as_tensor(compact),
        classes=tuple(known[v] if known else str(v) for v in values),
        values=tuple(map(int, values)),
        known=known,
    )
