from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import Subset

from dnc_lightning.probe.labels import Task, read_tasks, stratified


class Items(list):
    """A map-style data set with attributes."""

    def __init__(self, items: list[Any], **attributes: Any) -> None:
        super().__init__(items)
        self.__dict__.update(attributes)


IMAGE = torch.zeros(3, 4, 4, dtype=torch.uint8)


def test_labels_come_from_the_argument_first() -> None:
    data = Items([(IMAGE, 0)] * 4, targets=[0, 0, 1, 1])
    assert read_tasks(data, [1, 0, 1, 0])["label"].labels.tolist() == [1, 0, 1, 0]
    assert read_tasks(data)["label"].labels.tolist() == [0, 0, 1, 1]


def test_a_subset_looks_through_to_its_data_set() -> None:
    data = Items([(IMAGE, 0)] * 4, targets=torch.tensor([0, 2, 1, 2]), classes=["a", "b", "c"])
    task = read_tasks(Subset(Subset(data, [3, 1, 2]), [2, 0]))["label"]
    assert task.labels.tolist() == [0, 1]
    assert task.classes == ("b", "c")


def test_items_are_read_when_nothing_else_names_labels() -> None:
    tasks = read_tasks(Items([(IMAGE, {"hue": i % 2, "size": i // 2}) for i in range(4)]))
    assert tasks["hue"].labels.tolist() == [0, 1, 0, 1]
    assert tasks["size"].labels.tolist() == [0, 0, 1, 1]
    rows = Items([{"image": IMAGE, "label": i % 2} for i in range(4)])
    assert list(read_tasks(rows)) == ["label"]


def test_hugging_face_columns_and_names() -> None:
    class Table(Items):
        def __getitem__(self, key: Any) -> Any:
            return [row[key] for row in self] if isinstance(key, str) else super().__getitem__(key)

    label = SimpleNamespace(names=["cat", "dog"])
    data = Table(
        [{"img": IMAGE, "fine": i % 2} for i in range(4)],
        features={"img": SimpleNamespace(), "fine": label},
    )
    assert read_tasks(data)["fine"].classes == ("cat", "dog")


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
    part = read_tasks(Subset(Items(data, targets=["b", "a", "c", "a"]), [2, 0, 0]))["label"]
    assert (part.classes, part.labels.tolist()) == (("b", "c"), [1, 0, 0])


def test_label_values_become_consecutive() -> None:
    task = read_tasks(Items([0] * 4), np.array([7, 3, 7, 3]))["label"]
    assert task.labels.tolist() == [1, 0, 1, 0]
    assert task.classes == ("3", "7")


@pytest.mark.parametrize(
    ("labels", "match"),
    [
        ([0, 1, 0], r"must have shape \[4\].*got \[3\]"),
        (torch.eye(4).long(), "One-hot"),
        ([0.0, 1.0, 0.0, 1.0], "must be integers, got torch.float32"),
        (["cat", 3, "cat", "dog"], "'label' must be .* integers, bools or names, got list"),
        ([0, 1, -1, 1], "must not be negative, got -1"),
        ([2, 2, 2, 2], r"at least two classes, got \[2\]"),
        ({"hue": [0, 1, 0, 1], "size": [1, 1, 1, 1]}, "task 'size' must have at least two"),
        ({}, "name no task"),
        ({"hue": [0, 1, 0, 1], "size": [0, 1, 0]}, r"task 'size' must have shape \[4\]"),
        (pd.DataFrame({"kind": ["cat", None, "cat", "dog"]}), "'kind' must be .* of one type"),
    ],
)
def test_bad_labels(labels: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        read_tasks(Items([(IMAGE, 0)] * 4), labels)


@pytest.mark.parametrize(
    ("item", "match"),
    [
        (IMAGE, r"must be \(image, label\)"),
        ({"picture": IMAGE, "label": 1}, "one of the keys image, img, got"),
    ],
)
def test_bad_items(item: Any, match: str) -> None:
    from dnc_lightning.probe.labels import item_image

    with pytest.raises(ValueError, match=match):
        item_image(item)


def make_task(labels: torch.Tensor) -> Task:
    return Task(labels, tuple(map(str, range(int(labels.max()) + 1))))


@given(seed=st.integers(0, 100), per_class=st.integers(1, 5), classes=st.integers(2, 6))
@settings(max_examples=40, deadline=None)
def test_one_task_gets_exactly_per_class(seed: int, per_class: int, classes: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.cat(
        [torch.arange(classes).repeat(5), torch.randint(classes, (40,), generator=generator)]
    )
    chosen = stratified({"label": make_task(labels)}, per_class, seed)
    assert torch.bincount(labels[chosen]).tolist() == [per_class] * classes
    assert len(chosen.unique()) == len(chosen)
    assert torch.equal(chosen, stratified({"label": make_task(labels)}, per_class, seed))


def test_another_seed_takes_other_samples() -> None:
    task = {"label": make_task(torch.arange(200) % 4)}
    first, second = (set(stratified(task, 10, seed).tolist()) for seed in (0, 1))
    assert first != second


def test_independent_factors_stay_exactly_independent() -> None:
    grid = torch.cartesian_prod(torch.arange(4), torch.arange(2), torch.arange(3)).repeat(30, 1)
    tasks = {name: make_task(grid[:, k]) for k, name in enumerate(("hue", "size", "style"))}
    chosen = stratified(tasks, 20, seed=0)
    counts = torch.zeros(4, 2, 3)
    for row in grid[chosen]:
        counts[tuple(row)] += 1
    assert counts.min() == counts.max()
    assert counts.sum((1, 2)).min() >= 20


def test_many_combinations_are_not_all_taken() -> None:
    generator = torch.Generator().manual_seed(0)
    attributes = torch.randint(2, (3000, 12), generator=generator)
    tasks = {f"a{k}": make_task(attributes[:, k]) for k in range(12)}
    chosen = stratified(tasks, 50, seed=0)
    assert len(chosen) < 200
    for k in range(12):
        assert torch.bincount(attributes[chosen, k]).min() >= 50


def test_too_few_samples_name_the_class_and_its_count() -> None:
    data = Items([(IMAGE, 0)] * 6, targets=[0, 0, 0, 0, 1, 1], classes=["cat", "dog"])
    with pytest.raises(ValueError, match=r"per_class=3 .* task 'label' 'dog' has 2\. Lower"):
        stratified(read_tasks(data), 3, 0)
