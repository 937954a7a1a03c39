"""Every kind of label, and remedies that work when they are followed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.probe.labelled import IMAGE, Items, follow, found, labelled

Y = [0, 3, 1, 3, 2, 0]
TYPES = [np.uint8, np.uint16, np.uint32, np.uint64, np.int8, np.int16, np.int64]
FORMS = {
    "list": list,
    "tuple": tuple,
    "names": lambda y: [str(v) for v in y],
    "numpy scalars": lambda y: [np.int64(v) for v in y],
    "tensors": lambda y: [torch.tensor(v) for v in y],
    "tensors [1]": lambda y: [torch.tensor([v]) for v in y],
    "arrays [1]": lambda y: [np.array([v], np.uint8) for v in y],
    "names in bytes": lambda y: [str(v).encode() for v in y],
    "array of bytes": lambda y: np.array([str(v).encode() for v in y]),
    "floats": lambda y: [float(v) for v in y],
    "Series": lambda y: pd.Series(y, index=range(50, 50 + len(y))),
    "Int64": lambda y: pd.Series(y, dtype="Int64"),
    "Categorical": lambda y: pd.Series(pd.Categorical([str(v) for v in y])),
    "object array": lambda y: np.array(y, object),
    "[N, 1]": lambda y: np.array(y)[:, None],
    "tensor [N, 1]": lambda y: torch.tensor(y)[:, None],
    "lists [1]": lambda y: [[v] for v in y],
    "big endian": lambda y: np.array(y, ">i4"),
    "float tensor": lambda y: torch.tensor(y, dtype=torch.float32),
    "bfloat16": lambda y: torch.tensor(y, dtype=torch.bfloat16),
    **{f"array {t.__name__}": lambda y, t=t: np.array(y, t) for t in [*TYPES, np.float64]},
    **{
        f"tensor {t}": lambda y, t=t: torch.tensor(y, dtype=t)
        for t in (torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.int8, torch.int64)
    },
}
WANTED = {"label": [str(v) for v in Y]}


@pytest.mark.parametrize("form", FORMS)
def test_given_labels_of_any_form(form: str) -> None:
    assert found(labelled([0] * len(Y)), FORMS[form](Y)) == WANTED
    assert found(labelled([0] * len(Y)), {"t": FORMS[form](Y)}) == {"t": WANTED["label"]}


@pytest.mark.parametrize("form", FORMS)
def test_labels_in_items_and_in_targets_of_any_form(form: str) -> None:
    values = FORMS[form](Y)
    values = values.tolist() if isinstance(values, pd.Series) else values
    assert found(labelled(values)) == WANTED
    assert found(Items([(IMAGE, v, "more", None) for v in values])) == WANTED
    assert found(Items([{"image": IMAGE, "label": v, "width": 4} for v in values])) == WANTED
    told = labelled(values, targets=FORMS[form](Y), classes=["a", "b", "c", "d"])
    if "names" not in form and form not in ("Categorical", "array of bytes"):
        assert found(told) == {"label": ["abcd"[v] for v in Y]}


def test_numbers_beyond_int64_and_bools() -> None:
    y = np.array([2**64 - 1, 3, 2**63], np.uint64)
    assert found(labelled([0] * 3), y) == {"label": [str(v) for v in y.tolist()]}
    assert found(labelled([True, False])) == {"label": ["True", "False"]}
    assert found(labelled([0] * 2), torch.tensor([True, False])) == {"label": ["True", "False"]}


@given(
    y=hnp.arrays(st.sampled_from(TYPES), st.integers(2, 30), elements=st.integers(0, 120)).filter(
        lambda y: len(set(y.tolist())) > 1
    ),
    column=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_labels_are_the_values_given(y: Any, column: bool) -> None:
    given_labels = y[:, None] if column else y
    wanted = {"label": [str(v) for v in y.tolist()]}
    assert found(labelled([0] * len(y)), given_labels) == wanted
    assert found(labelled(list(given_labels))) == wanted


def refusal(dataset: Any, labels: Any = None) -> str:
    with pytest.raises(ValueError) as caught:
        found(dataset, labels)
    return str(caught.value)


@pytest.mark.parametrize(
    ("labels", "match"),
    [
        ([0, 1, 0], r"must have shape \[4\].*got \[3\]"),
        ([0.5, 1.0, 0.0, 1.0], "must be classes, got the float64 0.5 for sample 0"),
        ([0, 1e30, 1, 0], "must be classes, got the float64 1e\\+30 for sample 1"),
        (
            ["cat", 3, "cat", "dog"],
            "'label' must be .* integers, bools or names, got a list of int",
        ),
        ({3, 4, 5, 6}, "got set"),
        (np.random.default_rng(0).normal(size=(4, 3)), "Measurements are no classes"),
        (np.array([1j, 2, 3, 4]), "got complex128"),
        ({"hue": [0, 1, 0, 1], "size": [0, 1, 0]}, r"task 'size' must have shape \[4\]"),
    ],
)
def test_bad_labels(labels: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        found(labelled([0, 1, 0, 1]), labels)


ONE_HOT = np.eye(3, dtype=np.int64)[[0, 2, 1, 2]]
SEVERAL = np.array([[1, 1, 0, 0], [0, 1, 0, 1], [1, 1, 0, 1], [0, 1, 0, 0]])
CONTAINERS = {
    "array": lambda rows: rows,
    "tensor": torch.as_tensor,
    "lists": lambda rows: rows.tolist(),
    "list of tensors": lambda rows: [torch.as_tensor(row) for row in rows],
}


@pytest.mark.parametrize("kind", CONTAINERS)
def test_the_remedy_for_one_hot_labels_works(kind: str) -> None:
    data, rows = labelled([0, 1, 0, 1]), CONTAINERS[kind](ONE_HOT)
    message = refusal(data, rows)
    assert "shape [4]" in message
    assert "One-hot" in message
    assert follow(message, data, rows)._all_tasks["label"].labels.tolist() == [0, 2, 1, 2]
    data = labelled(rows)
    message = refusal(data)
    assert follow(message, data)._all_tasks["label"].labels.tolist() == [0, 2, 1, 2]


@pytest.mark.parametrize("kind", CONTAINERS)
def test_the_remedy_for_several_labels_per_sample_works(kind: str) -> None:
    data, rows = labelled([0, 1, 0, 1]), CONTAINERS[kind](SEVERAL)
    message = refusal(data, rows)
    assert "argmax" not in message
    for probe in (
        follow(message, data, rows),
        follow(refusal(labelled(rows)), labelled(rows)),
        follow(refusal(data, {"t": rows}), data, {"t": rows}),
    ):
        tasks = {name: task.labels.tolist() for name, task in probe._all_tasks.items()}
        assert tasks == {"label_0": [1, 0, 1, 0], "label_3": [0, 1, 1, 0]}


def test_one_hot_rows_of_targets_do_not_hide_what_items_say() -> None:
    data = labelled([0, 2, 1, 2], targets=ONE_HOT)
    assert found(data) == {"label": ["0", "2", "1", "2"]}


def test_the_remedies_for_unlabelled_samples_work() -> None:
    data = labelled([0] * 5)
    cases: list[tuple[Any, str, list[int]]] = [
        (torch.tensor([-1, 1, 0, -1, 1]), "got -1: 2 of 5 are, that of sample 0", [1, 0, 1]),
        ([1, -1, 0, 2, 1], "sample 1", [1, 0, 2, 1]),
        (
            ["b", None, "a", "b", None],
            "2 of 5 labels .* missing, that of sample 1 is None",
            [1, 0, 1],
        ),
        ([1.0, 0.0, float("nan"), 1.0, 0.0], "1 of 5 .* sample 2 is nan", [1, 0, 1, 0]),
        ([1, None, 0, float("nan"), 1], "2 of 5 .* sample 1 is None", [1, 0, 1]),
        (pd.Series([None, 1, 0, 1, None]), "sample 0 is nan", [1, 0, 1]),
        (pd.Series([1, None, 0, 1, 1], dtype="Int64"), "sample 1 is ", [1, 0, 1, 1]),
        (pd.Series(["a", None, "b", "a", "a"]), "sample 1 is ", [0, 1, 0, 0]),
    ]
    for labels, match, wanted in cases:
        with pytest.raises(ValueError, match=match) as caught:
            found(data, labels)
        probe = follow(str(caught.value), data, labels)
        assert probe._all_tasks["label"].labels.tolist() == wanted
        frame = {"t": labels, "other": [0, 1, 2, 3, 4]}
        frame = pd.DataFrame(frame) if isinstance(labels, pd.Series) else frame
        probe = follow(refusal(data, frame), data, frame)
        assert probe._all_tasks["t"].labels.tolist() == wanted
        items = labelled(labels.tolist() if isinstance(labels, pd.Series) else labels)
        assert follow(refusal(items), items)._all_tasks["label"].labels.tolist() == wanted
        told = Items(items, targets=labels)
        assert follow(refusal(told), told)._all_tasks["label"].labels.tolist() == wanted


def test_the_remedies_for_masks_and_measurements_work() -> None:
    masks = torch.zeros(4, 5, 5, dtype=torch.long)
    masks[0, 0], masks[1, :4], masks[2] = 3, 2, 1
    for data, labels in ((labelled(masks), None), (labelled([0] * 4), masks)):
        message = refusal(data, labels)
        assert "masks" in message
        assert follow(message, data, labels)._all_tasks["label"].labels.tolist() == [0, 2, 1, 0]
    ages = [20.5, 80.25, 31.0, 44.0, 60.5]
    for data, labels in ((labelled(ages), None), (labelled([0] * 5), torch.tensor(ages))):
        probe = follow(refusal(data, labels), data, labels)
        assert probe._all_tasks["label"].labels.tolist() == [0, 3, 1, 2, 3]


def test_views_and_ragged_labels_are_refused() -> None:
    views = refusal(Items([(IMAGE / 255, IMAGE / 255)] * 4))
    assert "sample 0 of the probe's data set: task 'label' must have one label per item" in views
    assert "got shape [3, 4, 4]" in views
    assert "got list. Pass labels=" in refusal(labelled([[1], [1, 2], [3]]))


def test_labels_in_halves_are_right_and_silent() -> None:
    assert found(labelled([0] * 4), torch.tensor([0.0, 1.0, 1.0, 0.0]).half()) == {
        "label": list("0110")
    }
