"""The model, its optimizer and one step of training."""

from __future__ import annotations

import pytest
import torch
from lightning import Trainer

from recipes.backbones import SmallResNet
from recipes.data import Factors
from recipes.optim import adamw_cosine
from recipes.simclr import SimCLR


@pytest.mark.parametrize("size", [32, 64])
def test_backbone_features(size):
    backbone = SmallResNet(width=8)
    features = backbone(torch.rand(2, 3, size, size))
    assert features.shape == (2, backbone.feature_dim) == (2, 32)


def test_two_steps_of_training_change_the_parameters():
    module = SimCLR(width=8, projection_dim=8, warmup_steps=1)
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    trainer = Trainer(
        accelerator="cpu",
        max_steps=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, Factors(batch_size=16, num_images=96))
    assert torch.isfinite(trainer.callback_metrics["train/loss"])
    unchanged = [name for name, p in module.named_parameters() if torch.equal(p, before[name])]
    assert unchanged == []


def test_the_loss_prefers_matching_views():
    """Identical views of distinct images score better than views of each other's images."""
    module = SimCLR(width=8, projection_dim=8)
    vectors = torch.eye(8)
    assert module.loss(vectors, vectors) < module.loss(vectors, vectors.roll(1, 0))


def test_weight_decay_spares_biases_and_norms():
    module = SimCLR(width=8)
    optimizer = adamw_cosine(
        module, learning_rate=0.1, weight_decay=0.5, warmup_steps=2, total_steps=6
    )["optimizer"]
    decayed, spared = optimizer.param_groups
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.5, 0.0)
    assert {p.ndim for p in decayed["params"]} == {2, 4}
    assert {p.ndim for p in spared["params"]} == {1}
    assert len(decayed["params"]) + len(spared["params"]) == len(list(module.parameters()))


def test_the_learning_rate_warms_up_and_decays():
    configured = adamw_cosine(
        torch.nn.Linear(2, 2), learning_rate=1.0, weight_decay=0.0, warmup_steps=2, total_steps=6
    )
    optimizer, schedule = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    rates = []
    for _ in range(7):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    expected = [0.5, 1.0, 1.0, 0.853553, 0.5, 0.146447, 0.0]
    assert rates == pytest.approx(expected, abs=1e-6)
