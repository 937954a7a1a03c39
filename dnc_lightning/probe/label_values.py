"""Labels of any usual kind as one column of numbers or names, or the remedy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Column = NDArray[Any]
"""[N] integers, bools or names of dtype "U"."""


@dataclass(frozen=True)
class Given:
    """How a user writes labels, for remedies."""

    task: str
    expression: str  # all [N] labels
    argument: str | None = None  # "labels" where they came by it, "labels[...]" task by task

    def without(self, condition: str) -> str:
        """Leave out the samples of which the label y does not fulfil the condition."""
        code = f"keep = [i for i, y in enumerate({self.expression}) if {condition}]"
        taken = {
            None: "",
            "labels": ", labels=np.asarray(labels)[keep]",
            "labels[...]": ", labels={t: np.asarray(labels[t])[keep] for t in labels}",
        }[self.argument]
        return f"{code}; ProbeSet(torch.utils.data.Subset(dataset, keep){taken})"


def plain(value: Any) -> Any:
    """A label that stands alone in an array, tensor or list as Python's own; others as they are."""
    if isinstance(value, Tensor):
        return value.item() if value.numel() == 1 else value
    if isinstance(value, np.ndarray | np.generic):
        value = value.item() if value.size == 1 else value
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return plain(value[0]) if isinstance(value, list | tuple) and len(value) == 1 else value


def missing(value: Any) -> bool:
    """Whether a label is None, NaN, or the like of pandas."""
    try:
        return value is None or not bool(value == value)
    except TypeError:  # pandas.NA is neither equal to itself nor not
        return True
    except (ValueError, RuntimeError):  # arrays of several values
        return False


def as_column(values: Any, length: int, given: Given) -> Column:
    """Labels of N samples as one array: integers, bools or names.

    `[N, 1]` counts as `[N]`, and floats that are whole numbers as integers.

    Args:
        values: Tensor, array, Series or sequence.
        length: N.
        given: Where they come from.

    Returns:
        [N] of an integer dtype, bool, or "U" for names.

    Raises:
        ValueError: labels of another shape or type, missing ones, several per sample.
    """
    array = _as_array(values, given)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if len(array.shape) != 1 or len(array) != length:
        raise ValueError(_wrong_shape(array, length, given))
    if array.dtype.kind == "O" or array.dtype.kind == "f":
        lacking = [i for i, value in enumerate(array.tolist()) if missing(value)]
        if lacking:
            raise ValueError(_lacking(array, lacking, given, hasattr(values, "to_numpy")))
    if array.dtype.kind == "O":
        array = _of_one_kind(array, given)
    if array.dtype.kind == "f":
        array = array.astype(np.promote_types(array.dtype, np.float64))  # 2**63 is beyond halves
        broken = np.flatnonzero((array != np.trunc(array)) | (np.abs(array) >= 2**63))
        if len(broken):
            raise ValueError(
                f"labels of task {given.task!r} must be classes, got the {array.dtype} "
                f"{array[broken[0]]:g} for sample {broken[0]}. Make classes of ranges: labels="
                f"np.digitize({given.expression}, np.quantile({given.expression}, [0.25, 0.5, "
                "0.75]))."
            )
        array = array.astype(np.int64)
    if array.dtype.kind in "ST":
        array = array.astype(str)
    if array.dtype.kind not in "biuU":
        raise ValueError(_wrong_type(given, str(array.dtype)))
    if array.dtype.kind in "iu" and array.max(initial=0) < 2**63:
        array = array.astype(np.int64)
    return array


def several_labels(task: str, rows: Sequence[Any], item: str) -> str:
    """What to do where items have an array in place of a label.

    Args:
        task: Name of the task.
        rows: What some of the items have.
        item: How a user writes that of sample i.
    """
    stack = _stacked(rows)
    got = type(rows[0]).__name__ if stack is None else f"shape {list(stack.shape[1:])}"
    head = f"task {task!r} must have one label per item, got {got}"
    every = "for i in range(len(dataset))"
    if stack is not None and stack.ndim == 2 and stack.shape[1]:
        code = f"np.stack([np.asarray({item}) {every}])"
        return f"{head} in {len(stack)} items looked at. {_several(stack, code)}"
    first = _numeric(rows[0])
    if first is not None and first.ndim > 1 and first.dtype.kind in "biu":
        return (
            f"{head}: a mask, or a second view. Of masks, take the class of most pixels: "
            f"labels=[int(np.bincount(np.ravel({item})).argmax()) {every}]."
        )
    return f"{head}. Pass labels=, one class per sample, or a dict task -> labels for several."


