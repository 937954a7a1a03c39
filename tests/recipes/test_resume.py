"""A run that is stopped and resumed ends with the bits of one that was not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from dnc_lightning import LogSpacedCheckpoint, ProbeCallback
from dnc_lightning.records.store import read_run
from recipes.data import Factors
from tests.recipes.runs import RECIPES, assert_same, make, make_trainer


def run(
    name: str, root: Path, resume: Path | None = None, accumulated: int = 1, **changes: Any
) -> dict[str, Any]:
    """Train for nine steps, six batches an epoch; return the last checkpoint."""
    data = Factors(batch_size=16, num_images=96, num_probe_images=96, probe_per_class=6)
    probe = ProbeCallback(data.probe_set, metrics=["collapse"], every_n_train_steps=4)
    trainer = make_trainer(
        root,
        callbacks=[probe, LogSpacedCheckpoint()],
        max_steps=9,
        accumulate_grad_batches=accumulated,
    )
    module = make(name, **changes)
    if resume:  # other weights and another stream of random numbers: both must come from the file
        torch.manual_seed(1)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(1)
    trainer.fit(module, data, ckpt_path=resume)
    last: dict[str, Any] = torch.load(root / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["global_step"] == 9
    assert [r.step for r in read_run(root / "dnc" / "probe").records] == [0, 4, 8, 9]
    return last


def compare(unbroken: dict[str, Any], resumed: dict[str, Any]) -> None:
    for key in ("state_dict", "optimizer_states", "lr_schedulers"):
        assert_same(unbroken[key], resumed[key])


@pytest.mark.parametrize("name", RECIPES)
def test_a_resumed_run_is_bitwise_the_same(name, tmp_path):
    unbroken = run(name, tmp_path)
    compare(unbroken, run(name, tmp_path, tmp_path / "checkpoints" / "step-000004.ckpt"))


@pytest.mark.parametrize("name", ["dino"])
def test_a_resumed_run_is_bitwise_the_same_with_views_from_workers(name, tmp_path):
    unbroken = run(name, tmp_path, augment="workers")
    stop = tmp_path / "checkpoints" / "step-000008.ckpt"  # in the second epoch
    compare(unbroken, run(name, tmp_path, stop, augment="workers"))


def test_a_resumed_run_is_bitwise_the_same_with_accumulated_gradients(tmp_path):
    unbroken = run("dino", tmp_path, accumulated=2)
    stop = tmp_path / "checkpoints" / "step-000004.ckpt"
    compare(unbroken, run("dino", tmp_path, stop, accumulated=2))
