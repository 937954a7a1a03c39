"""What the items say is what counts; metadata are a way to know it sooner."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import (
    ConcatDataset,
    Dataset,
    StackDataset,
    Subset,
    TensorDataset,
    random_split,
)

from dnc_lightning import ProbeSet
from tests.probe.labelled import IMAGE, Items, folder, found, labelled, rows

datasets = pytest.importorskip("datasets")
vision = pytest.importorskip("torchvision.datasets")


def of_items(dataset: Any) -> list[str]:
    return [str(dataset[i][1]) for i in range(len(dataset))]


class Remapped(vision.ImageFolder):
    def __getitem__(self, index: int) -> Any:
        image, label = super().__getitem__(index)
        return image, int(label in (1, 2)), index


class Reordered(Dataset):
    """Its own order, everything else from the data set below."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.order = torch.randperm(len(inner), generator=torch.Generator().manual_seed(1)).tolist()

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, index: int) -> Any:
        return self.inner[self.order[index]]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["inner"], name)


class Wrapped(Dataset):
    """A wrapper with `dataset` and `indices` of its own meaning."""

    def __init__(self, inner: Any, indices: Any) -> None:
        self.dataset, self.indices = inner, indices

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[index]


def test_items_win_over_targets(tmp_path: Path) -> None:
    root = folder(tmp_path)
    coarse = vision.ImageFolder(root, target_transform=lambda label: label // 2)
    for data in (coarse, Remapped(root), Reordered(vision.ImageFolder(root))):
        with pytest.warns(UserWarning, match=r"`targets` .* sample \d+ has \d there and \d in its"):
            assert found(data) == {"label": of_items(data)}
        part = Subset(Subset(data, range(1, 39)), list(range(30, 3, -1)))
        with pytest.warns(UserWarning, match="labels of all items are read"):
            assert found(part) == {"label": of_items(part)}


def test_names_of_classes_stay_where_metadata_agree(tmp_path: Path) -> None:
    data = vision.ImageFolder(folder(tmp_path))
    wanted = [f"c{data[i][1]}" for i in range(len(data))]
    assert found(data) == found(ConcatDataset([data])) == {"label": wanted}
    assert found(Wrapped(data, range(7))) == {"label": of_items(data)}
    part = random_split(data, [0.75, 0.25], torch.Generator().manual_seed(0))[0]
    assert found(part) == {"label": [f"c{part[i][1]}" for i in range(len(part))]}
    assert found(Subset(Subset(data, [35, 3, 12, 9]), [2, 0])) == {"label": ["c1", "c3"]}


def test_items_are_read_only_where_they_must_be() -> None:
    class Counting(Items):
        reads = 0

        def __getitem__(self, index: Any) -> Any:
            Counting.reads += 1
            return super().__getitem__(index)

    y = [i % 5 for i in range(1000)]
    assert found(Counting([(IMAGE, v) for v in y], targets=y)) == {"label": list(map(str, y))}
    assert Counting.reads <= 33
    Counting.reads = 0
    with pytest.warns(UserWarning, match="sample 0 has 1 there and 0 in its item"):
        found(Counting([(IMAGE, v) for v in y], targets=[(v + 1) % 5 for v in y]))
    assert Counting.reads <= 1003


@given(
    y=st.lists(st.integers(0, 3), min_size=8, max_size=60),
    told=st.permutations(range(4)),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_labels_are_those_of_the_items_whatever_metadata_say(
    y: list[int], told: list[int], data: Any
) -> None:
    y = [0, 1, 2, 3, *y]
    indices = data.draw(st.lists(st.integers(0, len(y) - 1), min_size=4))
    dataset = Subset(labelled(y, targets=[told[v] for v in y], classes=list("abcd")), indices)
    if len({y[i] for i in indices}) < 2:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        got = found(dataset)["label"]
    right = all(told[y[i]] == y[i] for i in indices)
    assert got == ["abcd"[y[i]] if right else str(y[i]) for i in indices]


def test_a_rare_difference_is_seen_when_the_images_are_read() -> None:
    y = [i % 100 for i in range(2000)]
    data = labelled([5 if label == 73 else label for label in y], targets=y)
    probe = ProbeSet(data, per_class=2)
    with pytest.raises(ValueError, match=r"sample \d+73 .*`targets` say 73 .*item says 5.*labels="):
        [probe.image(position) for position in range(len(probe))]
    probe = ProbeSet(data, per_class=2, labels={"label": [data[i][1] for i in range(len(data))]})
    assert all(
        int(data[i][1]) == int(probe.tasks["label"].classes[label])
        for i, label in zip(probe.indices, probe.tasks["label"].labels, strict=True)
    )


def test_labels_attributes_that_are_something_else_are_passed_over() -> None:
    for attribute in (["cat", "dog"], {"cat": 0, "dog": 1}, torch.eye(4), "labels", len):
        assert found(labelled([0, 1, 1, 0], labels=attribute)) == {"label": list("0110")}
    assert found(labelled([0, 1, 1], targets=["x"], labels=[0, 1, 1])) == {"label": list("011")}


def test_a_table_of_labels_is_narrowed_to_what_items_have() -> None:
    import pandas as pd

    frame = pd.DataFrame({"file": ["a", "b", "c"], "label": [0, 1, 0]})
    assert found(labelled([0, 1, 0], labels=frame)) == {"label": ["0", "1", "0"]}
    with pytest.warns(UserWarning, match=r"they have the tasks \['a'\], the items \['label'\]"):
        assert found(labelled([0, 1, 0], targets={"a": [1, 1, 0]})) == {"label": ["0", "1", "0"]}


def test_several_tasks_in_items() -> None:
    data = Items([(IMAGE, {"hue": i % 2, "size": i // 2}) for i in range(4)])
    wanted = {"hue": ["0", "1", "0", "1"], "size": ["0", "0", "1", "1"]}
    assert found(data) == wanted
    data.targets = {"hue": [0, 1, 0, 1], "size": [0, 0, 1, 1]}
    data.classes = {"hue": ["red", "blue"], "size": ["small", "large"]}
    assert found(data)["hue"] == ["red", "blue", "red", "blue"]
    data[2] = (IMAGE, {"hue": 0})
    with pytest.raises(ValueError, match=r"sample 2 .*label of task 'size'.*got \['hue'\]"):
        found(data)


VALUES: dict[str, Any] = {
    "int": int,
    "np.int64": np.int64,
    "np.uint16": np.uint16,
    "str": "abcd".__getitem__,
    "bool": lambda v: v > 1,
    "tensor": torch.tensor,
    "tensor [1]": lambda v: torch.tensor([v]),
    "array": np.array,
    "array [1]": lambda v: np.array([v]),
}


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("other", VALUES)
def test_the_label_column_is_the_task_whatever_types_there_are(kind: str, other: str) -> None:
    y = [0, 1, 3, 2, 1, 0]
    data = rows(
        domain=[VALUES[other](i % 3) for i in range(6)],
        label=[VALUES[kind](v) for v in y],
        width=[VALUES[other](i % 2) for i in range(6)],
    )
    plain = {"str": ["abcd"[v] for v in y], "bool": [str(v > 1) for v in y]}
    assert found(data) == {"label": plain.get(kind, [str(v) for v in y])}


@pytest.mark.parametrize("column", ["label", "labels", "target", "targets", "class"])
def test_columns_that_are_labels_by_their_name(column: str) -> None:
    assert found(rows(width=[1, 2, 1], **{column: [1, 0, 1]})) == {column: ["1", "0", "1"]}


def test_rows_without_a_label_are_refused_with_their_columns() -> None:
    data = rows(width=[1, 2, 1], hue=[0, 1, 1])
    with pytest.raises(
        ValueError, match=r"none of the columns 'width', 'hue' .*labels=\['width'\]"
    ):
        found(data)
    assert found(data, ["hue"]) == {"hue": ["0", "1", "1"]}
    stacked = StackDataset(image=[IMAGE] * 3, label=[1, 0, 1], index=[0, 1, 2])
    assert found(stacked) == {"label": ["1", "0", "1"]}


def hub(n: int = 12, start: int = 0) -> Any:
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "width": datasets.Value("int64"),
            "label": datasets.ClassLabel(names=["cat", "dog", "cow"]),
            "coarse_label": datasets.ClassLabel(names=["pet", "farm"]),
            "url": datasets.Value("string"),
        }
    )
    y = [(7 * i + start) % 3 for i in range(n)]
    columns = {
        "image": [Image.fromarray(np.full((4, 4, 3), i, np.uint8)) for i in range(n)],
        "width": [i % 2 for i in range(n)],
        "label": y,
        "coarse_label": [int(v == 2) for v in y],
        "url": [f"http://{i % 2}" for i in range(n)],
    }
    return datasets.Dataset.from_dict(columns, features=features)


def named(data: Any, indices: Any = None) -> dict[str, list[str]]:
    indices = range(len(data)) if indices is None else indices
    return {
        "label": [["cat", "dog", "cow"][data[int(i)]["label"]] for i in indices],
        "coarse_label": [["pet", "farm"][data[int(i)]["coarse_label"]] for i in indices],
    }


def test_hugging_face_columns_and_their_names() -> None:
    data = hub()
    assert found(data) == named(data)
    assert found(data, "coarse_label") == {"coarse_label": named(data)["coarse_label"]}
    assert found(data, data["label"]) == {"label": named(data)["label"]}
    for form in ("torch", "numpy"):
        assert found(data.with_format(form)) == named(data)
    assert found(data.select([7, 3, 5, 2])) == named(data, [7, 3, 5, 2])


def test_parts_of_hugging_face_data_sets() -> None:
    data, more = hub(), hub(9, start=1)
    assert found(Subset(data, [7, 3, 5, 2])) == named(data, [7, 3, 5, 2])
    part = random_split(data, [8, 4], torch.Generator().manual_seed(0))[0]
    assert found(part) == named(data, part.indices)
    both = ConcatDataset([data, Subset(more, [4, 0, 2])])
    wanted = {task: names + named(more, [4, 0, 2])[task] for task, names in named(data).items()}
    assert found(both) == wanted


def test_transforms_of_hugging_face_rows() -> None:
    data = hub()
    same = data.with_transform(lambda batch: batch | {"image": [i.copy() for i in batch["image"]]})
    assert found(same) == named(data)
    changed = data.with_transform(
        lambda batch: {"image": batch["image"], "label": [v * 10 for v in batch["label"]]}
    )
    with pytest.warns(UserWarning, match=r"label columns .* are not the labels of its items"):
        assert found(changed) == {"label": [str(10 * v) for v in data["label"]]}


def test_concatenated_folders_have_names_where_they_are_the_same(tmp_path: Path) -> None:
    one = vision.ImageFolder(folder(tmp_path / "one"))
    two = vision.ImageFolder(folder(tmp_path / "two", classes=3))
    assert found(ConcatDataset([one, one]))["label"][:5] == ["c0"] * 5
    assert set(found(ConcatDataset([one, two]))["label"]) == {"0", "1", "2", "3"}


def test_medical_style_labels_of_shape_n_by_1() -> None:
    y = np.array([0, 2, 1, 2, 0, 1], np.uint8)[:, None]
    data = Items([(IMAGE, label.astype(int)) for label in y], labels=y)
    assert found(data) == {"label": list("021201")}
    assert found(TensorDataset(torch.zeros(6, 1, 2, 2), torch.tensor(y))) == {
        "label": list("021201")
    }


def test_a_property_that_raises_is_no_metadata() -> None:
    class Raises(Items):
        @property
        def targets(self) -> Any:
            raise RuntimeError("not loaded")

        @property
        def classes(self) -> Any:
            raise KeyError("classes")

    assert found(Raises([(IMAGE, i % 2) for i in range(6)])) == {"label": list("010101")}


def test_labels_that_change_between_reads_are_refused() -> None:
    class Drawn(Items):
        reads = 0

        def __getitem__(self, i: Any) -> Any:
            self.reads += 1
            return IMAGE, (i + (self.reads > 41)) % 2

    data = Drawn([None] * 40)
    probe = ProbeSet(data, per_class=2)
    with pytest.raises(ValueError, match=r"the same labels whenever it is read, got . and then"):
        probe.image(0)
    with pytest.raises(ValueError, match=r"labels=\{'label': \[dataset\[i\]\[1\] for i in range"):
        probe.image(1)
    given = ProbeSet(data, per_class=2, labels={"label": [i % 2 for i in range(40)]})
    assert torch.equal(given.image(0), IMAGE)


def test_other_classes_under_one_number_are_said_aloud(tmp_path: Path) -> None:
    one = labelled([0, 1] * 4, targets=[0, 1] * 4, classes=["cat", "dog"])
    two = labelled([0, 1] * 4, targets=[0, 1] * 4, classes=["dog", "cat"])
    both = ConcatDataset([one, two])
    with pytest.warns(UserWarning, match="label 0 of task 'label' is 'cat' in .* 'dog' in a later"):
        assert found(both)["label"] == list("01" * 8)
    names = [part.classes[y] for part in both.datasets for y in part.targets]
    assert found(both, names)["label"] == ["cat", "dog"] * 4 + ["dog", "cat"] * 4
