"""Frozen encoders: numbers of a Trainer's probe, records like a run's, nothing measured twice."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dnc_lightning import ProbeCallback, ProbeSet, evaluate
from dnc_lightning.evaluation import LoadedEncoder
from dnc_lightning.reporting.compare_runs import find_runs
from tests.callbacks.fits import fit, records
from tests.callbacks.modules import BackboneModule, Clean, backbone

MEASURED = {"metrics": ["collapse", "few_shot", "health"], "shots": (1, 3)}


def probe(**options: Any) -> ProbeSet:
    return ProbeSet(Clean(), per_class=8, **options)


def settled() -> BackboneModule:
    torch.manual_seed(0)
    module = BackboneModule()
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.num_batches_tracked += 100
    return module


def test_its_numbers_are_those_of_a_trainers_probe(tmp_path: Path) -> None:
    live = ProbeCallback(probe(), examples=False, **MEASURED)
    module = settled()
    fit(tmp_path, live, module=module, max_steps=3)
    last = records(live)[-1].scalars
    modes = [m.training for m in module.modules()]
    found = evaluate(module, probe(), out=tmp_path / "out", accelerator="cpu", **MEASURED)
    keys = last.keys() - {"probe/seconds", "probe/overhead"}
    scalars = found.scalars()
    assert scalars.keys() - {"probe/seconds"} == keys
    assert {k: scalars[k] for k in keys} == pytest.approx({k: last[k] for k in keys}, nan_ok=True)
    assert [m.training for m in module.modules()] == modes
    assert (found.page, found.problems) == (found.runs["BackboneModule"].folder / "report.html", ())
    assert (found.runs["BackboneModule"].folder / "examples.zip").exists()


def grey(images: Tensor) -> Tensor:
    return images.mean(1).flatten(1)


def test_several_lie_side_by_side_and_are_not_measured_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    net = backbone()
    encoders = {"net": net, "grey": grey, "broken": lambda images: images.sum()}
    found = evaluate(encoders, probe(), out=tmp_path, metrics=["collapse"], accelerator="cpu")
    assert list(found.runs) == ["net", "grey"]
    assert found.problems[0].startswith("broken: ")
    assert found.page == tmp_path / "comparison.html"
    assert len(find_runs([tmp_path]).runs) == 2
    found.show()
    assert "dir. CDNV" in capsys.readouterr().out
    with pytest.raises(ValueError, match="name one of the encoders net, grey"):
        found.scalars()

    started = {name: run.header["started"] for name, run in found.runs.items()}
    folders = {name: run.folder for name, run in found.runs.items()}
    again = evaluate(encoders, probe(), out=tmp_path, metrics=["collapse"], accelerator="cpu")
    assert {n: r.folder for n, r in again.runs.items()} == folders
    assert {n: r.header["started"] for n, r in again.runs.items()} == started

    with torch.no_grad():
        net[0].weight += 0.1
    other = evaluate(encoders, probe(), out=tmp_path, metrics=["collapse"], accelerator="cpu")
    assert other.runs["net"].folder != folders["net"]
    assert other.runs["grey"].folder == folders["grey"]
    one = evaluate(grey, probe(seed=1), out=tmp_path, metrics=["collapse"], accelerator="cpu")
    assert one.runs["grey"].folder != folders["grey"]


def doubled(image: Tensor) -> Tensor:
    return image.float() / 255 * 2


def test_an_encoder_brings_its_preprocessing_layer_and_pooling(tmp_path: Path) -> None:
    class Maps(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images

    loaded = LoadedEncoder("maps", Maps(), doubled, {"encoder": ""}, "mean", "pixels, doubled")
    found = evaluate(loaded, probe(), out=tmp_path, accelerator="cpu", **MEASURED)
    plain = evaluate(
        lambda x: 2 * x.mean((2, 3)), probe(), out=tmp_path, accelerator="cpu", **MEASURED
    )
    assert found.scalars()["probe/features/norm"] == pytest.approx(
        plain.scalars()["probe/features/norm"]
    )
    assert "pixels, doubled" in found.runs["maps"].records[0].notes
    own = evaluate(
        loaded, probe(transform=doubled), out=tmp_path / "own", accelerator="cpu", **MEASURED
    )
    assert any(
        "own transform makes the images" in note for note in own.runs["maps"].records[0].notes
    )


def test_half_precision_and_layers(tmp_path: Path) -> None:
    found = evaluate(
        settled(),
        probe(),
        out=tmp_path,
        layer={"early": "backbone:2", "late": "backbone"},
        precision="bf16-mixed",
        accelerator="cpu",
        metrics=["collapse"],
    )
    run = found.runs["BackboneModule"]
    assert run.header["precision"] == "bf16-mixed"
    assert run.header["encoders"] == ["early", "late"]


@pytest.mark.parametrize(
    ("encoder", "match"),
    [
        ({}, "needs an encoder"),
        (3, "must be a module, a callable"),
        (nn.Linear, "must be a module, a callable"),
        (nn.Linear(5, 2), "failed on float probe images"),
        ({"a": nn.Linear(5, 2)}, "no encoder could be measured. a: "),
    ],
)
def test_bad_input(encoder: Any, match: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=match):
        evaluate(encoder, probe(), out=tmp_path, accelerator="cpu")


SCRIPT = """
import sys
import torch
from dnc_lightning import ProbeSet, evaluate
from tests.callbacks.modules import Clean, backbone
torch.set_num_threads(1)
torch.manual_seed(0)
probe = ProbeSet(Clean(), per_class=7)
evaluate(backbone(), probe, out=sys.argv[1], accelerator="cpu", shots=(1, 3))
"""


def test_two_processes_have_the_numbers_of_one(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    root = Path(__file__).parents[2]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    for name, command in (("one", [sys.executable]), ("two", torchrun)):
        subprocess.run(
            [*command, str(script), str(tmp_path / name)],
            cwd=root, check=True, capture_output=True, timeout=300,
            env=os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
    one, two = (find_runs([tmp_path / name]).runs[0].run for name in ("one", "two"))
    assert two.header["world_size"] == 2
    ignored = {"probe/seconds"}
    mine = {k: v for k, v in one.records[0].scalars.items() if k not in ignored}
    assert {k: two.records[0].scalars[k] for k in mine} == pytest.approx(
        mine, rel=1e-5, abs=1e-6, nan_ok=True
    )
