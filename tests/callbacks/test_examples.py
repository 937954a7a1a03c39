"""Thumbnails of the probe beside its records."""

from __future__ import annotations

import io
import sys
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from dnc_lightning import ProbeCallback, ProbeSet
from dnc_lightning.callbacks import examples
from dnc_lightning.callbacks.examples import EXAMPLES, as_bytes, encode_strip, write_examples
from dnc_lightning.probe.bank import ImageBank
from dnc_lightning.probe.labels import Task
from dnc_lightning.records.store import EXAMPLES_FILE
from dnc_lightning.reporting.read.examples import member
from tests.callbacks.modules import BackboneModule, Clean, loader

SIDE = 12  # of the images of Clean


def smooth(height: int, width: int, channels: int = 3, shift: float = 0.0) -> Tensor:
    """Floats [C, H, W] in [0, 1] that survive a JPEG."""
    y, x = torch.linspace(0, 3, height)[:, None], torch.linspace(0, 3, width)
    waves = [torch.sin(x + shift + c) * torch.cos(y - c) for c in range(channels)]
    return torch.stack(waves) / 2 + 0.5


def decoded(strip: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(strip)))


def bank_of(images: Sequence[Tensor], positions: Sequence[int] | None = None) -> ImageBank:
    kept = range(len(images)) if positions is None else positions
    return ImageBank.build(images.__getitem__, kept, torch.device("cpu"), progress=False)


def fit(path: Path, callback: ProbeCallback, ckpt: Path | None = None, **kwargs: Any) -> pl.Trainer:
    pl.seed_everything(1, verbose=False)
    trainer = pl.Trainer(
        **{
            "max_steps": 4,
            "accelerator": "cpu",
            "default_root_dir": path,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "callbacks": [callback],
        }
        | kwargs
    )
    again = {} if ckpt is None else {"ckpt_path": ckpt, "weights_only": False}
    trainer.fit(BackboneModule(), loader(), **again)
    return trainer


@pytest.mark.parametrize(("height", "width", "side"), [(28, 28, 28), (96, 96, 48), (64, 200, 48)])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["uint8", "unit", "standardised"])
def test_a_strip_shows_the_middle_of_each_image(
    kind: str, channels: int, height: int, width: int, side: int
) -> None:
    images = [smooth(height, width, channels, shift) for shift in (0.0, 1.5, 3.0)]
    images[0][..., : (width - min(height, width)) // 2] = 1  # cut off
    given = {
        "uint8": [as_bytes(image) for image in images],
        "unit": images,
        "standardised": [6 * image - 3 for image in images],
    }[kind]
    strip = decoded(encode_strip(given))
    assert strip.shape == ((side, 3 * side) if channels == 1 else (side, 3 * side, 3))
    short, left = min(height, width), (width - min(height, width)) // 2
    for place, image in enumerate(images):
        square = image[None, :, :short, left : left + short]
        expected = torch.nn.functional.interpolate(square, (side, side), mode="area")[0]
        if kind == "standardised":
            expected = (expected - image.min()) / (image.max() - image.min())
        expected = expected.permute(1, 2, 0).squeeze(-1).numpy() * 255
        shown = strip[:, place * side : (place + 1) * side].astype(float)
        assert np.abs(shown - expected).mean() < 3


def test_images_that_are_not_pictures_become_some() -> None:
    assert as_bytes(torch.full((3, 4, 4), 7.0)).unique().tolist() == [0]
    odd = torch.tensor([[[float("nan"), float("inf")], [-1.0, 3.0]]])
    assert as_bytes(odd).tolist() == [[[64, 64], [0, 255]]]


def test_members_hold_the_images_of_their_class(tmp_path: Path) -> None:
    """Images of one colour each, that tells their position."""
    images = [torch.full((3, 16, 16), 20 * p, dtype=torch.uint8) for p in range(12)]
    tasks = {
        "a/b ..%": Task(torch.tensor([0, 1] * 6), ("even", "odd")),
        "../\u00e9": Task(torch.tensor([2] * 10 + [0] * 2), ("few", "none", "many")),
    }
    assert write_examples(tmp_path, tasks, bank_of(images)) == []
    with zipfile.ZipFile(tmp_path / EXAMPLES_FILE) as archive:
        assert archive.testzip() is None
        shown = {
            name: (decoded(archive.read(name))[8, 8::16, 0] / 20).round().astype(int).tolist()
            for name in archive.namelist()
        }
    assert shown == {
        member("a/b ..%", 0): [0, 2, 4, 6],
        member("a/b ..%", 1): [1, 3, 5, 7],
        member("../\u00e9", 0): [10, 11],
        member("../\u00e9", 2): [0, 1, 2, 3],
    }
    assert all(name.count("/") == 1 for name in shown)
    assert [path.name for path in tmp_path.iterdir()] == [EXAMPLES_FILE]


def test_images_of_this_process_are_not_decoded_again(tmp_path: Path) -> None:
    images = [torch.full((1, 8, 8), p, dtype=torch.uint8) for p in range(20)]
    read: list[int] = []

    def again(position: int) -> Tensor:
        read.append(position)
        return images[position]

    held = bank_of(images, range(0, 20, 2))
    bank = ImageBank(again, held.positions, held.storage, held.images)
    labels = torch.tensor([0] * 17 + [1] * 3)
    assert write_examples(tmp_path, {"t": Task(labels, ("many", "few"))}, bank) == []
    assert read == [17, 19]  # the second class lies on the other process but for one image
    streamed = ImageBank(again, range(20), "stream", None)
    assert torch.equal(streamed.image(5), images[5])


def test_a_probe_of_many_classes_is_cut_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examples, "MOST_CLASSES", 5)
    images = [torch.zeros(3, 8, 8, dtype=torch.uint8)] * 10
    names = tuple(map(str, range(10)))
    tasks = {"fine": Task(torch.arange(10), names), "coarse": Task(torch.arange(10) % 2, names[:2])}
    write_examples(tmp_path, tasks, bank_of(images))
    with zipfile.ZipFile(tmp_path / EXAMPLES_FILE) as archive:
        expected = [member("coarse", c) for c in range(2)] + [member("fine", c) for c in range(3)]
        assert archive.namelist() == expected


