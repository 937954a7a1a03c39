"""Where the labels of a probe come from, and which samples of a data set it takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

DEFAULT_TASK = "label"
IMAGE_KEYS = ("image", "img")


@dataclass(frozen=True)
class Task:
    """One labelling of N samples into C classes."""

    labels: Tensor  # [N] int64 in [0, C)
    classes: tuple[str, ...]  # C names
    values: tuple[int, ...] = ()  # C labels in the data set, rising; () if they do not matter
    known: tuple[str, ...] = ()  # names of all classes of the data set by label, if it has them


def read_tasks(dataset: Any, labels: Any = None) -> dict[str, Task]:
    """Find the labels of every sample of a map-style data set, task by task.

    Taken from, in this order: `labels`; the data set's `targets` or `labels`, through
    `torch.utils.data.Subset`; the ClassLabel columns of a Hugging Face data set; the items
    themselves, all of which are then read once.

    Args:
        dataset: Map-style, length N.
        labels: [N] integers, bools or names, or a mapping (or data frame) task -> [N] of these.

    Returns:
        Task name -> labels and class names; one unnamed task is called "label". Classes given by
        name are numbered in sorted order.

    Raises:
        ValueError: labels of the wrong length, type or range, or a task with one class only; the
            task is named.
    """
    found = labels if labels is not None else _attribute_labels(dataset)
    names = _class_names(dataset)
    if found is None:
        found = _column_labels(dataset)
    if found is None:
        found = _item_labels(dataset)
    columns = _as_columns(found)
    if not columns:
        raise ValueError("labels name no task: pass labels [N] or {task: labels [N]}.")
    return {
        task: _as_task(task, values, len(dataset), names.get(task, names.get(DEFAULT_TASK, ())))
        for task, values in columns.items()
    }


def stratified(tasks: Mapping[str, Task], per_class: int, seed: int) -> Tensor:
    """Choose samples so that every class of every task has at least `per_class` of them.

    Samples are dealt in rounds, one from each combination of classes that still lacks some, in an
    order that depends on `seed` alone. For one task this gives exactly `per_class` samples a
    class; for several, combinations stay as balanced as the data allow, so that independent
    factors stay independent in the probe.

    Args:
        tasks: Labellings of the same N samples.
        per_class: Samples wanted of each class.
        seed: Of the choice and of the order.

    Returns:
        [n] indices into the data set, in random order.

    Raises:
        ValueError: a class has fewer than `per_class` samples; names it and its count.
    """
    for name, task in tasks.items():
        count = torch.bincount(task.labels, minlength=len(task.classes))
        short = (count < per_class).nonzero().flatten().tolist()
        if short:
            listed = ", ".join(f"{task.classes[c]!r} has {int(count[c])}" for c in short[:5])
            raise ValueError(
                f"per_class={per_class} samples of each class wanted, but of task {name!r} {listed}"
                f"{' ...' if len(short) > 5 else ''}. Lower per_class or pass a larger data set."
            )
    generator = torch.Generator().manual_seed(seed)
    labels = torch.stack([task.labels for task in tasks.values()], 1)
    shuffled = torch.randperm(len(labels), generator=generator)
    cells, cell = torch.unique(labels[shuffled], dim=0, return_inverse=True)
    cell = torch.randperm(len(cells), generator=generator)[cell]
    by_cell = cell.argsort(stable=True)
    size = torch.bincount(cell)
    rank = torch.arange(len(cell)) - (size.cumsum(0) - size)[cell[by_cell]]
    dealt = shuffled[by_cell[rank.argsort(stable=True)]]
    # With many small combinations a whole round would already overshoot: deal one by one.
    widest = max(len(task.classes) for task in tasks.values())
    step = rank.sort().values if len(cells) <= per_class * widest else torch.arange(len(cell))
    lacking = [torch.full((len(task.classes),), per_class) for task in tasks.values()]
    chosen: list[Tensor] = []
    for block in torch.split(dealt, torch.bincount(step).tolist()):
        wanted = torch.zeros(len(block), dtype=torch.bool)
        for need, column in zip(lacking, labels[block].T, strict=True):
            wanted |= need[column] > 0
        taken = block[wanted]
        for need, column in zip(lacking, labels[taken].T, strict=True):
            need -= torch.bincount(column, minlength=len(need))
        chosen.append(taken)
        if all(int(need.max()) <= 0 for need in lacking):
            break
    indices = torch.cat(chosen)
    return indices[torch.randperm(len(indices), generator=generator)]


def item_image(item: Any) -> Any:
    """The image of an item `(image, ...)` or `{"image": ..., ...}`."""
    if isinstance(item, Mapping):
        for key in IMAGE_KEYS:
            if key in item:
                return item[key]
        raise ValueError(
            f"an item of the probe's data set must have one of the keys {', '.join(IMAGE_KEYS)}, "
            f"got {sorted(map(str, item))}. Rename the column or wrap the data set."
        )
    if isinstance(item, Sequence) and not isinstance(item, str) and len(item) >= 2:
        return item[0]
    raise ValueError(
        "an item of the probe's data set must be (image, label) or {'image': ..., 'label': ...}, "
        f"got {type(item).__name__}. Wrap the data set so that it returns one of these."
    )


def _attribute_labels(dataset: Any) -> Any:
    indices = getattr(dataset, "indices", None)
    inner = getattr(dataset, "dataset", None)
    if inner is not None and indices is not None:
        found = _attribute_labels(inner)
        if found is None:
            return None
        rows = torch.as_tensor(indices)
        return {task: _rows(task, v, rows) for task, v in _as_columns(found).items()}
    for name in ("targets", "labels"):
        found = getattr(dataset, name, None)
        if found is not None and not callable(found):
            return found
    return None


def _column_labels(dataset: Any) -> dict[str, Any] | None:
    features = getattr(dataset, "features", None)
    if not isinstance(features, Mapping):
        return None
    columns = [name for name, feature in features.items() if hasattr(feature, "names")]
    return {name: list(dataset[name]) for name in columns} or None


def _item_labels(dataset: Any) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {}
    rows = range(len(dataset))
    for index in tqdm(rows, desc="Probe: reading labels (pass labels= to skip)", leave=False):
        item = dataset[index]
        if isinstance(item, Mapping):
            label = {k: v for k, v in item.items() if k not in IMAGE_KEYS and _is_label(v)}
        else:
            item_image(item)
            label = dict(item[1]) if isinstance(item[1], Mapping) else {DEFAULT_TASK: item[1]}
        for task, value in label.items():
            columns.setdefault(str(task), []).append(value)
    return columns


def _is_label(value: Any) -> bool:
    return isinstance(value, int) or (isinstance(value, Tensor) and value.ndim == 0)


def _class_names(dataset: Any) -> dict[str, Sequence[str]]:
    inner = getattr(dataset, "dataset", None)
    if inner is not None and hasattr(dataset, "indices"):
        return _class_names(inner)
    features = getattr(dataset, "features", None)
    if isinstance(features, Mapping):
        return {k: v.names for k, v in features.items() if getattr(v, "names", None)}
    classes = getattr(dataset, "classes", None)
    if isinstance(classes, Mapping):
        return dict(classes)
    return {DEFAULT_TASK: classes} if isinstance(classes, Sequence) else {}


def _as_columns(labels: Any) -> dict[str, Any]:
    if hasattr(labels, "columns") and hasattr(labels, "to_dict"):
        return {str(name): labels[name] for name in labels.columns}
    if isinstance(labels, Mapping):
        return {str(task): values for task, values in labels.items()}
    return {DEFAULT_TASK: labels}


def _as_array(values: Any) -> Any:
    """What torch cannot read, names and columns of Python objects, as one numpy array."""
    if isinstance(values, Tensor):
        return values
    if hasattr(values, "to_numpy"):
        values = values.to_numpy(copy=True)
    if isinstance(values, np.ndarray):
        kind = values.dtype.kind
        return np.array(values.tolist()) if kind == "O" and _one_kind(values.flat) else values
    if isinstance(values, Sequence) and len(values) and _one_kind(values[:1], str):
        return np.array(values) if _one_kind(values, str) else values
    return values


def _one_kind(values: Iterable[Any], *kinds: type) -> bool:
    """Whether numpy would not turn a number, or nothing at all, into a name."""
    wanted = kinds or (str, bool, int)
    return any(all(isinstance(value, kind) for value in values) for kind in wanted)


def _rows(task: str, values: Any, rows: Tensor) -> Any:
    array = _as_array(values)
    named = isinstance(array, np.ndarray) and array.dtype.kind == "U"
    return array[rows.numpy()] if named else _as_integers(task, array)[rows]


def _as_integers(task: str, values: Any) -> Tensor:
    try:
        labels = torch.as_tensor(values).cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"labels of task {task!r} must be [N] integers, bools or names, got "
            f"{type(values).__name__}: {error}. Give every sample one, of one type."
        ) from error
    if labels.is_floating_point() or labels.is_complex():
        raise ValueError(
            f"labels of task {task!r} must be integers, got {labels.dtype}. Cast them with .long()."
        )
    return labels


def _as_task(task: str, values: Any, length: int, names: Sequence[str]) -> Task:
    values = _as_array(values)
    if isinstance(values, np.ndarray) and values.dtype.kind == "U":
        sorted_names, values = np.unique(values, return_inverse=True)
        names = sorted_names.tolist()
    labels = _as_integers(task, values)
    if labels.ndim != 1 or len(labels) != length:
        raise ValueError(
            f"labels of task {task!r} must have shape [{length}], one per sample of the data set, "
            f"got {list(labels.shape)}. One-hot labels: pass labels.argmax(1)."
        )
    if length and int(labels.min()) < 0:
        raise ValueError(
            f"labels of task {task!r} must not be negative, got {int(labels.min())}. Leave "
            "unlabelled samples out with torch.utils.data.Subset."
        )
    values_present, compact = torch.unique(labels, return_inverse=True)
    if len(values_present) < 2:
        raise ValueError(
            f"task {task!r} must have at least two classes, got {values_present.tolist()}. "
            "Check the labels, or the split."
        )
    present = values_present.tolist()
    known = tuple(map(str, names)) if len(names) > int(present[-1]) else ()
    return Task(
        labels=compact,
        classes=tuple(known[v] if known else str(v) for v in present),
        values=tuple(map(int, present)),
        known=known,
    )
