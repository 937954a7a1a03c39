"""Hugging Face datasets: local ones in every format, and what is refused before training."""

from __future__ import annotations

import sys
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from recipes.data import DecodedImages, HuggingFace
from recipes.data import hugging_face_files as files

NAMES = ["ant", "bee", "cat"]


def table(count: int, names: list[str] = NAMES, **columns: object) -> datasets.Dataset:
    """Images of one grey level each, in turns of the classes."""
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=names),
            "colour": datasets.Value("string"),
            "level": datasets.Value("int32"),
            "weight": datasets.Value("float32"),
        }
    )
    content = {
        "image": [Image.fromarray(np.full((30, 40), 5 * n, np.uint8)) for n in range(count)],
        "label": [n % 3 for n in range(count)],
        "colour": [["red", "blue"][n % 2] for n in range(count)],
        "level": [(n % 2) * 10 + 3 for n in range(count)],
        "weight": [0.5] * count,
    }
    return datasets.Dataset.from_dict(content | columns, features=features)


def saved(folder: Path, train: datasets.Dataset, probe: datasets.Dataset) -> str:
    datasets.DatasetDict(train=train, validation=probe).save_to_disk(str(folder))
    return str(folder)


@pytest.fixture
def data_dir(tmp_path: Path) -> str:
    return saved(tmp_path / "data", table(12), table(9))


@pytest.fixture(autouse=True)
def _quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()


def opened(name: str, **changed: object) -> HuggingFace:
    options = {"image_size": 14, "batch_size": 4, "num_workers": 0, "probe_per_class": 3}
    return HuggingFace(name, **(options | changed))


