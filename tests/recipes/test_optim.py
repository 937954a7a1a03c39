"""Optimizer and schedule: who decays, who learns, how fast and when."""

from __future__ import annotations

import pytest
import torch
from lightning import Callback
from torch import nn

from recipes.data import Factors
from recipes.optim import Optimization, configure
from tests.recipes.runs import RECIPES, copies, fit, make


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("vit", [False, True])
def test_trainable_parameters_are_in_one_group_and_biases_and_norms_do_not_decay(name, vit):
    module = make(name, backbone="vit_nano") if vit else make(name)
    settings = Optimization(weight_decay=0.3)
    optimizer = configure(module, settings, global_batch=8, total_steps=4)["optimizer"]
    decayed, spared = optimizer.param_groups
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.3, 0.0)
    grouped = [id(p) for group in optimizer.param_groups for p in group["params"]]
    trainable = [id(p) for p in module.parameters() if p.requires_grad]
    assert sorted(grouped) == sorted(trainable)
    names = {id(p): key for key, p in module.named_parameters()}
    assert not any(names[key].startswith("teacher_") for key in grouped)
    assert not any(p.ndim == 1 for p in decayed["params"])
    norms = (nn.LayerNorm, nn.BatchNorm1d, nn.BatchNorm2d)
    tender = {
        id(p)
        for m in module.modules()
        for key, p in m.named_parameters(recurse=False)
        if p.requires_grad and (isinstance(m, norms) or key == "bias")
    }
    assert {id(p) for p in spared["params"]} == tender


class Rates(Callback):
    """Notes the learning rate that each step uses."""

    def __init__(self) -> None:
        self.used: list[float] = []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer) -> None:
        self.used.append(optimizer.param_groups[0]["lr"])


def test_the_learning_rate_warms_up_to_its_peak_and_ends_at_zero(tmp_path):
    settings = Optimization(learning_rate=2.0, warmup=0.4)
    fit(make("simclr", optimization=settings), tmp_path, callbacks=[rates := Rates()], max_steps=10)
    peak = 2.0 * 16 / 256
    assert rates.used[:4] == pytest.approx([peak / 4, peak / 2, peak * 3 / 4, peak])
    expected = [peak * (1 + torch.tensor(torch.pi * k / 5).cos().item()) / 2 for k in range(6)]
    assert rates.used[4:] == pytest.approx(expected, abs=1e-7)
    assert rates.used[-1] == 0


@pytest.mark.parametrize(("batch", "accumulated"), [(16, 1), (32, 1), (16, 3)])
def test_the_learning_rate_is_proportional_to_the_global_batch(batch, accumulated, tmp_path):
    fit(
        make("simclr", optimization=Optimization(learning_rate=1.0, warmup=0.0)),
        tmp_path,
        Factors(batch_size=batch, num_images=96),
        callbacks=[rates := Rates()],
        accumulate_grad_batches=accumulated,
    )
    assert rates.used[0] == pytest.approx(batch * accumulated / 256)


@pytest.mark.parametrize("name", ["adamw", "lars", "sgd"])
def test_every_optimizer_trains(name, tmp_path):
    module = make("simclr", optimization=Optimization(name=name, learning_rate=0.1))
    before = copies(module)
    fit(module, tmp_path, max_steps=3)
    same = [k for k, p in module.named_parameters() if torch.equal(before[k], p)]
    assert same == []
    assert all(torch.isfinite(p).all() for p in module.parameters())
