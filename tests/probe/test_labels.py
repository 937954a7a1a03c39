"""Labels that are given, and the names of tasks and classes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import Subset, TensorDataset

from dnc_lightning import ProbeSet
from dnc_lightning.probe.labels import read_tasks
from tests.probe.labelled import IMAGE, Items, found, labelled, rows


def test_labels_come_from_the_argument_first() -> None:
    data = labelled([0, 0, 1, 1], targets=[0, 0, 1, 1])
    assert read_tasks(data, [1, 0, 1, 0])["label"].labels.tolist() == [1, 0, 1, 0]
    assert read_tasks(data)["label"].labels.tolist() == [0, 0, 1, 1]


def test_data_frames_and_mappings_name_several_tasks() -> None:
    data = Items([(IMAGE, 0)] * 4)
    frame = pd.DataFrame({"smiling": [0, 1, 1, 0], "young": [True, True, False, False]})
    tasks = read_tasks(data, frame)
    assert tasks["smiling"].labels.tolist() == [0, 1, 1, 0]
    assert tasks["young"].labels.tolist() == [1, 1, 0, 0]


def test_names_are_labels_numbered_in_sorted_order() -> None:
    data = Items([(IMAGE, 0)] * 4)
    frame = pd.DataFrame(
        {
            "animal": ["dog", "ant", "cow", "ant"],
            "size": pd.Categorical(["large", "small", "large", "small"]),
            "legs": pd.array([4, 6, 4, 6], dtype="Int64"),
            "wild": [False, True, False, True],
        }
    )
    for labels in (frame, {name: frame[name].tolist() for name in frame}):
        tasks = read_tasks(data, labels)
        assert {name: task.classes for name, task in tasks.items()} == {
            "animal": ("ant", "cow", "dog"),
            "size": ("large", "small"),
            "legs": ("4", "6"),
            "wild": ("False", "True"),
        }
        assert tasks["animal"].labels.tolist() == [2, 0, 1, 0]
        assert tasks["legs"].labels.tolist() == tasks["wild"].labels.tolist() == [0, 1, 0, 1]
    part = read_tasks(Subset(labelled("baca", targets=["b", "a", "c", "a"]), [2, 0, 0]))["label"]
    assert (part.classes, part.labels.tolist()) == (("b", "c"), [1, 0, 0])


def test_label_values_become_consecutive() -> None:
    task = read_tasks(Items([0] * 4), np.array([7, 3, 7, 3]))["label"]
    assert task.labels.tolist() == [1, 0, 1, 0]
    assert task.classes == ("3", "7")


def test_columns_of_rows_are_chosen_by_name() -> None:
    data = rows(label=[0, 1, 0], hue=["red", "blue", "red"], size=[2, 2, 3])
    assert found(data, "hue") == {"hue": ["red", "blue", "red"]}
    assert found(data, ["size", "hue"]) == {"size": ["2", "2", "3"], "hue": ["red", "blue", "red"]}
    pairs = Items([(IMAGE, {"hue": i % 2, "size": i // 2}) for i in range(4)])
    assert found(pairs, "size") == {"size": ["0", "0", "1", "1"]}
    for labels in ("colour", ["size", "colour"]):
        with pytest.raises(
            ValueError, match=r"must name columns .*'colour'; there is 'label', 'hu"
        ):
            found(data, labels)


def test_as_many_names_as_samples_are_labels() -> None:
    data = rows(hue=["red", "blue"], size=[2, 3])
    assert found(data, ["hue", "size"]) == {"label": ["hue", "size"]}


def test_a_task_of_one_class_or_none_is_refused() -> None:
    data = labelled([0, 1, 0, 1])
    with pytest.raises(ValueError, match=r"at least two classes, got \[2\]"):
        read_tasks(data, [2, 2, 2, 2])
    with pytest.raises(ValueError, match="task 'size' must have at least two"):
        read_tasks(data, {"hue": [0, 1, 0, 1], "size": [1, 1, 1, 1]})
    with pytest.raises(ValueError, match="name no task"):
        read_tasks(data, {})
    with pytest.raises(ValueError, match="must hold samples, got none"):
        read_tasks(Items([]))
    with pytest.raises(ValueError, match=r"tasks of different names, got \[1, '1'\]"):
        read_tasks(data, {1: [0, 1, 0, 1], "1": [0, 1, 0, 1]})


NAMES = ["cat", "dog", "cow", "ant"]


def test_given_labels_have_names_where_they_are_those_of_the_data_set() -> None:
    y = [0, 1, 2, 3, 1]
    data = labelled(y, targets=y, classes=NAMES)
    assert found(data, torch.tensor(y)) == {"label": ["cat", "dog", "cow", "ant", "dog"]}
    coarse = [label // 2 for label in y]
    assert found(data, coarse) == {"label": ["0", "0", "1", "1", "0"]}
    assert found(data, {"fine": y, "coarse": coarse}) == {
        "fine": ["cat", "dog", "cow", "ant", "dog"],
        "coarse": ["0", "0", "1", "1", "0"],
    }


def test_names_kept_for_a_task_are_of_the_labels_given_for_it() -> None:
    data = labelled([0, 1, 1, 0], targets=[0, 1, 1, 0], classes={"fine": NAMES})
    assert found(data, {"fine": [2, 3, 0, 2]}) == {"fine": ["cow", "ant", "cat", "cow"]}
    assert found(data, {"other": [2, 3, 0, 2]}) == {"other": ["2", "3", "0", "2"]}


def test_without_targets_items_decide_whether_names_fit_given_labels() -> None:
    data = labelled([0, 1, 2, 1], classes=NAMES)
    assert found(data) == found(data, [0, 1, 2, 1]) == {"label": ["cat", "dog", "cow", "dog"]}
    assert found(data, [1, 0, 1, 0]) == {"label": ["1", "0", "1", "0"]}
    data.target_transform = lambda label: label // 2
    assert found(data) == {"label": ["0", "1", "2", "1"]}
    one = TensorDataset(torch.zeros(4, 1, 2, 2))
    one.classes = NAMES
    assert found(one, [0, 1, 2, 1]) == {"label": ["0", "1", "2", "1"]}


def tasks(*names: str) -> dict[str, list[int]]:
    return {name: [k % 2, 1 - k % 2, 1, 0] for k, name in enumerate(names)}


@pytest.mark.parametrize(
    ("names", "match"),
    [
        (["hue", "fine/coarse"], "must not be empty or hold '/'.*'fine/coarse'.*'fine_coarse'"),
        ([""], "must not be empty"),
        (["hue", "orthogonality"], "one of several tasks is called 'orthogonality'.*Rename"),
        (["features"], "a task is called 'features'.*needs no labels.*Rename"),
        (
            ["a-b", "c", "a", "b-c"],
            "'a-b' and 'c' would have the same key .*a-b-c as 'a' and 'b-c'",
        ),
        (
            ["a-b", "b", "a", "b-b"],
            "'a-b' and 'b' would have the same key .*a-b-b as 'a' and 'b-b'",
        ),
    ],
)
def test_names_of_tasks_that_would_not_tell_keys_apart(names: list[str], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        _ = ProbeSet(labelled([0, 1, 0, 1]), per_class=1, labels=tasks(*names)).tasks
    if len(names) > 1:
        fine, coarse = tasks("x"), {name: {0: 0, 1: 1} for name in names}
        with pytest.raises(ValueError, match=r"hold '/'|orthogonality|same key"):
            _ = ProbeSet(
                labelled([0, 1, 0, 1]),
                per_class=1,
                labels=fine,
                hierarchy={name: ("x", mapping) for name, mapping in coarse.items()},
            ).tasks


@pytest.mark.parametrize(
    "names", [["a-b", "c"], ["a-b", "b-c", "c"], ["orthogonality"], ["eye colour", "a-b-c", "Ä"]]
)
def test_other_names_of_tasks_are_fine(names: list[str]) -> None:
    assert list(found(labelled([0, 1, 0, 1]), tasks(*names))) == names
