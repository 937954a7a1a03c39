"""A replayed run has the numbers of the live one; what cannot be read is named."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from dnc_lightning import LogSpacedCheckpoint, ProbeCallback, ProbeSet, replay
from dnc_lightning.evaluation.checkpoints import find_checkpoints, load_state, read_checkpoint
from dnc_lightning.records.store import read_run
from tests.callbacks.fits import fit, records
from tests.callbacks.modules import BackboneModule, Clean

SAME = {"metrics": ["collapse", "few_shot", "health"], "shots": (1, 3)}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ProbeCallback]:
    folder = tmp_path_factory.mktemp("trained")
    probe = ProbeCallback(ProbeSet(Clean(), per_class=8), examples=False, **SAME)
    fit(folder, probe, LogSpacedCheckpoint(folder / "checkpoints"), max_steps=8)
    return folder / "checkpoints", probe


def probe() -> ProbeSet:
    return ProbeSet(Clean(), per_class=8)


def test_its_numbers_are_those_of_the_live_probe(
    trained: tuple[Path, ProbeCallback], tmp_path: Path
) -> None:
    folder, live = trained
    module = BackboneModule()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    found = replay(folder, module, probe(), out=tmp_path, accelerator="cpu", **SAME)
    (run,) = found.runs.values()
    assert found.problems == ()
    assert [r.step for r in run.records] == [r.step for r in records(live)]
    # The last one was made once more when training had ended.
    assert [r.epoch for r in run.records][:-1] == [r.epoch for r in records(live)][:-1]
    for mine, own in zip(run.records, records(live), strict=True):
        keys = own.scalars.keys() - {"probe/seconds", "probe/overhead"}
        assert mine.scalars.keys() == keys
        assert mine.scalars == pytest.approx(
            {key: own.scalars[key] for key in keys}, rel=1e-6, nan_ok=True
        )
        assert mine.uncalibrated.keys() == own.uncalibrated.keys()
    assert found.page == run.folder / "report.html"
    after = module.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)


def test_a_class_another_probe_other_metrics_and_layers(
    trained: tuple[Path, ProbeCallback], tmp_path: Path
) -> None:
    found = replay(
        trained[0],
        BackboneModule,
        ProbeSet(Clean(), per_class=5, seed=3),
        out=tmp_path,
        layer={"early": "backbone:2", "late": "backbone"},
        metrics=["knn"],
        accelerator="cpu",
    )
    (run,) = found.runs.values()
    assert run.header["encoders"] == ["early", "late"]
    assert "probe/early/label/knn/top1" in run.records[-1].scalars


def test_one_that_was_stopped_goes_on_and_one_of_another_probe_begins_anew(
    trained: tuple[Path, ProbeCallback], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = sorted(trained[0].glob("step-*.ckpt"))
    options: dict[str, Any] = {"metrics": ["collapse"], "out": tmp_path, "accelerator": "cpu"}
    replay(files[:3], BackboneModule, probe(), **options)
    lines = (tmp_path / "dnc" / "probe" / "records.jsonl").read_text().splitlines()
    (run,) = replay(files, BackboneModule, probe(), **options).runs.values()
    assert (run.folder / "records.jsonl").read_text().splitlines()[:3] == lines
    assert [r.step for r in run.records] == [f.step for f in find_checkpoints(files)[0]]
    (other,) = replay(
        files, BackboneModule, ProbeSet(Clean(), per_class=4), **options
    ).runs.values()
    assert other.folder != run.folder
    assert len(read_run(run.folder).records) == len(run.records)


def test_what_cannot_be_read_is_left_out_and_named(
    trained: tuple[Path, ProbeCallback], tmp_path: Path
) -> None:
    folder = tmp_path / "checkpoints"
    shutil.copytree(trained[0], folder)
    damaged, alien = sorted(folder.glob("step-*.ckpt"))[1:3]
    damaged.write_bytes(damaged.read_bytes()[:100])
    content = torch.load(alien, weights_only=True)
    content["state_dict"].pop("head.weight")
    torch.save(content, alien)
    found = replay(folder, BackboneModule, probe(), out=tmp_path, metrics=["collapse"])
    assert len(found.problems) == 2
    assert f"{damaged} cannot be read" in found.problems[0]
    assert f"{alien} do not fit BackboneModule: 1 keys (head.weight) are missing" in " ".join(
        found.problems
    )
    (run,) = found.runs.values()
    assert len(run.records) == len(records(trained[1])) - 2
    assert found.problems == tuple(p for p in run.problems if p in found.problems)


class Loud:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("run by a checkpoint",)


def test_no_code_of_a_checkpoint_runs_unasked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "step-3.pt"
    torch.save({"weight": torch.zeros(2), "more": Loud()}, path)
    with pytest.raises(ValueError, match=r"step-3.pt holds more than weights.*weights_only=False"):
        find_checkpoints(tmp_path)
    assert "run by" not in capsys.readouterr().out
    found, _ = find_checkpoints(tmp_path, weights_only=False)
    assert [one.step for one in found] == [3]


def test_steps_of_bare_state_dicts_come_from_their_names(tmp_path: Path) -> None:
    for name in ("step-12.pt", "model_iter5.pth", "sub/STEP=7.pt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        torch.save({"weight": torch.zeros(2)}, tmp_path / name)
    assert [one.step for one in find_checkpoints(tmp_path)[0]] == [5, 7, 12]
    torch.save({"weight": torch.zeros(2)}, tmp_path / "best.pt")
    with pytest.raises(ValueError, match=r"step of .*best.pt cannot be read.*Rename it"):
        find_checkpoints(tmp_path)


def test_names_before_compilation(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(2, 2))
    state = {f"0._orig_mod.{k}": v for k, v in torch.nn.Linear(2, 2).state_dict().items()}
    path = tmp_path / "step-1.pt"
    torch.save(state, path)
    load_state(module, read_checkpoint(path, weights_only=True), path)
    assert torch.equal(module[0].weight, state["0._orig_mod.weight"])


def test_bad_input(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="expected checkpoints"):
        replay(tmp_path, BackboneModule, probe())
    with pytest.raises(FileNotFoundError, match="there is nothing"):
        replay(tmp_path / "none", BackboneModule, probe())
    torch.save(BackboneModule().state_dict(), tmp_path / "step-1.pt")
    with pytest.raises(ValueError, match="must return a module, got int"):
        replay(tmp_path, lambda: 3, probe())
    with pytest.raises(ValueError, match="model must be a module"):
        replay(tmp_path, "backbone", probe())
