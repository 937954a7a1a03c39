"""Folders of images: sizes, labels, and what is refused before training."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from recipes.data import DecodedImages, ImageFolder
from recipes.data.decoded import shorter_side
from recipes.data.loading import Draw


def picture(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """Red grows from left to right, green from top to bottom."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = np.linspace(0, 255, width)[None]
    pixels[..., 1] = np.linspace(0, 255, height)[:, None]
    return Image.fromarray(pixels).convert(mode)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes, four images each in train/ and three in val/, of all shapes and modes."""
    for split, count in (("train", 4), ("val", 3)):
        for name in ("cat", "dog"):
            (tmp_path / split / name).mkdir(parents=True)
            for n in range(count):
                mode = ["RGB", "L", "RGBA", "P"][n]
                picture(40 + 20 * n, 50, mode).save(tmp_path / split / name / f"{n}.png")
    return tmp_path


def opened(folder: Path, **changed: object) -> ImageFolder:
    return ImageFolder(
        str(folder), **({"image_size": 28, "batch_size": 4, "num_workers": 0} | changed)
    )


def test_training_images_keep_a_margin_and_probe_images_do_not(folder):
    data = opened(folder, probe_per_class=3)
    data.setup("fit")
    images, labels = next(iter(data.train_dataloader()))
    assert (images.shape, images.dtype) == ((4, 3, 32, 32), torch.uint8)
    assert labels.dtype == torch.int64
    probe = data.probe_set
    assert [probe.image(n).shape for n in range(len(probe))] == [(3, 28, 28)] * 6
    assert probe.tasks["label"].classes == ("cat", "dog")


@pytest.mark.parametrize(("size", "shorter"), [(224, 256), (32, 37), (96, 110), (1, 1)])
def test_the_shorter_side_is_as_256_for_224(size, shorter):
    assert shorter_side(size) == shorter


@pytest.mark.parametrize(("width", "height"), [(160, 80), (50, 100), (40, 40)])
def test_the_crop_is_central_and_keeps_the_shape(width, height):
    images = DecodedImages(lambda _: picture(width, height), torch.zeros(1), ["a"], 40, 20)
    red, green, blue = images.image(0).float()
    from_centre = (torch.arange(20) - 9.5) * min(width, height) / 40  # pixels of the picture
    for ramp, extent in ((red.mean(0), width), (green.mean(1), height)):
        expected = 127.5 + 255 * from_centre / extent
        torch.testing.assert_close(ramp, expected, atol=4.0, rtol=0)
    assert blue.max() == 0


def test_the_loader_reaches_workers_that_share_no_memory(folder):
    """As where workers are started anew and not forked."""
    data = opened(folder)
    data.setup("fit")
    copy = pickle.loads(pickle.dumps(data.train_dataloader().dataset))
    draws = [Draw(n, 0) for n in (1, 5)]
    assert torch.equal(copy.__getitems__(draws)[0], data.train_set_.take([1, 5])[0])


def test_workers_see_the_whole_picture(folder):
    sizes = []

    def views(image: Image.Image) -> list[torch.Tensor]:
        sizes.append((*image.size, image.mode))
        return [torch.rand(3, 8, 8), torch.rand(3, 4, 4)]

    data = opened(folder)
    data.setup("fit")
    data.trainer = type("Fake", (), {})()
    data.trainer.lightning_module = type("Model", (), {"worker_views": staticmethod(views)})()
    data.trainer.strategy = type("CPU", (), {"root_device": torch.device("cpu")})()
    batches = list(data.train_dataloader())
    assert sorted(sizes) == sorted([(40 + 20 * n, 50, "RGB") for n in range(4)] * 2)
    assert [view.shape for view in batches[0][0]] == [(4, 3, 8, 8), (4, 3, 4, 4)]


def test_opening_reads_no_image(folder, monkeypatch):
    monkeypatch.setattr(DecodedImages, "image", lambda *_: pytest.fail("read"))
    data = opened(folder, probe_per_class=2)
    data.setup("fit")
    probe = data.probe_set
    monkeypatch.undo()
    assert probe.tasks["label"].labels.sort().values.tolist() == [0, 0, 1, 1]


def test_folders_may_have_other_names(folder):
    (folder / "val").rename(folder / "held out")
    assert len(opened(folder, probe_dir="held out").probe_images()) == 6


@pytest.mark.parametrize("open_it", [lambda d: d.probe_set, lambda d: d.setup("fit")])
def test_bad_folders_are_named_with_the_remedy(folder, open_it):
    with pytest.raises(ValueError, match=r"nowhere.*not there.*Set data.data_dir"):
        open_it(opened(folder / "nowhere"))
    with pytest.raises(ValueError, match=r"hold a folder 'test', got train, val.*data.probe_dir"):
        open_it(opened(folder, probe_dir="test"))
    with pytest.raises(ValueError, match="image_size must be at least 1 pixel, got 0"):
        open_it(opened(folder, image_size=0))
    (folder / "train" / "cow").mkdir()
    with pytest.raises(ValueError, match=r"1 only in the training split \(cow\).*missing"):
        open_it(opened(folder))
    shutil.rmtree(folder / "val" / "dog")
    (folder / "val" / "emu").mkdir()
    with pytest.raises(ValueError, match=r"2 only in.*\(cow, dog\) and 1 only in.*\(emu\)"):
        open_it(opened(folder))


def test_a_class_without_images_is_named(folder):
    for split in ("train", "val"):
        (folder / split / "cow").mkdir()
    with pytest.raises(ValueError, match=r"train must hold.*cow.*Put the images there"):
        opened(folder).setup("fit")
    with pytest.raises(ValueError, match=r"val must hold.*cow.*Put the images there"):
        _ = opened(folder).probe_set


def test_folders_without_classes_are_refused(tmp_path):
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
    with pytest.raises(ValueError, match="one folder of images per class"):
        opened(tmp_path).setup("fit")