@pytest.mark.parametrize("channels", [2, 4])
def test_other_channels_and_no_pillow_leave_no_file(
    channels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = {"t": Task(torch.tensor([0, 1]), ("a", "b"))}
    assert write_examples(tmp_path, task, bank_of([torch.zeros(channels, 8, 8)] * 2)) == []
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert write_examples(tmp_path, task, bank_of([torch.zeros(3, 8, 8)] * 2)) == []
    assert list(tmp_path.iterdir()) == []


def test_a_run_keeps_examples_of_its_probe(tmp_path: Path) -> None:
    callback = ProbeCallback(ProbeSet(Clean(), per_class=15))
    fit(tmp_path, callback)
    assert callback.run_dir_ is not None
    probe = callback.probe
    labels = probe.tasks["label"].labels
    with zipfile.ZipFile(callback.run_dir_ / EXAMPLES_FILE) as archive:
        assert len(archive.namelist()) == 3
        for index in range(3):
            strip = decoded(archive.read(member("label", index)))
            assert strip.shape == (SIDE, SIDE * EXAMPLES, 3)
            first = probe.image(int((labels == index).nonzero()[0]))
            expected = first.permute(1, 2, 0).numpy().astype(float)
            assert np.abs(strip[:, :SIDE] - expected).mean() < 9  # noise of 120 levels
    assert callback.probe_seconds_ > 0


def test_a_resumed_run_keeps_the_file_and_copies_it_to_another_folder(tmp_path: Path) -> None:
    first = ProbeCallback(ProbeSet(Clean(), per_class=15))
    trainer = fit(tmp_path, first)
    trainer.save_checkpoint(tmp_path / "kept.ckpt")
    assert first.run_dir_ is not None
    mark = first.run_dir_ / EXAMPLES_FILE
    mark.write_bytes(b"as it was")
    for place in (tmp_path, tmp_path / "elsewhere"):
        callback = ProbeCallback(ProbeSet(Clean(), per_class=15), dirpath=place / "dnc" / "probe")
        fit(place, callback, tmp_path / "kept.ckpt", max_steps=8)
        assert callback.run_dir_ is not None
        assert (callback.run_dir_ / EXAMPLES_FILE).read_bytes() == b"as it was"


def test_none_are_written_if_not_wanted_or_on_trial(tmp_path: Path) -> None:
    fit(tmp_path / "off", ProbeCallback(ProbeSet(Clean(), per_class=15), examples=False))
    fit(tmp_path / "trial", ProbeCallback(ProbeSet(Clean(), per_class=15)), fast_dev_run=True)
    assert not list(tmp_path.rglob(EXAMPLES_FILE))


def test_what_goes_wrong_is_told_once_and_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(examples, "write_atomically", full)
    callback = ProbeCallback(ProbeSet(Clean(), per_class=15))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer = fit(tmp_path, callback)
    told = [str(w.message) for w in caught if "example images" in str(w.message)]
    assert len(told) == 1
    assert "No space left" in told[0]
    assert trainer.global_step == 4
    assert callback.records_written_ == 5
