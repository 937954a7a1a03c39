"""Two processes over gloo give the numbers of one."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from dnc_lightning import HtmlReport, ProbeCallback, ProbeSet
from dnc_lightning.functional import COLLAPSE_KEYS, class_geometry, collapse_summary
from dnc_lightning.reporting import Run, read_run
from tests.callbacks.modules import BackboneModule, Clean, Floats, backbone


class Frozen(BackboneModule):
    """Does not move, so that one and two processes hold the same weights at every step."""

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.0)


def fit(
    path: Path, probe: ProbeSet, devices: int, module: type[Frozen] = Frozen, **kwargs: Any
) -> Run:
    pl.seed_everything(3, verbose=False)
    module = module()
    module.backbone[1] = nn.SyncBatchNorm(6, momentum=0.0)
    module.backbone[5] = nn.BatchNorm2d(8, momentum=0.0)
    module.backbone[3] = nn.Identity()
    trainer = pl.Trainer(
        max_steps=4,
        accelerator="cpu",
        devices=devices,
        strategy="ddp_fork" if devices > 1 else "auto",
        default_root_dir=path,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[ProbeCallback(probe, **kwargs), HtmlReport(), Dump(path)],
    )
    if devices > 1:
        # SyncBatchNorm trains on accelerators only; the probe must not need it to.
        module.backbone[1] = nn.BatchNorm2d(6, momentum=0.0)
    trainer.fit(module, DataLoader(Floats(24), 6))
    return read_run(path / "dnc" / "probe")


class Dump(pl.Callback):
    """Writes every rank's callback_metrics."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        values = {k: float(v) for k, v in trainer.callback_metrics.items()}
        (self.path / f"rank{trainer.global_rank}.json").write_text(json.dumps(values))


@pytest.mark.parametrize("per_class", [5, 20])
def test_uneven_shards(per_class: int, tmp_path: Path) -> None:
    probe = ProbeSet(Floats(), per_class=per_class)
    one = fit(tmp_path / "one", probe, 1)
    two = fit(tmp_path / "two", probe, 2)
    assert len(probe) % 2 == per_class % 2
    assert two.header["world_size"] == 2
    assert [r.step for r in two.records] == [r.step for r in one.records] == [0, 1, 2, 3, 4]
    for a, b in zip(one.records, two.records, strict=True):
        for key, value in a.scalars.items():
            if not key.endswith(("seconds", "overhead")):
                assert b.scalars[key] == pytest.approx(value, rel=1e-4, nan_ok=True), key
        assert a.uncalibrated.keys() == b.uncalibrated.keys()
        for key, matrix in one.matrices(a).items():
            torch.testing.assert_close(
                torch.tensor(two.matrices(b)[key]),
                torch.tensor(matrix),
                rtol=1e-4,
                atol=1e-7,
                equal_nan=True,
            )
    ranks = [json.loads((tmp_path / "two" / f"rank{r}.json").read_text()) for r in range(2)]
    timed = ("seconds", "overhead")
    keys = [k for k in ranks[0] if k.startswith("probe/") and not k.endswith(timed)]
    assert len(keys) >= 7
    for key in keys:
        assert ranks[0][key] == ranks[1][key] or ranks[0][key] != ranks[0][key]
    assert (tmp_path / "two" / "dnc" / "probe" / "report.html").exists()


def test_a_rank_without_samples(tmp_path: Path) -> None:
    """Four samples, two a class, over five processes."""
    probe = ProbeSet(Floats(), per_class=2, labels=(Floats().targets == 0).long())
    one = fit(tmp_path / "one", probe, 1)
    five = fit(tmp_path / "five", probe, 5)
    for a, b in zip(one.records, five.records, strict=True):
        assert b.scalars["probe/label/cdnv"] == pytest.approx(
            a.scalars["probe/label/cdnv"], rel=1e-4
        )


def fails_on_rank_one(module: Any, images: torch.Tensor) -> torch.Tensor:
    if module.trainer.global_rank == 1 and module.global_step == 2:
        raise RuntimeError("bad block")
    features: torch.Tensor = module.backbone(images)
    return features


@pytest.mark.filterwarnings("ignore:probe. The probe failed on another rank")
def test_one_failing_rank_skips_the_probe_on_all(tmp_path: Path) -> None:
    run = fit(tmp_path, ProbeSet(Floats(), per_class=5), 2, encoder=fails_on_rank_one)
    records = {r.step: r for r in run.records}
    assert records[2].scalars.keys() == records[3].scalars.keys()
    values = {
        k: v for k, v in records[2].scalars.items() if not k.endswith(("seconds", "overhead"))
    }
    assert all(value != value for value in values.values())
    assert records[2].warnings == (
        "The probe failed on another rank and is skipped: rank 1: RuntimeError('bad block'). "
        "Training goes on.",
    )
    assert records[3].scalars["probe/label/cdnv"] > 0


class Drifting(Dataset):
    """Pictures that become brighter: two ranks' last batches are of other statistics."""

    def __init__(self) -> None:
        self.x, self.targets = Clean(96).x, Clean(96).targets

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        bright = (1 + index) / len(self) * (2 if index % 2 else 1)
        return self.x[index] / 255 * bright, int(self.targets[index])


