"""Regression in a real fit, of several targets, over two processes, and nan with its reason."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from dnc_lightning import ProbeCallback, ProbeSet, read_run
from dnc_lightning.functional.regression import regression_collapse
from dnc_lightning.instruments import Instrument, Ordinal, Regression


class Regressor(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Flatten(), nn.Linear(48, 24), nn.ReLU(), nn.Linear(24, 8))
        self.head = nn.Linear(8, 2)

    def training_step(self, batch: Any, _: int) -> Tensor:
        return nn.functional.mse_loss(self.head(self.backbone(batch[0])), batch[1])

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), 0.01, weight_decay=0.1)


def data(size: int = 400) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    y = torch.rand(size, 2, generator=generator)
    base = torch.rand(2, 3, 4, 4, generator=generator)
    noise = torch.rand(size, 3, 4, 4, generator=generator)
    return (torch.einsum("nk,kchw->nchw", y, base) + 0.3 * noise) / 2.3, y


def fit(folder: Path, *metrics: Instrument | str, steps: int = 150, **options: Any) -> Any:
    x, y = data()
    labels = (y[:, 0] * 4).long().clamp(max=3)
    named = {"place": y, "size": y[:, 0]}
    given = options.pop("targets", named)
    probe = ProbeSet(TensorDataset(x, labels), per_class=60, targets=given)
    watch = ProbeCallback(probe, metrics=list(metrics))
    trainer = Trainer(
        max_steps=steps, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder,
        callbacks=[watch], **options,
    )  # fmt: skip
    torch.manual_seed(0)
    module = Regressor()
    trainer.fit(module, DataLoader(TensorDataset(x, y), 40, shuffle=True))
    return read_run(folder / "dnc" / "probe"), module, probe


def test_a_fit_collapses_and_records_what_the_functions_give(tmp_path: Path) -> None:
    metrics = ["collapse", Regression("place", head="head"), Regression("size"), Ordinal()]
    run, module, probe = fit(tmp_path, *metrics, steps=600)
    first, last = (run.records[at].scalars for at in (0, -1))
    pixels = torch.stack([probe.image(i) for i in range(len(probe))]).float()
    with torch.no_grad():
        features = module.eval().backbone(pixels)
    found = regression_collapse(features, probe.targets["place"], module.head.weight.detach())
    got = {k: last[f"probe/features/regression/place/{k}"] for k in ("nrc1", "nrc2", "nrc3", "r2")}
    assert got["nrc1"] == pytest.approx(float(found.off_plane), rel=1e-4)
    assert got["nrc2"] == pytest.approx(float(found.off_head), rel=1e-4)
    assert got["nrc3"] == pytest.approx(float(found.head), rel=1e-4)
    assert got["r2"] > 0.9
    assert got["nrc1"] < first["probe/features/regression/place/nrc1"] / 2
    assert got["nrc2"] < first["probe/features/regression/place/nrc2"] / 2
    assert last["probe/features/regression/size/r2"] > 0.9
    assert "probe/features/regression/size/nrc2" not in last
    # Four bins of the first coordinate: their means are in order.
    assert last["probe/label/ordinal/order"] == 1
    assert last["probe/label/ordinal/off_line"] < 0.1


def test_by_name_it_takes_the_only_target(tmp_path: Path) -> None:
    run, _, _ = fit(tmp_path, "regression", steps=2, targets={"place": data()[1]})
    assert math.isfinite(run.records[-1].scalars["probe/features/regression/nrc1"])


@pytest.mark.parametrize(
    ("metric", "targets", "reason"),
    [
        (Regression(), {}, "does not have any target, but none"),
        (Regression("age"), {"place": data()[1]}, "does not have target 'age', but 'place'"),
        (Regression("place"), {"place": torch.rand(400, 8)}, "8 targets, features of length 8"),
        (Regression("place", head="gone"), {"place": data()[1]}, "NRC2 and NRC3 are nan"),
        (Regression("a", head="head"), {"a": torch.rand(400)}, r"'head' is \[2, 8\]"),
    ],
)
def test_what_cannot_be_measured_is_nan_with_the_reason(
    metric: Regression, targets: dict[str, Tensor], reason: str, tmp_path: Path
) -> None:
    import re

    run, _, _ = fit(tmp_path, metric, steps=1, targets=targets)
    assert any(re.search(reason, note) for note in run.records[-1].notes)


def test_a_constant_target_is_nan_and_training_goes_on(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="target 0 is constant"):
        run, _, _ = fit(tmp_path, "regression", steps=1, targets={"a": torch.ones(400)})
    assert math.isnan(run.records[-1].scalars["probe/features/regression/nrc1"])


def test_two_processes_give_the_numbers_of_one(tmp_path: Path) -> None:
    metrics = [Regression("place", head="head")]
    one, _, _ = fit(tmp_path / "one", *metrics, steps=1)
    two, _, _ = fit(tmp_path / "two", *metrics, steps=1, devices=2, strategy="ddp_fork")
    a, b = (run.records[0].scalars for run in (one, two))
    keys = [key for key in a if "regression" in key]
    assert len(keys) == 4
    assert {k: b[k] for k in keys} == pytest.approx({k: a[k] for k in keys}, rel=1e-6)
