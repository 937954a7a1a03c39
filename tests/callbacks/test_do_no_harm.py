"""Training with the callback is bitwise the same as without."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from torch import nn

from dnc_lightning import ProbeCallback, ProbeSet
from dnc_lightning.reporting import read_run
from tests.callbacks.modules import (
    BackboneModule,
    Clean,
    ForwardModule,
    TeacherModule,
    in_flavour,
    loader,
    student,
)


def probe_callback(**kwargs: Any) -> ProbeCallback:
    return ProbeCallback(ProbeSet(Clean(), per_class=15), every_n_train_steps=1, **kwargs)


def fit(
    module: pl.LightningModule,
    callbacks: list[pl.Callback],
    path: Path,
    workers: int = 0,
    **kwargs: Any,
) -> dict[str, Any]:
    pl.seed_everything(5, verbose=False)
    module.apply(lambda m: m.reset_parameters() if hasattr(m, "reset_parameters") else None)
    trainer = pl.Trainer(
        max_epochs=2,
        accelerator="cpu",
        default_root_dir=path,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=callbacks,
        **kwargs,
    )
    trainer.fit(module, loader(workers))
    return {
        "state": {k: v.clone() for k, v in module.state_dict().items()},
        "optimizer": trainer.optimizers[0].state_dict()["state"],
        "rng": (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()),
        "losses": module.losses,
        "flags": getattr(module, "flags", None),
        "grads": [p.grad for p in module.parameters()],
    }


def assert_same(a: Any, b: Any) -> None:
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    else:
        assert a == b


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_batchnorm_dropout_and_a_shuffling_loader_with_workers(
    precision: str, accumulate: int, tmp_path: Path
) -> None:
    kwargs: dict[str, Any] = {"precision": precision, "accumulate_grad_batches": accumulate}
    plain = fit(BackboneModule(), [], tmp_path, workers=2, **kwargs)
    callback = probe_callback()
    watched = fit(BackboneModule(), [callback], tmp_path, workers=2, **kwargs)
    assert callback.records_written_ == 8 // accumulate + 1
    assert_same(watched, plain)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_teacher_frozen_layer_and_an_encoder_that_misbehaves(
    precision: str, tmp_path: Path
) -> None:
    encoders = {"student": student, "teacher": "teacher_backbone", "early": "student_backbone:2"}
    plain = fit(TeacherModule(), [], tmp_path, precision=precision)
    callback = probe_callback(encoder=encoders)
    watched = fit(TeacherModule(), [callback], tmp_path, precision=precision)
    assert callback.records_written_ == 9
    assert_same(watched, plain)


def test_a_table_made_in_the_first_forward_pass_still_trains(tmp_path: Path) -> None:
    """Made in inference mode it could not be saved for the backward pass."""

    class Lazy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.table = nn.Parameter(torch.ones(8)), None

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if self.table is None:
                self.table = torch.linspace(0, 1, 8)
            return x * (self.table * self.weight)

    module = BackboneModule()
    module.backbone.append(Lazy())
    fit(module, [probe_callback()], tmp_path)


def test_an_overridden_train_is_not_called(tmp_path: Path) -> None:
    class Counted(BackboneModule):
        calls = 0

        def train(self, mode: bool = True) -> Any:
            self.calls += 1
            return super().train(mode)

    plain, watched = Counted(), Counted()
    fit(plain, [], tmp_path)
    fit(watched, [probe_callback()], tmp_path)
    assert watched.calls == plain.calls


class Annealed(nn.Module):
    """Noise that falls with the number of forward passes, kept as a Python number and a tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.passes, self.scale = 0, torch.ones(())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.passes += 1
        self.scale *= 0.97
        noise = torch.linspace(-1, 1, x.shape[-1])
        return x + noise * self.scale / self.passes


