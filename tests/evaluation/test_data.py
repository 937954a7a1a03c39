"""Labelled images by a word, and the commands that take it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from dnc_lightning import LogSpacedCheckpoint, ProbeCallback, ProbeSet
from dnc_lightning.cli import main
from dnc_lightning.evaluation.data import load_probe
from dnc_lightning.reporting.compare_runs import find_runs
from tests.callbacks.fits import fit
from tests.callbacks.modules import Clean

HERE = "tests.evaluation.test_data"
CLEAN = Clean()
FLAT = nn.Flatten()


def mean(images: Tensor) -> Tensor:
    return images.mean((2, 3))


def made() -> ProbeSet:
    return ProbeSet(Clean(), per_class=6, seed=2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for k, name in enumerate(("cat", "dog")):
        (tmp_path / "images" / name).mkdir(parents=True)
        for n in range(5):
            pixels = np.full((8, 8, 3), 40 * n + k, dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{n}.png")
    return tmp_path / "images"


def test_a_folder_an_object_and_a_hugging_face_data_set(folder: Path, tmp_path: Path) -> None:
    probe = load_probe(str(folder), per_class=3)
    assert (len(probe), probe.tasks["label"].classes) == (6, ("cat", "dog"))
    assert len(load_probe(f"{HERE}:CLEAN", per_class=4)) == 12
    assert len(load_probe(f"{HERE}:Clean", per_class=4)) == 12
    assert len(load_probe(f"{HERE}:made", per_class=5)) == 15

    import datasets

    rows = {
        "image": [np.zeros((4, 4, 3), np.uint8)] * 8,
        "kind": [0, 1] * 4,
        "size": [0, 0, 1, 1] * 2,
    }
    data = datasets.Dataset.from_dict(rows)
    data.save_to_disk(tmp_path / "alone")
    datasets.DatasetDict({"test": data}).save_to_disk(tmp_path / "parts")
    for spec in (f"hf:{tmp_path / 'alone'}:test", f"hf:{tmp_path / 'parts'}:test"):
        probe = load_probe(spec, per_class=2, labels=["kind", "size"])
        assert list(probe.tasks) == ["kind", "size"]


@pytest.mark.parametrize(
    ("spec", "match"),
    [
        ("nothing", "data is a folder .*; got 'nothing'"),
        ("hf:name", "name the split too"),
        (f"{HERE}:nothing", "can be imported"),
        ("torch.nn:Linear", "cannot be made without arguments"),
    ],
)
def test_bad_specs(spec: str, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        load_probe(spec)


def test_a_folder_without_classes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not a folder of classes"):
        load_probe(str(tmp_path))


COMMON = ["--data", f"{HERE}:Clean", "--per-class", "6", "--metrics", "collapse"]


def test_the_command_measures_and_shows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    encoders = [f"{HERE}:FLAT", f"{HERE}:mean"]
    out = ["--out", str(tmp_path), "--accelerator", "cpu"]
    assert main(["evaluate", *encoders, "timm:nothing", *COMMON, *out]) == 2
    printed = capsys.readouterr()
    assert "dir. CDNV" in printed.out
    assert str(tmp_path / "comparison.html") in printed.out
    assert "dnc: timm" in printed.err
    assert "has no model 'nothing'" in printed.err
    assert len(find_runs([tmp_path]).runs) == 2
    assert main(["evaluate", "timm:nothing", *COMMON, *out]) == 2


def test_the_command_replays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    live = ProbeCallback(ProbeSet(Clean(), per_class=6), examples=False, metrics=["collapse"])
    fit(tmp_path, live, LogSpacedCheckpoint(tmp_path / "checkpoints"), max_steps=3)
    words = ["replay", str(tmp_path / "checkpoints"), *COMMON, "--out", str(tmp_path / "again")]
    assert main(words) == 2
    assert "--model path.to:object" in capsys.readouterr().err
    model = ["--model", "tests.callbacks.modules:BackboneModule", "--accelerator", "cpu"]
    assert main([*words, *model, "--layers", "backbone", "backbone:2"]) == 0
    (named,) = find_runs([tmp_path / "again"]).runs
    assert named.run.header["encoders"] == ["backbone", "backbone:2"]
    assert [r.step for r in named.run.records] == [0, 1, 2, 3]


def test_random_states_are_left_alone(tmp_path: Path) -> None:
    from dnc_lightning import evaluate

    torch.manual_seed(5)
    before: Any = torch.random.get_rng_state()
    evaluate(lambda x: x.flatten(1), made(), out=tmp_path, metrics=["collapse"], accelerator="cpu")
    assert torch.equal(torch.random.get_rng_state(), before)
