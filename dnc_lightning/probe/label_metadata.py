"""Labels that a data set tells without its items being read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch.utils.data import ConcatDataset, Subset

from dnc_lightning.probe.items import DEFAULT_TASK, chosen_columns
from dnc_lightning.probe.label_values import Column, Given, as_column


@dataclass(frozen=True)
class Metadata:
    """Labels that a data set claims to have."""

    columns: dict[str, Column]  # task -> [N]
    names: dict[str, Sequence[str]]  # task -> name of each class by label
    origin: str  # where they stand, for messages
    conflict: str = ""  # parts that have other classes under the same number, in words


def metadata(dataset: Any, chosen: Sequence[str] | None) -> Metadata | None:
    """Labels that can be had without reading items, where all of them can."""
    if isinstance(dataset, Subset):
        inner = metadata(dataset.dataset, chosen)
        if inner is None:
            return None
        rows = np.asarray(dataset.indices, dtype=np.int64)
        try:
            columns = {task: column[rows] for task, column in inner.columns.items()}
        except IndexError:  # so do the items, with the sample's name
            return None
        return Metadata(columns, inner.names, inner.origin, inner.conflict)
    if isinstance(dataset, ConcatDataset):
        return _joined([metadata(part, chosen) for part in dataset.datasets])
    return _table(dataset, chosen) or _attributes(dataset, chosen)


def _joined(parts: Sequence[Metadata | None]) -> Metadata | None:
    """Of a ConcatDataset, where all parts have the same tasks, by name or all by number."""
    found = [part for part in parts if part is not None]
    kinds = [
        {task: column.dtype.kind == "U" for task, column in part.columns.items()} for part in found
    ]
    if len(found) < len(parts) or any(kind != kinds[0] for kind in kinds):
        return None
    columns = {task: [part.columns[task] for part in found] for task in found[0].columns}
    names = {
        task: names
        for task, names in found[0].names.items()
        if all(list(part.names.get(task, ())) == list(names) for part in found)
    }
    joined = {task: np.concatenate(those) for task, those in columns.items()}
    conflicts = (_conflict(task, found) for task in joined if joined[task].dtype.kind != "U")
    return Metadata(joined, names, found[0].origin, next(filter(None, conflicts), ""))


def _conflict(task: str, parts: Sequence[Metadata]) -> str:
    """Say which label has two names."""
    first = parts[0].names.get(task, ())
    for part in parts[1:]:
        pairs = zip(first, part.names.get(task, ()), strict=False)
        for label, (one, other) in enumerate(pairs):
            if one != other:
                return (
                    f"The parts of the probe's ConcatDataset have other classes under the same "
                    f"number: label {label} of task {task!r} is {one!r} in the first and {other!r} "
                    "in a later one. They are measured as one class; pass ProbeSet(labels=...) "
                    "with the names of the classes of all samples to tell them apart."
                )
    return ""


def _table(dataset: Any, chosen: Sequence[str] | None) -> Metadata | None:
    """Label columns of a Hugging Face data set."""
    features = _attribute(dataset, "features")
    if not isinstance(features, Mapping):
        return None
    names = {k: v.names for k, v in features.items() if getattr(v, "names", None)}
    try:
        wanted = chosen_columns(list(features), names, chosen)
        # A format or transform would be applied to a batch that lacks the other columns.
        rows = dataset.with_format(None) if hasattr(dataset, "with_format") else dataset
        values = {name: list(rows[name]) for name in wanted}
    except Exception:  # not such a data set, or none of its columns is a label
        return None
    return _usable(values, len(dataset), names, "label columns")


def _attributes(dataset: Any, chosen: Sequence[str] | None) -> Metadata | None:
    names = _by_task(_attribute(dataset, "classes"))
    for origin in ("targets", "labels"):
        values = _attribute(dataset, origin)
        if values is not None and not callable(values):
            found = _usable(values, len(dataset), names, f"`{origin}`", chosen)
            if found is not None:
                return found
    return None


def _usable(
    values: Any,
    length: int,
    names: Mapping[str, Sequence[str]],
    origin: str,
    chosen: Sequence[str] | None = None,
) -> Metadata | None:
    try:
        columns = {
            task: as_column(column, length, Given(task, origin))
            for task, column in as_columns(values).items()
            if chosen is None or task in chosen
        }
    except ValueError:  # names of classes, several labels a sample: the items say what they are
        return None
    return Metadata(columns, {k: names[k] for k in columns if k in names}, origin)


def unchecked_names(dataset: Any) -> dict[str, Sequence[str]]:
    """Names of classes where no metadata tell whether items have the labels that they name."""
    if isinstance(dataset, Subset):
        return unchecked_names(dataset.dataset)
    if _attribute(dataset, "target_transform") is not None:
        return {}
    return _by_task(_attribute(dataset, "classes"))


def _attribute(dataset: Any, name: str) -> Any:
    """An attribute, if the data set has it: a property may raise whatever it likes."""
    try:
        return getattr(dataset, name, None)
    except Exception:
        return None


def _by_task(classes: Any) -> dict[str, Sequence[str]]:
    """Names of classes as a data set keeps them: of one task, or task by task."""
    by_task = classes if isinstance(classes, Mapping) else {DEFAULT_TASK: classes}
    return {
        str(task): names
        for task, names in by_task.items()
        if isinstance(names, Sequence) and not isinstance(names, str)
    }


def as_columns(labels: Any) -> dict[str, Any]:
    """Labels task by task, of a mapping, a data frame or one unnamed task."""
    names = labels.columns if is_frame(labels) else labels
    if not is_frame(labels) and not isinstance(labels, Mapping):
        return {DEFAULT_TASK: labels}
    columns = {str(name): labels[name] for name in names}
    if len(columns) < len(names):
        raise ValueError(f"labels must have tasks of different names, got {list(names)}.")
    return columns


def is_frame(labels: Any) -> bool:
    """Whether labels are the columns of a data frame."""
    return hasattr(labels, "columns") and hasattr(labels, "to_dict")
