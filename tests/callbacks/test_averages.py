"""Raw and averaged weights are two curves, whatever the order of the callbacks."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, StochasticWeightAveraging
from torch import nn

from dnc_lightning import BestProbeCheckpoint, ProbeCallback, ProbeSet
from dnc_lightning.functional import class_geometry, collapse_summary
from dnc_lightning.reporting import read_run
from tests.callbacks.fits import fit, records
from tests.callbacks.modules import BackboneModule, Clean

KEY = "directional_cdnv"
RAW, AVERAGED = f"probe/label/{KEY}", f"probe/averaged/label/{KEY}"
EPOCHS = 16  # of 4 steps: the running statistics have settled after 43
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*lr_scheduler.step"),
    pytest.mark.filterwarnings("ignore:Swapping scheduler"),
    pytest.mark.filterwarnings("ignore:SWA is currently only supported"),
]

AVERAGERS: dict[str, Callable[[], pl.Callback]] = {
    "with buffers": lambda: EMAWeightAveraging(decay=0.8, use_buffers=True),
    "without buffers": lambda: EMAWeightAveraging(decay=0.8, use_buffers=False),
    "late": lambda: EMAWeightAveraging(decay=0.8, update_starting_at_step=20),
    "stochastic": lambda: StochasticWeightAveraging(swa_lrs=0.01, swa_epoch_start=0.5),
}


def by_hand(module: Any) -> float:
    """What the module's backbone gives, evaluated as it is."""
    probe, data = ProbeSet(Clean(), per_class=8), Clean()
    backbone = copy.deepcopy(module.backbone).eval()
    with torch.no_grad():
        features = backbone(data.x[probe.indices] / 255)
    geometry = class_geometry(features, data.targets[probe.indices])
    return float(collapse_summary(geometry)[KEY])


class Trained(pl.Callback):
    """What the weights in training give after each step."""

    def __init__(self) -> None:
        self.values: dict[int, float] = {}

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        if not trainer.fit_loop._skip_backward:  # no step follows a pass for BatchNorm alone
            self.values[trainer.global_step] = by_hand(pl_module)


class WithoutBatchNorm(BackboneModule):
    def __init__(self) -> None:
        super().__init__()
        self.backbone[1] = self.backbone[5] = nn.Identity()


def probed(
    folder: Path, averager: pl.Callback, *, first: bool, module: Any, **options: Any
) -> tuple[ProbeCallback, Trained, Any]:
    callback = ProbeCallback(ProbeSet(Clean(), per_class=8), examples=False, **options)
    trained = Trained()
    order = [callback, averager] if first else [averager, callback]
    fit(folder, trained, *order, module=module, max_epochs=EPOCHS)
    return callback, trained, module


@pytest.mark.slow
@pytest.mark.parametrize("name", AVERAGERS)
@pytest.mark.parametrize("kind", [BackboneModule, WithoutBatchNorm])
def test_two_curves_in_any_order(name: str, kind: type[BackboneModule], tmp_path: Path) -> None:
    module = kind()
    before = copy.deepcopy(module)
    callback, trained, after = probed(tmp_path / "a", AVERAGERS[name](), first=True, module=module)
    other, _, _ = probed(
        tmp_path / "b", AVERAGERS[name](), first=False, module=copy.deepcopy(before)
    )
    rows = records(callback)
    for row, again in zip(rows, records(other), strict=True):
        for key in (RAW, AVERAGED):
            assert row.scalars[key] == pytest.approx(again.scalars[key], rel=1e-6, nan_ok=True)
    settled = kind is WithoutBatchNorm
    for row in rows[1:-1]:
        if settled or row.step > 43:
            assert row.scalars[RAW] == pytest.approx(trained.values[row.step], rel=1e-5)
    last = rows[-1].scalars
    assert last[RAW] == pytest.approx(trained.values[max(trained.values)], rel=1e-5)
    assert last[AVERAGED] == pytest.approx(by_hand(after), rel=1e-5)
    assert last[AVERAGED] != pytest.approx(last[RAW], rel=1e-3)
    # Before training an average is the weights themselves.
    assert rows[0].scalars[AVERAGED] == pytest.approx(rows[0].scalars[RAW], rel=1e-5)
    assert "probe/averaged/label/cdnv_low" in last
    assert callback.engine_.sources["averaged"].startswith("backbone, averaged by ")


