"""Encoders whose features depend on the batch say so; all others do not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import nn

from dnc_lightning import ProbeCallback, ProbeSet
from dnc_lightning.reporting import read_run
from tests.callbacks.modules import BackboneModule, Clean, loader


def fit(path: Path, module: pl.LightningModule, **kwargs: Any) -> tuple[ProbeCallback, list[Any]]:
    pl.seed_everything(1, verbose=False)
    callback = ProbeCallback(ProbeSet(Clean(), per_class=15), **kwargs)
    trainer = pl.Trainer(
        max_steps=2,
        accelerator="cpu",
        default_root_dir=path,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[callback],
    )
    trainer.fit(module, loader())
    assert callback.run_dir_ is not None
    return callback, list(read_run(callback.run_dir_).records)


class Whitened(nn.Module):
    """Normalises over the batch with no layer that shows it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.batch_norm(x, None, None, training=True)


class Switching(nn.BatchNorm2d):
    """Puts itself into training mode, and would drift with every probe."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.train()
        return super().forward(x)


@pytest.mark.parametrize(
    ("layer", "named"),
    [
        (lambda: nn.BatchNorm2d(6, track_running_stats=False), "running statistics: 1)"),
        (Whitened, "other images of its batch. "),
        (lambda: Switching(6), "other images of its batch. "),
    ],
)
def test_a_layer_that_normalises_over_the_batch_is_named_at_the_start_and_in_every_record(
    layer: Callable[[], nn.Module], named: str, tmp_path: Path
) -> None:
    module = BackboneModule()
    module.backbone[1] = layer()
    with pytest.warns(UserWarning, match="depend on the other images of its batch") as caught:
        callback, records = fit(tmp_path, module)
    (warning,) = [str(w.message) for w in caught if "other images" in str(w.message)]
    assert "encoder 'backbone'" in warning
    assert "number of processes" in warning
    assert named in warning
    assert all(named in r.notes[0] for r in records)
    # And so it is: other batches, other numbers.
    engine = callback.engine_
    together = engine.embedder.embed(engine.bank)["backbone"]
    engine.embedder.batch_size = 10
    apart = engine.embedder.embed(engine.bank)["backbone"]
    assert not torch.allclose(together, apart, rtol=1e-2)


def try_out(module: pl.LightningModule, probe: ProbeSet, precision: Any = "32-true") -> Any:
    callback = ProbeCallback(probe, shots=(1,))
    pl.Trainer(
        fast_dev_run=True,
        accelerator="cpu",
        precision=precision,
        callbacks=[callback],
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(module, loader())
    return callback.engine_.cautions


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize(
    "layer",
    [
        nn.BatchNorm2d(6),
        nn.GroupNorm(2, 6),
        nn.InstanceNorm2d(6),
        nn.LayerNorm([6, 5, 5]),
        nn.Identity(),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_no_other_encoder_is_warned_about(layer: nn.Module, precision: str) -> None:
    """Nor one that draws random numbers in evaluation mode: both trials draw the same."""

    class Noise(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.dropout(x, 0.5, training=True)

    module = BackboneModule()
    module.backbone[1] = layer
    module.backbone.append(Noise())
    assert try_out(module, ProbeSet(Clean(), per_class=15), precision) == ()


def test_of_several_encoders_the_one_that_does_is_named(tmp_path: Path) -> None:
    module = BackboneModule()
    module.backbone[5] = nn.BatchNorm2d(8, track_running_stats=False)
    encoders = {"early": "backbone:2", "late": "backbone"}
    with pytest.warns(UserWarning, match=r"encoder 'backbone'.*running statistics: 5"):
        callback, _ = fit(tmp_path, module, encoder=encoders)
    assert len(callback.engine_.cautions) == 1


@pytest.mark.filterwarnings("ignore:probe. probe/label")
def test_a_probe_of_two_images() -> None:
    module = BackboneModule()
    module.backbone[1] = Whitened()
    probe = ProbeSet(torch.utils.data.Subset(Clean(), [0, 1]), per_class=1)
    with pytest.warns(UserWarning, match="other images of its batch"):
        try_out(module, probe)