def test_batches_and_probe(data_dir):
    data = opened(data_dir)
    data.prepare_data()
    probe = data.probe_set
    data.setup("fit")
    assert probe.tasks["label"].classes == tuple(NAMES)
    assert len(probe) == len(probe.dataset) == 9
    assert probe.image(0).shape == (3, 14, 14)
    for images, labels in data.train_dataloader():
        assert (images.shape, images.dtype) == ((4, 3, 16, 16), torch.uint8)
        assert (images[:, 0, 8, 8] // 5 % 3).tolist() == labels.tolist()


def test_workers_load_what_the_training_process_would(data_dir):
    loaded = []
    for workers in (0, 1):
        data = opened(data_dir, num_workers=workers)
        data.setup("fit")
        loaded.append(list(data.train_dataloader()))
    for (images, labels), (others, other_labels) in zip(*loaded, strict=True):
        assert torch.equal(images, others)
        assert torch.equal(labels, other_labels)


def test_several_columns_are_several_tasks(data_dir):
    data = opened(data_dir, label_columns=["label", "colour", "level"])
    tasks = data.probe_set.tasks
    assert {name: task.classes for name, task in tasks.items()} == {
        "label": tuple(NAMES),
        "colour": ("blue", "red"),
        "level": ("3", "13"),
    }
    data.setup("fit")
    assert data.train_set_[4][1] == {"label": 1, "colour": 1, "level": 0}


def test_splits_may_number_their_classes_differently(tmp_path):
    name = saved(tmp_path / "data", table(12), table(9, names=["bee", "cat", "ant"]))
    probe = opened(name).probe_set.dataset
    assert [probe.classes[label] for label in probe.targets[:3]] == ["bee", "cat", "ant"]
    assert probe.classes == NAMES


def test_opening_reads_no_image(data_dir, monkeypatch):
    monkeypatch.setattr(datasets.Image, "decode_example", lambda *_: pytest.fail("read"))
    monkeypatch.setattr(DecodedImages, "image", lambda *_: pytest.fail("read"))
    data = opened(data_dir)
    data.setup("fit")
    probe = data.probe_set
    monkeypatch.undo()
    assert len(probe.tasks["label"].labels) == 9


def test_one_saved_folder_per_split(tmp_path):
    for split in ("train", "validation"):
        table(9).save_to_disk(str(tmp_path / "data" / split))
    assert len(opened(str(tmp_path / "data")).probe_images()) == 9


def test_folders_of_images_and_of_parquet_files(tmp_path):
    for split in ("train", "validation"):
        for name in NAMES:
            folder = tmp_path / "images" / split / name
            folder.mkdir(parents=True)
            for n in range(3):
                Image.new("RGB", (20, 20), (9 * n, 0, 0)).save(folder / f"{n}.png")
        (tmp_path / "parquet").mkdir(exist_ok=True)
        table(9).to_parquet(str(tmp_path / "parquet" / f"{split}-00000-of-00001.parquet"))
    for folder in ("images", "parquet"):
        data = opened(str(tmp_path / folder))
        assert data.probe_set.tasks["label"].classes == tuple(NAMES)
        assert len(data.train_images()) == 9
        with pytest.raises(ValueError, match=r"no split 'test'.*train.*Set data.train_split"):
            _ = opened(str(tmp_path / folder), probe_split="test").probe_set
    halves = opened(str(tmp_path / "images"), train_split="train[3:]", probe_split="train[:3]")
    with pytest.raises(ValueError, match="2 only in the training split"):
        halves.train_images()


def refused(name: str, match: str, **changed: object) -> None:
    for open_it in (lambda d: d.probe_set, lambda d: d.setup("fit")):
        with pytest.raises(ValueError, match=match):
            open_it(opened(name, **changed))


def test_unknown_splits_and_columns_are_refused(data_dir):
    refused(data_dir, r"no split 'val'.*train, validation.*data.probe_split", probe_split="val")
    columns = r"colour, image, label, level, weight"
    refused(data_dir, rf"no column 'img', only {columns}.*data.image_column", image_column="img")
    refused(data_dir, rf"no column 'fine', only {columns}.*label_columns", label_columns="fine")
    refused(data_dir, r"'label' must hold images, got ClassLabel.*cast", image_column="label")
    refused(data_dir, r"'weight' must hold one integer, string", label_columns=["weight"])
    refused(data_dir, r"'image' must hold one integer, string", label_columns="image")


def test_different_classes_are_refused(tmp_path):
    two = [n % 2 for n in range(9)]
    name = saved(tmp_path / "probe", table(12), table(9, label=two))
    refused(name, r"column 'label' with 1 only in the training split \(cat\)")
    name = saved(tmp_path / "train", table(9, label=two), table(12, colour=["red"] * 12))
    refused(name, r"column 'label' with 1 only in the probe split \(cat\)")
    refused(name, r"'colour' with 1 only in the training split \(blue\)", label_columns="colour")


def test_missing_labels_are_refused(tmp_path):
    some = [n % 3 for n in range(9)]
    name = saved(tmp_path / "none", table(9), table(9, label=[None, *some[1:]]))
    refused(name, r"got 1 of 9 without one in column 'label' of the probe split")
    name = saved(tmp_path / "minus", table(9, label=[-1, -1, *some[2:]]), table(9))
    refused(name, r"got 2 of 9 without one in column 'label' of the training split")


def test_a_single_dataset_has_no_splits(tmp_path):
    table(9).save_to_disk(str(tmp_path / "one"))
    refused(str(tmp_path / "one"), "a single dataset without splits. Save a DatasetDict")


@pytest.mark.parametrize(
    "error",
    [
        datasets.exceptions.DatasetNotFoundError("it doesn't exist"),
        ConnectionError("it doesn't exist"),
    ],
)
def test_what_cannot_be_reached_is_named_with_the_ways_to_get_it(monkeypatch, error):
    def fails(*_args, **_kwargs):
        raise error

    monkeypatch.setattr(datasets, "load_dataset", fails)
    refused("no/such", r"'no/such' could.*doesn't exist.*hf download.*HF_HUB_OFFLINE=1.*folder")


def test_other_complaints_name_the_subset(monkeypatch):
    def fails(*_args, **_kwargs):
        raise ValueError("Config name is missing.")

    monkeypatch.setattr(datasets, "load_dataset", fails)
    refused("some/name", "subset None: Config name is missing. Set data.name and data.subset")


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ValueError, match=r"not installed.*dnc_lightning\[recipes\]"):
        files.open_split("any", None, "train")