def test_an_average_that_has_not_begun_is_nan(tmp_path: Path) -> None:
    callback, _, _ = probed(tmp_path, AVERAGERS["late"](), first=False, module=BackboneModule())
    for row in records(callback)[1:]:
        assert math.isnan(row.scalars[AVERAGED]) == (row.step <= 20), row.step
        told = any("has not begun to average" in note for note in row.notes)
        assert told == (row.step <= 20)


def test_averaged_statistics_are_not_judged_by_a_counter(tmp_path: Path) -> None:
    """At decay .98 a third of the initial statistics is left after 50 steps, whatever was counted:
    the first record without calibration comes when that has gone."""
    averager = EMAWeightAveraging(decay=0.98, use_buffers=True)
    callback, _, module = probed(tmp_path, averager, first=True, module=BackboneModule())
    last = records(callback)[-1]
    assert last.uncalibrated[AVERAGED] == pytest.approx(by_hand(module), rel=1e-5)
    assert RAW not in last.uncalibrated


def test_several_encoders_and_a_callable_that_asks_for_the_trainer(tmp_path: Path) -> None:
    def counted(module: Any, images: torch.Tensor) -> torch.Tensor:
        assert module.trainer.world_size == 1
        features: torch.Tensor = module.backbone(images)
        return features

    encoder = {"path": "backbone", "function": counted}
    callback, _, _ = probed(
        tmp_path, AVERAGERS["with buffers"](), first=True, module=BackboneModule(), encoder=encoder
    )
    last = records(callback)[-1].scalars
    for weights in ("", "-averaged"):
        one, two = (last[f"probe/{name}{weights}/label/{KEY}"] for name in ("path", "function"))
        assert one == pytest.approx(two, rel=1e-6)


def test_training_is_bitwise_the_same(tmp_path: Path) -> None:
    module = BackboneModule()
    twin = copy.deepcopy(module)
    fit(tmp_path / "plain", AVERAGERS["with buffers"](), module=module, max_epochs=4)
    callback = ProbeCallback(ProbeSet(Clean(), per_class=8), examples=False)
    fit(tmp_path / "probed", callback, AVERAGERS["with buffers"](), module=twin, max_epochs=4)
    assert module.losses == twin.losses
    for one, other in zip(module.state_dict().values(), twin.state_dict().values(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(("key", "state"), [(RAW, "current_model_state"), (AVERAGED, "state_dict")])
def test_the_best_checkpoint_holds_the_weights_of_its_score(
    key: str, state: str, tmp_path: Path
) -> None:
    callback = ProbeCallback(ProbeSet(Clean(), per_class=8), examples=False)
    best = BestProbeCheckpoint(key, save_top_k=-1)
    averager = AVERAGERS["without buffers"]()
    fit(tmp_path, callback, averager, best, module=WithoutBatchNorm(), max_epochs=6)
    assert len(best.best_k_models) > 5
    module = WithoutBatchNorm()
    for path, score in best.best_k_models.items():
        module.load_state_dict(torch.load(path, weights_only=False)[state])
        assert by_hand(module) == pytest.approx(float(score), rel=1e-5), path


class Drifting(WithoutBatchNorm):
    """A buffer of the encoder that differs from rank to rank."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone[1] = nn.BatchNorm2d(6, momentum=0.6)

    def on_train_end(self) -> None:
        if self.global_rank == 0:
            folder = Path(self.trainer.default_root_dir)
            torch.save(self.state_dict(), folder / "averaged.pt")


def test_two_processes_log_the_average_that_a_checkpoint_holds(tmp_path: Path) -> None:
    callback = ProbeCallback(ProbeSet(Clean(), per_class=8), examples=False, every_n_epochs=8)
    module = Drifting()
    fit(
        tmp_path,
        AVERAGERS["with buffers"](),
        callback,
        module=module,
        max_epochs=16,
        devices=2,
        strategy="ddp_fork",
    )
    last = read_run(tmp_path / "dnc" / "probe").records[-1]
    module.load_state_dict(torch.load(tmp_path / "averaged.pt"))
    assert last.scalars[AVERAGED] == pytest.approx(by_hand(module), rel=1e-5)
    assert AVERAGED not in last.uncalibrated
