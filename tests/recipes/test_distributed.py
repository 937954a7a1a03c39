"""Two processes with half of the images each train as one process does with all of them.

Views are the images themselves, networks have no BatchNorm and masks are the same everywhere: what
differs between processes on purpose is left out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback
from torch import Tensor

from recipes.data import Factors
from tests.recipes.runs import SGD, copies, fit, make, two_different, without_batch_norm


class Losses(Callback):
    """Writes what the first process logged, and the parameters of each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.losses: list[float] = []

    def on_train_batch_end(self, trainer, *_) -> None:
        self.losses.append(float(trainer.callback_metrics["train/loss"]))

    def on_train_end(self, trainer, pl_module) -> None:
        kept = (self.losses, copies(pl_module))
        torch.save(kept, self.folder / f"{trainer.world_size}-{trainer.global_rank}.pt")


def trained(name: str, folder: Path, processes: int, **changes: Any) -> list[Any]:
    """Losses and weights of every process after two steps of 16 images in all."""
    module = make(name, backbone="vit_nano", optimization=SGD, **changes)
    without_batch_norm(module)
    if name in ("mae", "supervised"):
        module.views = lambda batch: two_different(batch[0])[:1]
    else:
        module.views = lambda batch: two_different(batch[0])
    fit(
        module,
        folder,
        Factors(batch_size=16 // processes, num_images=96),
        callbacks=[Losses(folder)],
        devices=processes,
        strategy="ddp_fork" if processes > 1 else "auto",
    )
    return [torch.load(folder / f"{processes}-{rank}.pt") for rank in range(processes)]


def same_tokens(size: tuple[int, int], mask_ratio: float, device: Any) -> tuple[Tensor, Tensor]:
    """Hide all patches but every fourth one."""
    tokens = torch.arange(size[1], device=device).expand(size)
    seen = (tokens[0] % 4 == 1) | (tokens[0] == 0)
    return tokens[:, seen], tokens[:, ~seen]


def same_block(size: tuple[int, int, int], device: Any, **_: Any) -> Tensor:
    """Hide a corner of every image."""
    mask = torch.zeros(size, dtype=torch.bool, device=device)
    mask[:, :3, :5] = True
    return mask


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("simclr", {}),
        ("vicreg", {}),
        ("dino", {"centering": "mean"}),
        ("dino", {"centering": "sinkhorn"}),
        # KoLeo spreads the features of one process apart, as published.
        ("dinov2", {"spread_weight": 0.0}),
        ("mae", {}),
        ("supervised", {}),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(map(str, value.values())),
)
def test_two_processes_train_like_one(name, changes, tmp_path, monkeypatch):
    monkeypatch.setattr("recipes.mae.random_token_mask", same_tokens)
    monkeypatch.setattr("recipes.dinov2.random_block_mask", same_block)
    ((losses, weights),) = trained(name, tmp_path, 1, **changes)
    for shared_losses, shared_weights in trained(name, tmp_path, 2, **changes):
        assert shared_losses == pytest.approx(losses, rel=1e-4)
        assert shared_weights.keys() == weights.keys()
        for key, value in weights.items():
            torch.testing.assert_close(shared_weights[key], value, rtol=1e-3, atol=1e-5, msg=key)
    start = copies(make(name, backbone="vit_nano", **changes))
    moved = [(weights[k] - start[k]).abs().max() for k in weights if k.endswith("qkv.weight")]
    assert max(moved) > 1e-3  # much more than the processes may differ


class AfterStep(Callback):
    """Writes the number that each process would draw next."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_batch_end(self, trainer, *_) -> None:
        torch.save(torch.rand(()), self.folder / f"{trainer.global_rank}.pt")


def test_processes_draw_different_numbers(tmp_path):
    """Or else two processes would see the noise of one, twice."""
    callbacks = [AfterStep(tmp_path)]
    fit(make("simclr"), tmp_path, callbacks=callbacks, devices=2, strategy="ddp_fork", max_steps=1)
    drawn = [float(torch.load(tmp_path / f"{rank}.pt")) for rank in range(2)]
    assert drawn[0] != drawn[1]