class Queued(BackboneModule):
    """A queue that a forward hook fills, and a loss against it, as with nearest neighbours."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone.append(Annealed())
        self.queue: list[torch.Tensor] = []
        self.backbone.register_forward_hook(self.remember)

    def remember(self, _module: nn.Module, _inputs: Any, output: torch.Tensor) -> None:
        self.queue.append(output.detach())

    def loss(self, features: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        far = (features[:, None] - torch.cat(self.queue[-3:])[None]).square().mean()
        return super().loss(features, y) + 0.1 * far


def test_counters_and_queues_of_python_objects_are_those_of_training(tmp_path: Path) -> None:
    plain, watched = Queued(), Queued()
    expected = fit(plain, [], tmp_path)
    assert_same(fit(watched, [probe_callback()], tmp_path), expected)
    assert watched.backbone[-1].passes == plain.backbone[-1].passes == 8
    assert torch.equal(watched.backbone[-1].scale, plain.backbone[-1].scale)
    assert_same(watched.queue, plain.queue)


@pytest.mark.parametrize("flavour", ["lightning", "pytorch_lightning"])
def test_logging_in_forward_is_muted_while_a_probe_runs(flavour: str, tmp_path: Path) -> None:
    """It would raise before the first step, and mix the probe's batches into training's means."""
    pl_flavour: Any = pl
    style: type = ForwardModule
    if flavour == "pytorch_lightning":
        pl_flavour = pytest.importorskip(flavour)
        style = in_flavour(ForwardModule, pl_flavour.LightningModule)

    def fit_logging(callbacks: list[Any], path: Path) -> tuple[Any, dict[str, float]]:
        class Logging(style):  # type: ignore[misc, valid-type]
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                z = super().forward(x)
                self.log("spread", z.std(), on_epoch=True, on_step=False)
                self.log_dict({"mean": z.mean(), "top": z.max()}, on_epoch=True)
                return z

        pl.seed_everything(5, verbose=False)
        trainer = pl_flavour.Trainer(
            max_epochs=2,
            accelerator="cpu",
            default_root_dir=path,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=callbacks,
        )
        module = Logging()
        trainer.fit(module, loader())
        assert not {"log", "log_dict"} & vars(module).keys()
        values = {k: float(v) for k, v in trainer.callback_metrics.items()}
        return module, {k: v for k, v in values.items() if not k.startswith("probe/")}

    _, expected = fit_logging([], tmp_path / "plain")
    callback = probe_callback()
    _, logged = fit_logging([callback], tmp_path / "probed")
    assert logged == expected
    assert {"spread", "mean_epoch", "top_epoch"} <= logged.keys()
    assert callback.run_dir_ is not None
    records = read_run(callback.run_dir_).records
    assert len(records) == 9
    assert all(r.scalars["probe/label/cdnv"] > 0 and r.warnings == () for r in records)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
def test_a_scripted_backbone_is_probed_and_trains_as_before(tmp_path: Path) -> None:
    """TorchScript takes no hooks before a forward pass."""

    def scripted() -> BackboneModule:
        torch.manual_seed(0)
        module = BackboneModule()
        module.backbone = torch.jit.script(module.backbone)
        return module

    plain = fit(scripted(), [], tmp_path / "plain")
    callback = probe_callback()
    watched = fit(scripted(), [callback], tmp_path / "watched")
    assert_same(watched, plain)
    assert callback.run_dir_ is not None
    for record in read_run(callback.run_dir_).records:
        assert record.scalars["probe/label/cdnv"] > 0
        assert record.warnings == ()


class Moving(BackboneModule):
    """A forward pass that writes to parameters, as those of prototypes and momentum teachers do."""

    def __init__(self) -> None:
        super().__init__()
        self.teacher = copy.deepcopy(self.backbone).requires_grad_(False)

    @torch.no_grad()
    def embed(self, x: torch.Tensor) -> torch.Tensor:
        for slow, fast in zip(self.teacher.parameters(), self.backbone.parameters(), strict=True):
            slow.data.lerp_(fast.data, 0.3)
        self.head.weight.copy_(nn.functional.normalize(self.head.weight))
        features: torch.Tensor = self.teacher(x)
        return features

    def loss(self, features: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        target = self.embed(torch.rand(4, 3, 12, 12))
        return super().loss(features, y) + (features.mean(0) - target.mean(0)).square().mean()


def test_parameters_that_a_forward_pass_writes_to_are_put_back(tmp_path: Path) -> None:
    plain = fit(Moving(), [], tmp_path)
    callback = probe_callback(encoder={"embed": Moving.embed, "backbone": "backbone"})
    assert_same(fit(Moving(), [callback], tmp_path), plain)


class Lazy(BackboneModule):
    """Layers without shapes; `ready` runs them once, as its user should."""

    def __init__(self, *, ready: bool) -> None:
        super().__init__()
        self.backbone[4] = nn.LazyConv2d(8, 3)
        if ready:
            self.backbone(torch.zeros(2, 3, 12, 12))


def test_lazy_layers_that_a_probe_has_settled_are_named(tmp_path: Path) -> None:
    """Their first weights are drawn when the first images come, which are then the probe's."""
    callback = probe_callback()
    with pytest.warns(UserWarning, match=r"Lazy layers \(backbone.4\) have got their shapes"):
        fit(Lazy(ready=False), [callback], tmp_path)
    assert callback.run_dir_ is not None
    records = read_run(callback.run_dir_).records
    assert all(r.notes[0].startswith("Lazy layers (backbone.4)") for r in records)
    plain = fit(Lazy(ready=True), [], tmp_path)
    assert_same(fit(Lazy(ready=True), [probe_callback()], tmp_path), plain)
