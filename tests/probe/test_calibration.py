"""Which BatchNorm layers still hold their initial statistics, and what a probe then measures."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

from dnc_lightning import ProbeCallback, ProbeSet
from dnc_lightning.functional import class_geometry, collapse_summary
from dnc_lightning.probe.calibration import unsettled_batch_norms
from dnc_lightning.reporting import read_run
from tests.callbacks.modules import BackboneModule, Clean, Floats, loader


def batches(layer: nn.BatchNorm1d, n: int, scale: float = 0.5) -> nn.BatchNorm1d:
    """The layer after n batches of mean 3."""
    generator = torch.Generator().manual_seed(n)
    for _ in range(n):
        layer(3 + scale * torch.randn(64, 5, generator=generator))
    return layer


def counting(layer: nn.BatchNorm1d, count: int | None) -> nn.BatchNorm1d:
    layer.num_batches_tracked = None if count is None else torch.tensor(count)
    return layer


def reset(layer: nn.BatchNorm1d) -> nn.BatchNorm1d:
    layer.reset_running_stats()
    return layer


def holding(layer: nn.BatchNorm1d) -> nn.BatchNorm1d:
    """The layer with statistics of a file."""
    layer.running_mean.fill_(0.5)
    layer.running_var.fill_(3)
    return layer


def averaged(layer: nn.BatchNorm1d) -> nn.BatchNorm1d:
    """An average of 120 copies whose counter starts anew, as averages of integers do."""
    average = copy.deepcopy(layer)
    for name in ("running_mean", "running_var"):
        getattr(average, name).mul_(0.9).add_(getattr(layer, name), alpha=0.1)
    return counting(average, 2)


@pytest.mark.parametrize(
    ("layer", "unsettled"),
    [
        (lambda: nn.BatchNorm1d(5), True),
        (lambda: batches(nn.BatchNorm1d(5), 5), True),
        (lambda: batches(nn.BatchNorm1d(5), 43), True),
        (lambda: batches(nn.BatchNorm1d(5), 44), False),
        (lambda: batches(nn.BatchNorm1d(5), 5, scale=9.0), True),
        (lambda: batches(nn.BatchNorm1d(5), 5, scale=0.0), True),  # variance at its lower bound
        (lambda: counting(batches(nn.BatchNorm1d(5), 80), 0), False),  # a file without counters
        (lambda: counting(batches(nn.BatchNorm1d(5), 80), None), False),
        (lambda: counting(batches(nn.BatchNorm1d(5), 80), 3), False),  # the same, trained further
        (lambda: averaged(batches(nn.BatchNorm1d(5), 120)), False),
        (lambda: counting(nn.BatchNorm1d(5), 10_000), True),  # copied without statistics
        (lambda: counting(nn.BatchNorm1d(5), None), True),
        (lambda: reset(batches(nn.BatchNorm1d(5), 80)), True),
        (lambda: nn.BatchNorm1d(5).eval(), False),
        (lambda: nn.BatchNorm1d(5, momentum=None), True),
        (lambda: batches(nn.BatchNorm1d(5, momentum=None), 1), False),
        (lambda: nn.BatchNorm1d(5, track_running_stats=False), False),
        (lambda: nn.BatchNorm1d(5, momentum=1.0), True),
        (lambda: batches(nn.BatchNorm1d(5, momentum=1.0), 1), False),
        (lambda: batches(nn.BatchNorm1d(5, momentum=0.01), 100), True),
        (lambda: batches(nn.BatchNorm1d(5, momentum=0.0), 5), True),
        (lambda: holding(counting(nn.BatchNorm1d(5, momentum=0.0), 5)), False),  # kept for good
    ],
)
def test_the_statistics_decide(layer: Callable[[], nn.BatchNorm1d], unsettled: bool) -> None:
    made = layer()
    assert unsettled_batch_norms([nn.Sequential(nn.Linear(2, 5), made)]) == [made] * unsettled


class HeadOnly(BackboneModule):
    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.head.parameters(), 0.05)


def pretrained(path: Path) -> dict[str, torch.Tensor]:
    """The weights of a backbone after 80 steps; its BatchNorm has settled."""
    torch.manual_seed(0)
    module = BackboneModule()
    fit(path, module, None, max_steps=80)
    return module.backbone.state_dict()


def fit(
    path: Path,
    module: Any,
    probe: ProbeSet | None,
    *,
    callbacks: tuple[pl.Callback, ...] = (),
    ckpt: Path | None = None,
    **kwargs: Any,
) -> list[Any]:
    pl.seed_everything(1, verbose=False)
    callback = None if probe is None else ProbeCallback(probe, shots=(1, 5))
    trainer = pl.Trainer(
        accelerator="cpu",
        default_root_dir=path,
        logger=False,
        enable_checkpointing=bool(callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[*([] if callback is None else [callback]), *callbacks],
        **kwargs,
    )
    trainer.fit(module, loader(), ckpt_path=ckpt, **({"weights_only": False} if ckpt else {}))
    if callback is None:
        return []
    assert callback.run_dir_ is not None
    return list(read_run(callback.run_dir_).records)


@pytest.mark.parametrize("steps", [1, 6])
def test_a_weight_file_without_counters_gives_the_values_of_its_statistics(
    steps: int, tmp_path: Path
) -> None:
    """Step 0 is the file's encoder; later counters have counted a few batches only."""
    file = pretrained(tmp_path / "pretraining")
    probe = ProbeSet(Floats(), per_class=15)
    eager = BackboneModule().backbone
    eager.load_state_dict(file)
    features = eager.eval()(Clean().x[probe.indices] / 255).detach()
    expected = collapse_summary(class_geometry(features, Clean().targets[probe.indices]))
    found = {}
    for name in ("with", "without"):
        kept = {k: v for k, v in file.items() if name == "with" or "num_batches" not in k}
        module = HeadOnly()
        module.backbone.load_state_dict(kept, strict=False)
        module.backbone.requires_grad_(False)
        found[name] = fit(tmp_path / name, module, probe, max_steps=steps)
    for a, b in zip(found["with"], found["without"], strict=True):
        assert a.uncalibrated == b.uncalibrated == {}
        for key, value in a.scalars.items():
            if not key.endswith(("seconds", "overhead")):
                assert b.scalars[key] == pytest.approx(value, rel=1e-6, nan_ok=True)
    first = found["without"][0].scalars
    for key in ("cdnv", "directional_cdnv"):
        assert first[f"probe/label/{key}"] == pytest.approx(float(expected[key]), rel=1e-5)


