"""Two processes over gloo give the numbers of one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from dnc_lightning import HtmlReport, ProbeCallback, ProbeSet
from dnc_lightning.reporting import Run, read_run
from tests.callbacks.modules import BackboneModule, Floats


class Frozen(BackboneModule):
    """Does not move, so that one and two processes hold the same weights at every step."""

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.0)


def fit(path: Path, probe: ProbeSet, devices: int, **kwargs: Any) -> Run:
    pl.seed_everything(3, verbose=False)
    module = Frozen()
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
    """Three samples, one a class, over four processes."""
    probe = ProbeSet(Floats(), per_class=1)
    one = fit(tmp_path / "one", probe, 1)
    four = fit(tmp_path / "four", probe, 4)
    for a, b in zip(one.records, four.records, strict=True):
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
    assert records[2].warnings == ("The probe failed on another rank and is skipped.",)
    assert records[3].scalars["probe/label/cdnv"] > 0