class Two(BackboneModule):
    """BatchNorm that forgets within few steps, and a teacher that each rank moves on its own."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone[1] = nn.BatchNorm2d(6, momentum=0.5)
        self.backbone[3] = nn.Identity()
        self.backbone[5] = nn.BatchNorm2d(8, momentum=0.5)
        self.teacher = nn.Sequential(*backbone()).requires_grad_(False)
        self.teacher[3] = nn.Identity()
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        self.seen += len(batch[0]) + self.global_rank
        self.teacher(batch[0])
        with torch.no_grad():
            self.teacher[0].weight.add_(0.01 * batch[0].mean())
        return self.loss(self.backbone(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.05)


class States(pl.Callback):
    """Keeps every rank's state before and after the callbacks between its two halves."""

    def __init__(self, path: Path, part: str) -> None:
        self.path, self.part = path, part

    def keep(self, trainer: pl.Trainer, module: Any) -> None:
        name = f"{self.part}-{trainer.global_rank}-{trainer.global_step}.pt"
        torch.save({k: v.clone() for k, v in module.state_dict().items()}, self.path / name)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        self.keep(trainer, pl_module)


def fit_drifting(path: Path, module: Any, *, probed: bool = True, **options: Any) -> None:
    path.mkdir()
    probe = ProbeSet(Floats(), per_class=15)
    encoders = {"student": "backbone", "teacher": "teacher"}
    callback = ProbeCallback(probe, encoder=encoders, every_n_train_steps=1, **options)
    pl.seed_everything(3, verbose=False)
    trainer = pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        devices=2,
        strategy="ddp_fork",
        default_root_dir=path,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[States(path, "before"), *([callback] if probed else []), States(path, "after")],
    )
    trainer.fit(module, DataLoader(Drifting(), 4))


def test_all_ranks_embed_with_the_state_that_a_checkpoint_holds(tmp_path: Path) -> None:
    """Rank 1's BatchNorm, teacher and counter differ; the numbers are those of rank 0's state."""
    torch.manual_seed(0)
    module = Two()
    fit_drifting(tmp_path / "probed", module)
    records = {r.step: r for r in read_run(tmp_path / "probed" / "dnc" / "probe").records}
    probe, data = ProbeSet(Floats(), per_class=15), Clean()
    for step in (8, 12):
        saved = torch.load(tmp_path / "probed" / f"before-0-{step}.pt")
        other = torch.load(tmp_path / "probed" / f"before-1-{step}.pt")
        mean = "backbone.1.running_mean"
        assert not torch.allclose(saved[mean], other[mean], rtol=0.1)
        assert not torch.equal(saved["teacher.0.weight"], other["teacher.0.weight"])
        module.load_state_dict(saved)
        for name, encoder in {"student": module.backbone, "teacher": module.teacher}.items():
            features = encoder.eval()(data.x[probe.indices] / 255).detach()
            summary = collapse_summary(class_geometry(features, data.targets[probe.indices]))
            scalars = records[step].scalars if name == "student" else records[step].uncalibrated
            for key in COLLAPSE_KEYS:
                logged = scalars[f"probe/{name}/label/{key}"]
                assert logged == pytest.approx(float(summary[key]), rel=1e-6), (step, name, key)
        for rank in range(2):
            was = torch.load(tmp_path / "probed" / f"before-{rank}-{step}.pt")
            now = torch.load(tmp_path / "probed" / f"after-{rank}-{step}.pt")
            assert all(torch.equal(was[key], now[key]) for key in was)


class Standardised(Two):
    """A layer beside the backbone that standardises the images by what its rank has seen."""

    def __init__(self) -> None:
        super().__init__()
        self.standardise = nn.BatchNorm2d(3, momentum=0.5, affine=False)

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        return super().training_step([self.standardise(batch[0]), batch[1]], index)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:probe. Training gives the encoder")  # known at step 0 only
def test_what_preprocess_uses_is_of_rank_zero_too(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Standardised()
    prepare = lambda module, images: module.standardise(images)  # noqa: E731
    fit_drifting(tmp_path / "probed", module, preprocess=prepare)
    records = {r.step: r for r in read_run(tmp_path / "probed" / "dnc" / "probe").records}
    probe, data = ProbeSet(Floats(), per_class=15), Clean()
    for step in (8, 12):
        saved, other = (
            torch.load(tmp_path / "probed" / f"before-{rank}-{step}.pt") for rank in range(2)
        )
        mean = "standardise.running_mean"
        assert not torch.allclose(saved[mean], other[mean], rtol=0.1)
        module.load_state_dict(saved)
        images = module.eval().standardise(data.x[probe.indices] / 255)
        geometry = class_geometry(module.teacher(images).detach(), data.targets[probe.indices])
        for key, value in collapse_summary(geometry).items():
            if key in COLLAPSE_KEYS:
                logged = records[step].uncalibrated[f"probe/teacher/label/{key}"]
                assert logged == pytest.approx(float(value), rel=1e-6), (step, key)


def test_training_on_two_ranks_is_bitwise_the_same(tmp_path: Path) -> None:
    for name in ("plain", "probed"):
        torch.manual_seed(0)
        fit_drifting(tmp_path / name, Two(), probed=name == "probed")
    for rank in range(2):
        plain, probed = (
            torch.load(tmp_path / name / f"after-{rank}-12.pt") for name in ("plain", "probed")
        )
        assert all(torch.equal(plain[key], probed[key]) for key in plain)


class Uneven(Frozen):
    """A buffer whose size depends on the rank, from the second step on."""

    def on_train_batch_end(self, *_: Any) -> None:
        self.backbone.register_buffer("queue", torch.zeros(self.global_step + self.global_rank))


@pytest.mark.filterwarnings("ignore:probe. The probe failed and is skipped")
def test_ranks_with_other_buffers_are_not_probed_as_one(tmp_path: Path) -> None:
    run = fit(tmp_path, ProbeSet(Floats(), per_class=5), 2, module=Uneven)
    records = {r.step: r for r in run.records}
    assert records[0].scalars["probe/label/cdnv"] > 0
    assert math.isnan(records[4].scalars.get("probe/label/cdnv", math.nan))
    assert "another rank" in records[4].warnings[0]