def test_a_new_head_on_settled_layers_is_calibrated_alone(tmp_path: Path) -> None:
    file = pretrained(tmp_path / "pretraining")
    module = BackboneModule()
    module.backbone.load_state_dict(file)
    module.backbone[5] = nn.BatchNorm2d(8)
    (first, *_) = fit(tmp_path, module, ProbeSet(Floats(), per_class=15), max_steps=1)
    assert any(note.startswith("The running statistics of 1 Batch") for note in first.notes)


def test_a_resumed_run_still_knows_that_its_statistics_were_given(tmp_path: Path) -> None:
    """Of layers with variances that their counter alone would not contradict."""
    probe = ProbeSet(Floats(), per_class=15)

    def module() -> BackboneModule:
        torch.manual_seed(0)
        made = HeadOnly()
        for layer in (made.backbone[1], made.backbone[5]):
            layer.running_mean.fill_(0.05)
            layer.running_var.fill_(4)
        return made

    def kept() -> tuple[pl.Callback]:
        options: Any = {"every_n_train_steps": 4, "filename": "{step}", "save_top_k": -1}
        return (ModelCheckpoint(tmp_path, **options),)

    unbroken = fit(tmp_path / "a", module(), probe, max_steps=8, callbacks=kept())
    ckpt = tmp_path / "step=4.ckpt"
    resumed = fit(tmp_path / "b", module(), probe, max_steps=8, callbacks=kept(), ckpt=ckpt)
    assert [r.step for r in unbroken] == [0, 1, 2, 3, 4, 5, 6, 8]
    assert {r.step for r in resumed} >= {5, 6, 8}
    assert all(r.uncalibrated == {} for r in [*unbroken, *resumed])
