"""Where the labels of a data set come from; what its items say is what counts."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch.distributed as dist
from tqdm.auto import tqdm

from dnc_lightning.probe.items import (
    DEFAULT_TASK,
    SampleError,
    UnreadableError,
    item_labels,
    item_tasks,
    label_expression,
    naming_sample,
    row_columns,
)
from dnc_lightning.probe.label_metadata import (
    as_columns,
    is_frame,
    metadata,
    unchecked_names,
)
from dnc_lightning.probe.label_values import (
    Column,
    Given,
    as_column,
    missing,
    plain,
    several_labels,
)

COMPARED = 32
"""Samples of which metadata are compared with the items before they are trusted."""

ITEMS = "items"
"""The origin of labels that were read from the items themselves."""


@dataclass(frozen=True)
class Source:
    """Labels of all N samples, task by task."""

    columns: dict[str, Column]  # task -> [N]
    given: dict[str, Given]  # how a user writes them
    names: dict[str, Sequence[str]]  # task -> name of each class by label; only where they are sure
    origin: str | None = None  # what items must agree with; None of labels that the user gave
    unreadable: tuple[int, ...] = ()  # samples whose labels are none of their own

    def check(self, index: int, item: Any) -> None:
        """Refuse an item that contradicts the metadata, or what it said, when labels were read.

        Raises:
            ValueError: names both values and the remedy.
        """
        if self.origin is None:
            return
        for task, (said, has) in _differences(self.columns, index, item).items():
            every = ", ".join(f"{name!r}: {given.expression}" for name, given in self.given.items())
            if self.origin == ITEMS:
                raise SampleError(
                    f"an item must have the same labels whenever it is read, got {said!r} and then "
                    f"{has!r} for task {task!r}. Pass the labels: labels={{{every}}}."
                )
            raise SampleError(
                f"the data set's {self.origin} say {said!r} for task {task!r}, the item says "
                f"{has!r}; the items of other samples agreed. Pass the labels of all items: "
                f"labels={{{every}}}."
            )


def read_source(dataset: Any, labels: Any, *, skip: bool = False) -> Source:
    """Find labels as `read_tasks` documents.

    Args:
        dataset: Map-style.
        labels: As `read_tasks` takes them.
        skip: Go on where an item cannot be read.

    Raises:
        ValueError: labels that cannot be used, an item that cannot be read; names the task or the
            sample.
    """
    if not len(dataset):
        raise ValueError("the probe's data set must hold samples, got none. Check the split.")
    chosen = _chosen(dataset, labels, skip)
    if labels is not None and chosen is None:
        return _from_argument(dataset, labels)
    first, item = _first_item(dataset, skip)
    with naming_sample(dataset, first):
        told = metadata(dataset, chosen)
        tasks = item_tasks(item, told.names if told else (), chosen)
    given = {task: _item_given(item, task) for task in tasks}
    if told is None:
        columns, unreadable = _from_items(dataset, tasks, item, given, skip)
        return Source(columns, given, unchecked_names(dataset), ITEMS, unreadable)
    columns = {task: told.columns[task] for task in tasks if task in told.columns}
    if len(columns) == len(tasks):
        difference = _first_difference(dataset, columns, skip)
        if difference is None:
            if told.conflict and _first_rank():
                warnings.warn(told.conflict, stacklevel=2)
            return Source(columns, given, told.names, told.origin)
    else:
        difference = f"they have the tasks {sorted(told.columns)}, the items {sorted(tasks)}"
    if _first_rank():
        warnings.warn(
            f"the {told.origin} of the probe's data set are not the labels of its items: "
            f"{difference}. The labels of all items are read instead; pass ProbeSet(labels=...) to "
            "skip that.",
            stacklevel=2,
        )
    columns, unreadable = _from_items(dataset, tasks, item, given, skip)
    return Source(columns, given, {}, ITEMS, unreadable)


def _first_rank() -> bool:
    return not (dist.is_available() and dist.is_initialized() and dist.get_rank())


def _first_item(dataset: Any, skip: bool) -> tuple[int, Any]:
    """Index and item of the first sample, or of the first of a few that can be read."""
    few = min(COMPARED, len(dataset))
    for index in range(few):
        with _going_on(skip and index < few - 1), naming_sample(dataset, index):
            return index, dataset[index]
    raise AssertionError  # the last one raises


def _going_on(skip: bool) -> AbstractContextManager[None]:
    return suppress(UnreadableError) if skip else nullcontext()


def _chosen(dataset: Any, labels: Any, skip: bool) -> tuple[str, ...] | None:
    """Columns that `labels` names, if it does not hold the labels themselves."""
    if isinstance(labels, str):
        return (labels,)
    names = isinstance(labels, list | tuple) and all(isinstance(name, str) for name in labels)
    if not names or not labels or len(labels) == len(dataset):
        return None
    first, item = _first_item(dataset, skip)
    with naming_sample(dataset, first):
        columns = row_columns(item)
    return tuple(labels) if set(labels) & set(columns) else None


def _from_argument(dataset: Any, labels: Any) -> Source:
    values = as_columns(labels)
    if not values:
        raise ValueError("labels name no task: pass labels [N] or {task: labels [N]}.")
    several = is_frame(labels) or isinstance(labels, Mapping)
    given = {
        task: Given(task, f"labels[{task!r}]", "labels[...]")
        if several
        else Given(task, "labels", "labels")
        for task in values
    }
    columns = {task: as_column(v, len(dataset), given[task]) for task, v in values.items()}
    return Source(columns, given, _argument_names(dataset, columns))


def _argument_names(dataset: Any, columns: Mapping[str, Column]) -> dict[str, Sequence[str]]:
    """Names that the data set has for its own labels, for those given labels that equal them.

    Names that it keeps for a task of which it has no labels are of the labels given for it.
    """
    told = metadata(dataset, None)
    names = {k: v for k, v in unchecked_names(dataset).items() if k in columns}
    if told is not None:
        own = {k: v for k, v in names.items() if k != DEFAULT_TASK and k not in told.columns}
        equal = {
            task: names
            for task, column in columns.items()
            for name, names in told.names.items()
            if np.array_equal(told.columns[name], column)
        }
        return own | equal
    try:
        agree = {k: _first_difference(dataset, {k: columns[k]}) is None for k in names}
    except ValueError:  # items without labels of their own, or one that cannot be read
        return {}
    return {k: v for k, v in names.items() if agree[k]}


def _item_given(item: Any, task: str) -> Given:
    return Given(task, f"[{label_expression(item, task)} for i in range(len(dataset))]")


def _from_items(
    dataset: Any, tasks: Sequence[str], first: Any, given: Mapping[str, Given], skip: bool
) -> tuple[dict[str, Column], tuple[int, ...]]:
    """Columns [N], and the samples that could not be read, which have the labels of `first`."""
    values: dict[str, list[Any]] = {task: [] for task in tasks}
    unreadable = []
    rows = range(len(dataset))
    for index in tqdm(rows, desc="Probe: reading labels (pass labels= to skip)", leave=False):
        try:
            with naming_sample(dataset, index):
                item = dataset[index]
        except UnreadableError:
            if not skip:
                raise
            item = first
            unreadable.append(index)
        with naming_sample(dataset, index):
            for task, value in item_labels(item, tasks).items():
                label = plain(value)
                if not isinstance(label, str | int | float) and not missing(label):
                    some = _some_values(dataset, task)
                    raise SampleError(several_labels(task, some, label_expression(first, task)))
                values[task].append(label)
    columns = {task: as_column(values[task], len(dataset), given[task]) for task in tasks}
    return columns, tuple(unreadable)


def _some_values(dataset: Any, task: str) -> list[Any]:
    rows = np.random.default_rng(0).permutation(len(dataset))[:COMPARED].tolist()
    return [item_labels(dataset[index], [task])[task] for index in rows]


def _first_difference(
    dataset: Any, columns: Mapping[str, Column], skip: bool = False
) -> str | None:
    """How labels differ from those of a few items, spread over the data set and its classes."""
    for index in spread(columns, len(dataset)):
        found = {}
        with _going_on(skip), naming_sample(dataset, index):
            found = _differences(columns, index, dataset[index])
        for task, (said, has) in found.items():
            of = "" if task == DEFAULT_TASK else f" for task {task!r}"
            return f"sample {index} has {said!r} there and {has!r} in its item{of}"
    return None


def _differences(
    columns: Mapping[str, Column], index: int, item: Any
) -> dict[str, tuple[Any, Any]]:
    """Task -> label in its column and in the item, where they differ."""
    pairs = {
        task: (columns[task][index].item(), plain(value))
        for task, value in item_labels(item, list(columns)).items()
    }
    return {task: pair for task, pair in pairs.items() if not _same(*pair)}


def _same(said: Any, has: Any) -> bool:
    return isinstance(has, str | int | float) and bool(said == has)


def spread(columns: Mapping[str, Column], length: int) -> list[int]:
    """Choose up to `COMPARED` samples: first, last, of different classes, and any others."""
    generator = np.random.default_rng(0)
    order = generator.permutation(length)
    of_classes = [
        order[generator.permutation(np.unique(column[order], return_index=True)[1])]
        for column in columns.values()
    ]
    most = COMPARED // 2 // max(len(columns), 1)
    classes = np.concatenate([rows[: max(most, 2)] for rows in of_classes])[: COMPARED // 2]
    some = [0, length - 1, *classes.tolist(), *order[:COMPARED].tolist()]
    return list(dict.fromkeys(some))[:COMPARED]
