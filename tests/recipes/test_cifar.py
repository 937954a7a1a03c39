"""CIFAR: the reader on small files, and the way to them."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from recipes.data import CIFAR10, CIFAR100


def python_file(path: Path, **content: object) -> None:
    """As python 2 and its numpy wrote them: in protocol 2, with flags of the dtype as integers."""
    packed = pickle.dumps(content, protocol=2)
    flags = b"\x89\x88\x87"  # False, True, end of a tuple of three
    assert packed.count(flags) == ("data" in content)
    path.write_bytes(packed.replace(flags, b"K\x00K\x01\x87"))


def pixels(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 3072), dtype=np.uint8)


@pytest.fixture
def ten(tmp_path: Path) -> Path:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for seed, name in enumerate([f"data_batch_{n}" for n in range(1, 6)] + ["test_batch"]):
        labels = [(seed + n) % 10 for n in range(20)]
        python_file(folder / name, data=pixels(20, seed), labels=labels)
    python_file(folder / "batches.meta", label_names=[f"ten{n}" for n in range(10)])
    return tmp_path


@pytest.fixture
def hundred(tmp_path: Path) -> Path:
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    for seed, name in enumerate(["train", "test"]):
        fine = [(7 * n + seed) % 100 for n in range(200)]
        coarse = [label // 5 for label in fine]
        python_file(folder / name, data=pixels(200, seed), fine_labels=fine, coarse_labels=coarse)
    names = {task: [f"{task}{n}" for n in range(c)] for task, c in (("fine", 100), ("coarse", 20))}
    python_file(folder / "meta", **{f"{task}_label_names": n for task, n in names.items()})
    return tmp_path


def test_ten_classes(ten):
    data = CIFAR10(str(ten), batch_size=8, probe_per_class=2)
    data.prepare_data()
    data.setup("fit")
    assert data.train_set_.images.shape == (100, 3, 32, 32)
    # row by row, one colour after the other; image 23 is the fourth of the second file
    assert data.train_set_.images[23, 1, 2, 3] == pixels(20, 1)[3, 1024 + 2 * 32 + 3]
    assert data.train_set_[23][1] == 4
    images, labels = next(iter(data.train_dataloader()))
    assert (images.shape, images.dtype) == ((8, 3, 32, 32), torch.uint8)
    assert (labels.shape, labels.dtype) == ((8,), torch.int64)


def test_the_probe_is_of_the_test_images(ten):
    probe = CIFAR10(str(ten), probe_per_class=2).probe_set
    assert len(probe.dataset) == len(probe) == 20
    assert probe.dataset[1][1] == 6
    assert probe.tasks["label"].classes[3] == "ten3"
    assert probe.image(0).shape == (3, 32, 32)


def test_a_hundred_classes_are_two_tasks(hundred):
    data = CIFAR100(str(hundred), batch_size=50, probe_per_class=2)
    tasks = data.probe_set.tasks
    assert tasks["fine"].classes[42] == "fine42"
    assert tasks["coarse"].classes == tuple(f"coarse{n}" for n in range(20))
    assert torch.equal(tasks["fine"].labels // 5, tasks["coarse"].labels)
    data.setup("fit")
    _, labels = next(iter(data.train_dataloader()))
    assert {task: y.shape for task, y in labels.items()} == {"fine": (50,), "coarse": (50,)}


def test_the_files_may_lie_in_the_data_folder_itself(ten):
    inside = ten / "cifar-10-batches-py"
    assert CIFAR10(str(inside)).find_files() == inside


def test_the_download_is_the_last_resort(ten, monkeypatch):
    calls = []

    def download(root, download):
        calls.append((root, download))
        shutil.copytree(ten / CIFAR10.folder, Path(root) / CIFAR10.folder)

    monkeypatch.setattr(CIFAR10, "source", staticmethod(download))
    CIFAR10(str(ten)).prepare_data()
    assert calls == []
    empty = str(ten / "data")
    CIFAR10(empty).prepare_data()
    CIFAR10(empty).prepare_data()
    assert calls == [(empty, True)]


@pytest.mark.parametrize("remedy", [r"\(1\).*unpack cifar-10.*data_dir", r"\(2\).*no net.*again"])
def test_without_files_the_error_names_each_way(tmp_path, monkeypatch, remedy):
    def fails(*_args, **_kwargs):
        raise RuntimeError("no net")

    fails.filename, fails.url = CIFAR10.source.filename, CIFAR10.source.url
    monkeypatch.setattr(CIFAR10, "source", staticmethod(fails))
    with pytest.raises(ValueError, match=remedy):
        _ = CIFAR10(str(tmp_path)).probe_set


@pytest.mark.parametrize("content", [b"", b"<html>", pickle.dumps({"x": 1}), pickle.dumps(3)])
def test_a_broken_file_is_named(ten, content):
    (ten / "cifar-10-batches-py" / "data_batch_2").write_bytes(content)
    with pytest.raises(ValueError, match=r"data_batch_2 must be a CIFAR.*could not read.*again"):
        CIFAR10(str(ten)).setup("fit")