def _as_array(values: Any, given: Given) -> Column:
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        array: Column = (values.float() if values.dtype == torch.bfloat16 else values).numpy()
        return array
    if hasattr(values, "to_numpy"):
        return np.array(values.to_numpy())
    if isinstance(values, np.ndarray):
        return values
    if not isinstance(values, Sequence) or isinstance(values, str | bytes):
        raise ValueError(_wrong_type(given, type(values).__name__))
    if len(values) and not np.isscalar(plain(values[0])):
        rows = _stacked(values)
        if rows is not None:
            return rows
    array = np.empty(len(values), object)
    array[:] = [plain(value) for value in values]
    return array


def _of_one_kind(array: Column, given: Given) -> Column:
    """An array of Python objects; numpy would make names of numbers that stand among names."""
    values = [plain(value) for value in array.tolist()]
    groups: tuple[tuple[type, ...], ...] = ((str,), (bool,), (int,), (int, float))
    for kinds in groups:
        if all(isinstance(value, kinds) for value in values):
            return np.array(values)
    types = sorted({type(value).__name__ for value in values})
    raise ValueError(_wrong_type(given, f"a list of {' and '.join(types)}"))


def _stacked(values: Sequence[Any]) -> Column | None:
    """Arrays of numbers of one shape as one."""
    rows = [row for value in values if (row := _numeric(value)) is not None]
    same = len(rows) == len(values) and all(row.shape == rows[0].shape for row in rows)
    return np.stack(rows) if same else None


def _numeric(value: Any) -> Column | None:
    """A value as an array of numbers, if it is one."""
    if isinstance(value, str | bytes):
        return None
    try:
        array = value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
    except (ValueError, TypeError):
        return None
    return array if array.dtype.kind in "biuf" else None


def _wrong_type(given: Given, got: str) -> str:
    return (
        f"labels of task {given.task!r} must be [N] integers, bools or names, got {got}. Give "
        "every sample one, of one type."
    )


def _wrong_shape(array: Column, length: int, given: Given) -> str:
    head = (
        f"labels of task {given.task!r} must have shape [{length}], one per sample of the data "
        f"set, got {list(array.shape)}"
    )
    if array.ndim < 2 or len(array) != length or array.dtype.kind not in "biuf":
        return f"{head}. Pass one class per sample, in the order of the data set."
    if array.ndim == 2:
        return f"{head}. {_several(array, f'np.asarray({given.expression})')}"
    return (
        f"{head}. Of masks, take the class of most pixels: labels=[int(np.bincount(np.ravel(mask))."
        f"argmax()) for mask in {given.expression}]."
    )


def _several(rows: Column, code: str) -> str:
    """What to do with labels [N, K], by their values."""
    binary = bool(np.isin(rows, (0, 1)).all())
    if (binary or rows.dtype.kind == "f") and np.allclose(rows.sum(1), 1) and rows.min() >= 0:
        return f"One-hot labels: pass labels={code}.argmax(1)."
    if rows.dtype.kind == "f" and not (rows == np.trunc(rows)).all():
        return "Measurements are no classes. Pass one class per sample."
    vary = [k for k in range(rows.shape[1]) if len(np.unique(rows[:, k])) > 1]
    if not vary:
        return "None of its columns has two classes. Pass one class per sample."
    columns = f"range({len(vary)})" if vary == list(range(rows.shape[1])) else str(vary)
    kind = "Several labels per sample" if binary else "Several columns"
    return (
        f"{kind}: make a task of each, rows = {code}; "
        f'labels={{f"label_{{k}}": rows[:, k] for k in {columns}}}.'
    )


def _lacking(array: Column, lacking: list[int], given: Given, frame: bool) -> str:
    values = [plain(array[i]) for i in lacking]
    conditions = ["y is not None"] * any(value is None for value in values)
    if any(isinstance(value, float) for value in values):
        conditions.append("y == y")
    if frame or not all(value is None or isinstance(value, float) for value in values):
        conditions = ["pandas.notna(y)"]  # its NA cannot be compared
    return (
        f"{len(lacking)} of {len(array)} labels of task {given.task!r} are missing, that of sample "
        f"{lacking[0]} is {values[0]!r}. Leave these samples out: "
        f"{given.without(' and '.join(conditions))}."
    )
