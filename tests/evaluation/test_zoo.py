"""A zoo: a file of encoders and data sets, to records, pages, figures and a study."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from dnc_lightning.cli import main
from dnc_lightning.evaluation.zoo import EXAMPLE, read_zoo, run_zoo
from tests.callbacks.modules import Clean

HERE = "tests.evaluation.test_zoo"
CLEAN = Clean()


def net(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(432, 6)).eval()


ONE, TWO, THREE = (net(seed) for seed in range(3))


def mean(images: Tensor) -> Tensor:
    return images.mean((2, 3)) + 1e-3 * images.flatten(1)[:, :3]


def fails(images: Tensor) -> Tensor:
    raise RuntimeError("no such layer")


ZOO = f"""
encoders:
  one: {HERE}:ONE
  two: {HERE}:TWO
  three: {{spec: "{HERE}:THREE"}}
  mean: {HERE}:mean
  fails: {HERE}:fails
  gone: {{spec: weights/nowhere.pt, model: "torchvision.models:resnet18"}}
data:
  clean: {{spec: "{HERE}:CLEAN", per_class: 16}}
ways: [all, 2]
shots: [1, 2, 5]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "zoo.yaml").write_text(ZOO)
    return tmp_path / "zoo.yaml"


def test_a_zoo_becomes_records_pages_figures_and_a_study(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    # What cannot be had is named, and the others go on.
    assert main(["zoo", str(file), "--out", str(out), "--accelerator", "cpu"]) == 2
    told = capsys.readouterr()
    assert "gone is left out" in told.err
    assert "nowhere.pt" in told.err
    assert "fails is left out" in told.err
    assert "no such layer" in told.err
    for encoder in ("one", "two", "three", "mean"):
        for probe in ("train", "test", "train-2-ways", "test-2-ways"):
            assert (out / "clean" / encoder / "dnc" / probe / "records.jsonl").exists()
        assert encoder in told.out
    for made in (
        "clean/comparison.html",
        "clean/comparison-2-ways.html",
        "clean/figures/few_shot.pdf",
        "clean/figures-2-ways/few_shot.pdf",
        "study.csv",
    ):
        assert (out / made).stat().st_size > 0
        assert str(out / made) in told.out
    assert "Predicts error with 5 labels" in told.out
    before = (out / "clean/one/dnc/train/records.jsonl").stat().st_mtime_ns
    again = run_zoo(read_zoo(file), out, accelerator="cpu")
    assert (out / "clean/one/dnc/train/records.jsonl").stat().st_mtime_ns == before
    assert list(again.runs["clean"]) == ["one", "two", "three", "mean"]
    assert list(again.missing) == ["gone", "fails"]
    assert again.study is not None
    assert again.study.encoders == ("mean", "one", "three", "two")


def test_the_shipped_example_is_read_and_names_the_seven_families() -> None:
    zoo = read_zoo(EXAMPLE)
    assert set(zoo.encoders) == {"MAE", "CLIP", "I-JEPA", "SigLIP", "VICReg", "DINOv2", "SimCLR"}
    assert zoo.ways == (None, 2)
    assert zoo.data["mini-imagenet"]["spec"].startswith("hf:")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("encoders: {a: b:c}", "must name encoders and data"),
        ("encoders: {a: b:c}\ndata: {}", "data must map names to words"),
        ("encoders: {a: {model: x}}\ndata: {d: e}", "encoders, a: a word or arguments with spec"),
        (
            "encoders: {a: b}\ndata: {d: e}\nwyas: [2]",
            "unknown wyas; a zoo has encoders, data, ways",
        ),
        ("encoders: [", "is no YAML"),
    ],
)
def test_a_file_that_is_no_zoo_is_refused(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(ValueError, match=words):
        read_zoo(tmp_path / "x.yaml")


def test_a_zoo_of_which_nothing_can_be_had_says_so(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(f"encoders: {{a: nowhere.pt}}\ndata: {{d: '{HERE}:CLEAN'}}")
    with pytest.raises(ValueError, match="no encoder of the zoo can be had"):
        run_zoo(read_zoo(tmp_path / "x.yaml"), tmp_path / "out")
