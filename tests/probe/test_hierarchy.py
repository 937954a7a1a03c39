"""Coarse tasks made of fine ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Subset, TensorDataset

from dnc_lightning import ProbeCallback, ProbeSet
from dnc_lightning.reporting import read_run
from tests.callbacks.modules import BackboneModule, Floats

FINE = ["ant", "bus", "cat", "dog", "van"]
KIND = {"ant": "animal", "bus": "car", "cat": "animal", "dog": "animal", "van": "car"}


class Pictures(TensorDataset):
    """Ten of each fine class, in turn."""

    def __init__(self, classes: list[str] | None = None) -> None:
        super().__init__(torch.zeros(50, 3, 8, 8), torch.arange(50) % 5)
        self.targets = self.tensors[1]
        if classes is not None:
            self.classes = classes


def coarse(mapping: Any, *, data: Any = None, name: str = "kind", **options: Any) -> ProbeSet:
    data = Pictures(FINE) if data is None else data
    return ProbeSet(data, per_class=3, hierarchy={name: mapping}, **options)


@pytest.mark.parametrize(
    "mapping",
    [
        KIND,
        {c: KIND[name] for c, name in enumerate(FINE)},
        {0: "animal", 1: "car", "cat": "animal", "dog": "animal", np.int64(4): "car"},
        ("label", KIND),
    ],
)
def test_names_and_labels_map_to_names(mapping: Any) -> None:
    tasks = coarse(mapping).tasks
    assert list(tasks) == ["label", "kind"]
    assert tasks["kind"].classes == ("animal", "car")
    expected = [KIND[FINE[c]] for c in tasks["label"].labels.tolist()]
    assert [tasks["kind"].classes[c] for c in tasks["kind"].labels.tolist()] == expected
    assert torch.bincount(tasks["label"].labels).tolist() == [3] * 5


@pytest.mark.parametrize("numbers", [[2, 7, 2, 2, 7], [0, 10, 0, 0, 10]])
def test_a_tensor_maps_labels_to_numbers(numbers: list[int]) -> None:
    for mapping in (
        torch.tensor(numbers),
        np.array(numbers),
        dict(zip(FINE, numbers, strict=True)),
    ):
        task = coarse(mapping).tasks["kind"]
        assert task.classes == (str(numbers[0]), str(numbers[1]))
        assert torch.bincount(task.labels).tolist() == [9, 6]


def test_a_file_holds_names_or_labels(tmp_path: Path) -> None:
    by_label = {str(c): KIND[name] for c, name in enumerate(FINE)}
    for content, data in ((KIND, None), (by_label, None), (by_label, Pictures())):
        path = tmp_path / "kind.json"
        path.write_text(json.dumps(content))
        for given in (path, str(path)):
            assert coarse(given, data=data).tasks["kind"].classes == ("animal", "car")


def test_a_subset_may_lack_classes_that_the_mapping_knows() -> None:
    some = [i for i in range(50) if i % 5 in (1, 2, 3)]
    for mapping in (KIND, {c: KIND[name] for c, name in enumerate(FINE)}):
        tasks = coarse(mapping, data=Subset(Pictures(FINE), some)).tasks
        assert tasks["label"].classes == ("bus", "cat", "dog")
        expected = [KIND[tasks["label"].classes[c]] for c in tasks["label"].labels.tolist()]
        kind = tasks["kind"]
        assert [kind.classes[c] for c in kind.labels.tolist()] == expected


def test_a_coarse_task_may_be_coarsened_again() -> None:
    labels = {"fine": torch.arange(50) % 5, "hue": torch.arange(50) // 25}
    size = {"ant": "small", "bus": "large", "cat": "middle", "dog": "middle", "van": "large"}
    probe = ProbeSet(
        Pictures({"fine": FINE}),  # type: ignore[arg-type]
        per_class=2,
        labels=labels,
        hierarchy={
            "size": ("fine", size),
            "small": ("size", {"small": 1, "middle": 1, "large": 0}),
        },
    )
    assert {name: task.classes for name, task in probe.tasks.items()} == {
        "fine": tuple(FINE),
        "hue": ("0", "1"),
        "size": ("large", "middle", "small"),
        "small": ("0", "1"),
    }


def test_both_granularities_are_recorded(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    data = Pictures(FINE)
    data.tensors = (torch.rand(50, 3, 12, 12, generator=generator), data.targets)
    fit(tmp_path, ProbeSet(data, per_class=5, hierarchy={"kind": KIND}))
    run = read_run(tmp_path / "dnc" / "probe")
    assert run.header["tasks"] == {"label": FINE, "kind": ["animal", "car"]}
    assert run.header["probe"]["per_class"] == {"label": [5] * 5, "kind": [15, 10]}
    last = run.records[-1].scalars
    assert last["probe/label/cdnv"] > 0
    assert last["probe/kind/directional_cdnv"] > 0
    assert last["probe/orthogonality/label-kind/dependence"] == pytest.approx(1)


def without(*names: str) -> dict[str, str]:
    return {name: kind for name, kind in KIND.items() if name not in names}


BAD: list[tuple[Any, str]] = [
    (without("dog"), r"hierarchy\['kind'\]: .*none for class 3 \('dog'\)"),
    (torch.tensor([0, 1, 0, 0]), r"none for class 4 \('van'\)"),
    (KIND | {"cow": "animal"}, "maps 'cow', which is no class of task 'label': there is 'ant'"),
    (KIND | {5: "animal"}, "maps 5, which is no class"),
    (torch.zeros(6).long(), "maps 5, which is no class"),
    (KIND | {2: "car"}, "maps 'cat' to both 'animal' and 'car'"),
    (dict.fromkeys(FINE, "thing"), "at least two classes, got 'thing' only"),
    (KIND | {"van": 3}, "all integers or all names"),
    (KIND | {"van": None}, "must give names or integers, got None for 'van'"),
    (torch.tensor([0, 1, 0, 0, -1]), "at least 0, got -1"),
    (torch.zeros(5), r"must be integers \[C_fine\].*got torch.float32"),
    (["a"] * 5, "must be a dict fine class -> coarse name.*got list"),
    ("missing.json", "must be a readable JSON file, got missing.json"),
    (("hue", KIND), "coarsens task 'hue', which is not among label"),
]


@pytest.mark.parametrize(("mapping", "match"), BAD)
def test_bad_mappings(mapping: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        len(coarse(mapping))


def test_bad_files(tmp_path: Path) -> None:
    path = tmp_path / "kind.json"
    for content, match in (("[1, 2]", "got list in .*kind.json"), ("{", "readable JSON file")):
        path.write_text(content)
        with pytest.raises(ValueError, match=match):
            len(coarse(path))


def test_bad_names() -> None:
    with pytest.raises(ValueError, match=r"has the name of another task.*label"):
        len(coarse(KIND, name="label"))
    with pytest.raises(ValueError, match="must be a dict coarse name -> mapping, got list"):
        len(ProbeSet(Pictures(FINE), hierarchy=[KIND]))  # type: ignore[arg-type]
    several = {"fine": torch.arange(50) % 5, "hue": torch.arange(50) % 2}
    with pytest.raises(ValueError, match=r"must name the task .* fine, hue\. Write \('fine'"):
        len(coarse({c: c // 2 for c in range(5)}, labels=several))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"hierarchy": {"kind": without("dog")}}, r"none for class 3 \('dog'\)"),
        ({"labels": {"a": [0, 1] * 25, "b": [0, 1]}}, r"task 'b' must have shape \[50\]"),
        ({"labels": {"a": [0, 1] * 25, "b": [0] * 50}}, "task 'b' must have at least two classes"),
    ],
)
def test_mistakes_fail_before_the_first_step(
    options: dict[str, Any], match: str, tmp_path: Path
) -> None:
    probe = ProbeSet(Pictures(FINE), per_class=3, **options)
    with pytest.raises(ValueError, match=match):
        fit(tmp_path, probe)
    assert not (tmp_path / "dnc").exists()


def fit(path: Path, probe: ProbeSet) -> None:
    trainer = pl.Trainer(
        max_steps=2,
        default_root_dir=path,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        callbacks=[ProbeCallback(probe)],
    )
    trainer.fit(BackboneModule(), DataLoader(Floats(24), 6))
