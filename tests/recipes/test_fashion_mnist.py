"""Fashion-MNIST: the reader on small files, and the way to them."""

from __future__ import annotations

import gzip
import shutil

import pytest
import torch
from torchvision import datasets

from recipes.data import FashionMNIST
from recipes.data.fashion_mnist import find_files, read_split


def no_download(*_args, **_kwargs):
    raise RuntimeError("no network in this test")


def test_images_are_padded_and_repeated(fashion_folder):
    split = read_split(fashion_folder, "train")
    assert split.images.shape == (60, 3, 32, 32)
    assert split.images.dtype == torch.uint8
    assert torch.equal(split.images[:, 0], split.images[:, 2])
    assert split.images[:, :, :2].sum() == 0
    packed = (fashion_folder / "train-images-idx3-ubyte.gz").read_bytes()
    first_row = list(gzip.decompress(packed)[16 : 16 + 28])
    assert split.images[0, 0, 2, 2:30].tolist() == first_row


def test_labels_and_classes(fashion_folder):
    split = read_split(fashion_folder, "t10k")
    assert split.targets.tolist() == [i % 10 for i in range(40)]
    assert split[3][1] == 3
    assert split.classes[9] == "Ankle boot"


def test_plain_files_are_read_as_well(fashion_folder):
    packed = fashion_folder / "train-images-idx3-ubyte.gz"
    expected = read_split(fashion_folder, "train").images
    with gzip.open(packed) as source, packed.with_suffix("").open("wb") as target:
        shutil.copyfileobj(source, target)
    packed.unlink()
    assert torch.equal(read_split(fashion_folder, "train").images, expected)


def test_the_data_folder_comes_before_the_system_package(fashion_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "FashionMNIST", no_download)
    assert find_files(fashion_folder, debian_folder=tmp_path) == fashion_folder
    assert find_files(tmp_path / "empty", debian_folder=fashion_folder) == fashion_folder


def test_the_download_is_the_last_resort(fashion_folder, tmp_path, monkeypatch):
    raw = tmp_path / "data" / "FashionMNIST" / "raw"

    def download(root, download):
        assert (root, download) == (str(tmp_path / "data"), True)
        shutil.copytree(fashion_folder, raw)

    monkeypatch.setattr(datasets, "FashionMNIST", download)
    assert find_files(tmp_path / "data", debian_folder=tmp_path / "none") == raw
    monkeypatch.setattr(datasets, "FashionMNIST", no_download)
    assert find_files(tmp_path / "data", debian_folder=tmp_path / "none") == raw


def test_an_incomplete_folder_does_not_count(fashion_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "FashionMNIST", no_download)
    (fashion_folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(ValueError, match="needs its four idx files"):
        find_files(fashion_folder, debian_folder=tmp_path)


@pytest.mark.parametrize(
    "remedy",
    [
        r"\(1\).*copy them there or set data.data_dir",
        r"\(2\).*apt-get install dataset-fashion-mnist",
        r"\(3\).*no network in this test.*connect to the network",
    ],
)
def test_without_files_the_error_names_each_way(tmp_path, monkeypatch, remedy):
    monkeypatch.setattr(datasets, "FashionMNIST", no_download)
    with pytest.raises(ValueError, match=remedy):
        find_files(tmp_path, debian_folder=tmp_path / "none")


def test_the_data_module_limits_the_training_images(fashion_folder):
    module = FashionMNIST(str(fashion_folder), batch_size=8, num_images=20)
    module.prepare_data()
    module.setup("fit")
    assert len(module.train_set_) == 20
    assert len(list(module.train_dataloader())) == 2
    assert len(module.probe_set.dataset) == 40


def test_more_images_than_there_are_is_an_error(fashion_folder):
    module = FashionMNIST(str(fashion_folder), num_images=61)
    with pytest.raises(ValueError, match=r"between 1 and 60.*got 61"):
        module.setup("fit")
