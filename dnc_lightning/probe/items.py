"""Items of a data set: their image, their labels, and errors that name the sample."""

from __future__ import annotations

import os
import traceback
from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike
from typing import Any

from torch.utils.data import ConcatDataset, Subset

DEFAULT_TASK = "label"
IMAGE_KEYS = ("image", "img")
LABEL_KEYS = ("label", "labels", "target", "targets", "class")
"""Columns of which the first that is there is a task, whatever its type."""


class SampleError(ValueError):
    """What is wrong with one sample, with the remedy; the sample is not named yet."""


class UnreadableError(ValueError):
    """A sample, which is named, could not be read: its file, not what is done with it, is wrong."""


@contextmanager
def naming_sample(dataset: Any, index: int) -> Iterator[None]:
    """Name the sample, and its file where one can be found, in whatever goes wrong inside.

    Raises:
        UnreadableError: chained to what was raised, anything but a `SampleError`.
        ValueError: chained to a `SampleError`.
    """
    try:
        yield
    except Exception as error:
        path = _failed_file(error) or sample_path(dataset, index)
        where = f"sample {index} of the probe's data set{_in_brackets(path)}"
        if isinstance(error, SampleError):
            raise ValueError(f"{where}: {error}") from error
        raise UnreadableError(
            f"{where}: could not be read: {error!r}. Repair it, leave such samples out with "
            'ProbeSet(on_error="skip"), or it and its label with torch.utils.data.Subset(dataset, '
            f"[i for i in range(len(dataset)) if i != {index}])."
        ) from error


def item_image(item: Any) -> Any:
    """The image of an item `(image, label, ...)` or `{"image": ..., ...}`."""
    if isinstance(item, Mapping):
        for key in IMAGE_KEYS:
            if key in item:
                return item[key]
        raise SampleError(
            f"an item of the probe's data set must have one of the keys {', '.join(IMAGE_KEYS)}, "
            f"got {sorted(map(str, item))}. Rename the column or wrap the data set."
        )
    if isinstance(item, Sequence) and not isinstance(item, str) and len(item) >= 2:
        return item[0]
    raise SampleError(
        "an item of the probe's data set must be (image, label) or {'image': ..., 'label': ...}, "
        f"got {type(item).__name__}. Wrap the data set so that it returns one of these."
    )


def item_labels(item: Any, tasks: Sequence[str]) -> dict[str, Any]:
    """The labels of an item, of the given tasks as `item_tasks` chose them.

    Raises:
        ValueError: a task that this item lacks.
    """
    item_image(item)
    entries = _entries(item)
    lacking = [task for task in tasks if task not in entries]
    if lacking:
        raise SampleError(
            f"an item must have a label of task {lacking[0]!r}, as the first one has, got "
            f"{sorted(entries)}. Give every item all labels, or leave it out."
        )
    return {task: entries[task] for task in tasks}


def item_tasks(
    item: Any, class_columns: Collection[str] = (), chosen: Sequence[str] | None = None
) -> tuple[str, ...]:
    """Names of the tasks that items like this one have labels for.

    Of `(image, label, ...)` "label"; of `(image, {"task": label}, ...)` every entry; of a row
    `{"image": ..., ...}` the columns that `chosen_columns` takes.

    Raises:
        ValueError: an item of another kind, or a row of which no column is taken.
    """
    item_image(item)
    columns = list(_entries(item))
    if chosen is None and not isinstance(item, Mapping):
        return tuple(columns)
    return chosen_columns(columns, class_columns, chosen)


def chosen_columns(
    columns: Sequence[str], class_columns: Collection[str], chosen: Sequence[str] | None
) -> tuple[str, ...]:
    """The columns of rows that are tasks, by name and never by the type of their values.

    Those that the user chose; else the first of `LABEL_KEYS` that is there, and every column whose
    classes the data set names (ClassLabel of Hugging Face). Nothing else becomes a task.

    Raises:
        ValueError: no such column, or a chosen one that is not there.
    """
    if chosen is not None:
        lacking = [name for name in chosen if name not in columns]
        if lacking:
            raise SampleError(
                f"labels={list(chosen)} must name columns of the data set's items, got "
                f"{lacking[0]!r}; there is {', '.join(map(repr, columns)) or 'none'}. Name some "
                "of these, or pass one label per sample."
            )
        return tuple(dict.fromkeys(chosen))
    named = next((name for name in LABEL_KEYS if name in columns), None)
    found = [name for name in columns if name == named or name in class_columns]
    if not found:
        raise SampleError(
            f"none of the columns {', '.join(map(repr, columns)) or '(none)'} is known to be a "
            f"label: none is called {', '.join(LABEL_KEYS)}, and the classes of none are named. "
            f"Choose some: ProbeSet(dataset, labels={list(columns[:1]) or ['column']})."
        )
    return tuple(found)


def row_columns(item: Any) -> tuple[str, ...]:
    """Columns of a row, or names of the labels of `(image, {...})`; none of other items."""
    labels = item if isinstance(item, Mapping) else item[1]
    return tuple(_entries(item)) if isinstance(labels, Mapping) else ()


def label_expression(item: Any, task: str) -> str:
    """How a user writes the label of sample i, for remedies."""
    if isinstance(item, Mapping):
        return f"dataset[i][{task!r}]"
    return f"dataset[i][1][{task!r}]" if isinstance(item[1], Mapping) else "dataset[i][1]"


def sample_name(dataset: Any, index: int) -> str:
    """Sample and file, for people."""
    return f"sample {index}{_in_brackets(sample_path(dataset, index))}"


def _in_brackets(path: str | None) -> str:
    return f" ({path})" if path else ""


def sample_path(dataset: Any, index: int) -> str | None:
    """The file of a sample, where its data set keeps a list of them."""
    if isinstance(dataset, Subset):
        return sample_path(dataset.dataset, int(dataset.indices[index]))
    if isinstance(dataset, ConcatDataset):
        part = bisect_right(dataset.cumulative_sizes, index)
        before = dataset.cumulative_sizes[part - 1] if part else 0
        return sample_path(dataset.datasets[part], index - before)
    # Not through __getattr__: a wrapper that forwards attributes may have another order.
    own = getattr(dataset, "__dict__", {})
    files = next((own[name] for name in ("samples", "imgs") if name in own), None)
    try:
        if files is not None:
            path = files[index] if isinstance(files[index], str | PathLike) else files[index][0]
        else:
            row = dataset.with_format("arrow")[index]
            path = next(row[key][0].as_py() for key in IMAGE_KEYS if key in row.column_names)
            path = path["path"]
    except Exception:
        return None
    return os.fspath(path) if isinstance(path, str | PathLike) else None


def _failed_file(error: BaseException) -> str | None:
    """The file that an operating system error names, or that Pillow was reading."""
    path = getattr(error, "filename", None)
    for frame, _ in traceback.walk_tb(error.__traceback__):
        picture = frame.f_locals.get("self")
        if not path and hasattr(picture, "getbands"):
            path = getattr(picture, "filename", None)
            path = path or getattr(getattr(picture, "fp", None), "name", None)
    return str(path) if path else None


def _entries(item: Any) -> dict[str, Any]:
    if isinstance(item, Mapping):
        return {str(key): value for key, value in item.items() if key not in IMAGE_KEYS}
    if isinstance(item[1], Mapping):
        return {str(task): value for task, value in item[1].items()}
    return {DEFAULT_TASK: item[1]}
