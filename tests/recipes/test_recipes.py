"""What every recipe keeps to: it trains all it has, on both kinds of views, and refuses clearly."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import torch
from torch import nn

from recipes.data import Factors
from recipes.optim import Optimization
from recipes.simclr import SimCLR
from tests.recipes.runs import RECIPES, copies, fit, make


@pytest.mark.parametrize("augment", ["device", "workers"])
@pytest.mark.parametrize("name", RECIPES)
def test_two_steps_change_every_trainable_parameter(name, augment, tmp_path):
    module = make(name, augment=augment)
    before = copies(module)
    trainer = fit(module, tmp_path)
    assert math.isfinite(trainer.callback_metrics["train/loss"])
    trainable = [key for key, p in module.named_parameters() if p.requires_grad]
    after = module.state_dict()
    assert [key for key in trainable if torch.equal(before[key], after[key])] == []
    frozen = {key for key, p in module.named_parameters() if not p.requires_grad}
    own = [key for key in frozen if not key.startswith("teacher_")]
    assert [key for key in own if not torch.equal(before[key], after[key])] == []


@pytest.mark.parametrize("name", RECIPES)
def test_images_become_feature_vectors(name):
    module = make(name).eval()
    images = torch.rand(5, 3, 32, 32)
    features = module(images)
    backbone = getattr(module, "backbone", None) or module.student_backbone
    assert features.shape == (5, backbone.feature_dim)
    torch.testing.assert_close(module(images[1:3]), features[1:3])


@pytest.mark.parametrize("name", RECIPES)
def test_a_saved_recipe_is_rebuilt_from_its_checkpoint(name, tmp_path):
    module = make(name)
    trainer = fit(module, tmp_path, max_steps=1)
    trainer.save_checkpoint(tmp_path / "one.ckpt")
    rebuilt = type(module).load_from_checkpoint(tmp_path / "one.ckpt", weights_only=True)
    assert rebuilt.hparams == module.hparams
    for key, value in module.state_dict().items():
        assert torch.equal(rebuilt.state_dict()[key], value), key


@pytest.mark.parametrize("name", ["simclr", "vicreg", "dinov2"])
def test_a_batch_too_small_for_the_method_is_refused(name, tmp_path):
    with pytest.raises(
        ValueError, match=r"at least 2 images per batch .* got batch_size=1\. Raise"
    ):
        fit(make(name), tmp_path, Factors(batch_size=1, num_images=96))


def test_a_run_without_end_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"has no end.*Set trainer\.max_steps"):
        fit(make("simclr"), tmp_path, max_steps=-1, max_epochs=-1)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"task": None}, r"no task None. Set model.task to 'colour' or 'shape' or 'size' or"),
        ({"task": "weight"}, "no task 'weight'"),
        ({"num_classes": 5}, r"5 outputs, the task 4 classes. Set model.num_classes=4"),
    ],
)
def test_a_classifier_must_fit_the_labels(settings, match, tmp_path):
    with pytest.raises(ValueError, match=match):
        fit(make("supervised", **settings), tmp_path)


def test_a_classifier_learns_its_task(tmp_path):
    losses = []
    for steps in (1, 30):
        module = make("supervised", optimization=Optimization(learning_rate=0.1))
        trainer = fit(module, tmp_path, max_steps=steps)
        losses.append(float(trainer.callback_metrics["train/loss"]))
    assert losses[1] < 0.7 * losses[0]


def test_matching_views_score_better_than_each_others():
    simclr = make("simclr")
    vectors = torch.eye(8)
    assert simclr.loss(vectors, vectors) < simclr.loss(vectors, vectors.roll(1, 0))


def test_vicreg_weighs_its_three_terms():
    """Against the paper's formulas, with weights that tell the terms apart."""
    module = make("vicreg", invariance=3.0, variance=5.0, covariance=7.0)
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 6, 4, generator=generator, dtype=torch.float64) * 0.7
    expected = 3.0 * (a - b).square().mean()
    for vectors in (a, b):
        spread = (vectors.var(0) + 1e-4).sqrt()
        expected += 5.0 * 0.5 * torch.relu(1 - spread).mean()
        covariance = torch.cov(vectors.T)
        off = covariance - covariance.diag().diag()
        expected += 7.0 * off.square().sum() / 4
    torch.testing.assert_close(module.loss(a, b), expected)


class Drawn(SimCLR):
    """Keeps numbers from all three generators, as a step finds them."""

    def training_step(self, batch, batch_index):
        if not hasattr(self, "drawn"):
            self.drawn = []
        self.drawn.append((random.random(), float(np.random.rand()), float(torch.rand(()))))
        return super().training_step(batch, batch_index)


def test_every_batch_draws_its_own_numbers_and_a_seed_repeats_them(tmp_path):
    def drawn(**changes):
        module = Drawn(backbone="small_resnet8")
        fit(module, tmp_path, **changes)
        return module.drawn

    make("simclr")  # sets the seed
    steps = drawn(max_steps=4)
    assert len({number for step in steps for number in step}) == 12
    random.random()
    assert drawn(max_steps=4) == steps
    halves = drawn(max_steps=2, accumulate_grad_batches=2)
    assert len({number for step in halves for number in step}) == 12
    assert halves[::2] == steps[:2]


def test_one_pass_per_view_keeps_batch_norm_apart():
    """The two views do not share the statistics of BatchNorm."""
    module = make("simclr")
    norm = next(m for m in module.modules() if isinstance(m, nn.BatchNorm2d))
    seen = []
    norm.register_forward_hook(lambda _m, inputs, _out: seen.append(len(inputs[0])))
    module.log = lambda *_args, **_kwargs: None
    module.training_step((torch.rand(6, 3, 32, 32), None), 0)
    assert seen == [6, 6]
