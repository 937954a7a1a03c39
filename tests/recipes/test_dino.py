"""DINO and DINOv2: the teacher is a moving average, and the loss is the papers'."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from lightning import Callback

from recipes.augment import Views
from recipes.self_distillation import SelfDistillation
from tests.recipes.runs import SGD, copies, fit, make

METHODS = ["dino", "dinov2"]
LOCAL = Views(count=4, size=16, min_scale=0.1, max_scale=0.4)


def pairs(state: dict[str, torch.Tensor]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Student and teacher of every stored value."""
    return [
        (value, state[key.replace("student_", "teacher_", 1)])
        for key, value in state.items()
        if key.startswith("student_")
    ]


class States(Callback):
    """Keeps what the module stores after every batch."""

    def __init__(self) -> None:
        self.kept: list[dict[str, torch.Tensor]] = []

    def on_train_batch_end(self, trainer, pl_module, *_) -> None:
        self.kept.append(copies(pl_module))
        assert all(p.grad is None for k, p in pl_module.named_parameters() if "teacher_" in k)


@pytest.mark.parametrize("name", METHODS)
def test_the_teacher_starts_as_the_student_and_is_frozen(name):
    module = make(name)
    found = pairs(copies(module))
    assert len(found) > 20
    assert all(torch.equal(student, teacher) for student, teacher in found)
    teacher = [p for key, p in module.named_parameters() if key.startswith("teacher_")]
    assert not any(p.requires_grad for p in teacher)
    stores = {p.data_ptr() for key, p in module.named_parameters() if key.startswith("student_")}
    assert not stores & {p.data_ptr() for p in teacher}


@pytest.mark.parametrize("accumulated", [1, 2])
@pytest.mark.parametrize("name", METHODS)
def test_the_teacher_is_a_moving_average(name, accumulated, tmp_path):
    """teacher <- m teacher + (1 - m) student before every step, m from 0.9 to 1 along a cosine."""
    module = make(name, teacher_momentum=0.9, optimization=SGD)
    states = States()
    fit(module, tmp_path, callbacks=[states], max_steps=4, accumulate_grad_batches=accumulated)
    after = states.kept[accumulated - 1 :: accumulated]
    parameters = {key for key, _ in module.named_parameters() if key.startswith("student_")}
    for step in (1, 2, 3):
        momentum = 1 - 0.1 * (math.cos(math.pi * step / 3) + 1) / 2
        moved = 0
        for key in parameters:
            teacher = key.replace("student_", "teacher_", 1)
            old, student = after[step - 1][teacher], after[step - 1][key]
            expected = momentum * old + (1 - momentum) * student
            torch.testing.assert_close(after[step][teacher], expected)
            moved += int(not torch.equal(after[step][teacher], old))
        assert (moved > 10) == (step < 3)


@pytest.mark.parametrize("centering", ["mean", "sinkhorn"])
@pytest.mark.parametrize("name", METHODS)
def test_local_views_are_optional(name, centering, tmp_path):
    local = replace(LOCAL, count=0)
    trainer = fit(make(name, local_views=local, centering=centering), tmp_path)
    assert math.isfinite(trainer.callback_metrics["train/loss"])


def test_dinov2_adds_its_three_losses(tmp_path):
    module = make("dinov2", patch_weight=0.5, spread_weight=0.25)
    metrics = fit(module, tmp_path, max_steps=1).callback_metrics
    parts = [metrics[f"train/{part}"] for part in ("dino", "ibot", "koleo")]
    torch.testing.assert_close(metrics["train/loss"], parts[0] + 0.5 * parts[1] + 0.25 * parts[2])
    # Untrained, over 16 clusters, and with patches hidden in half of the images:
    expected = [math.log(16), math.log(16) / 2]
    assert [float(part) for part in parts[:2]] == pytest.approx(expected, rel=0.5)


def test_every_teacher_view_teaches_all_other_views():
    """The average over pairs of different views, by a loop over numbers."""
    generator = torch.Generator().manual_seed(0)
    teacher = [torch.randn(5, 7, generator=generator) for _ in range(2)]
    student = [torch.randn(5, 7, generator=generator) for _ in range(4)]
    loss = SelfDistillation(7, "mean", teacher_temperature=0.5, student_temperature=0.2)
    loss.center.center = center = torch.randn(1, 7, generator=generator)
    terms = []
    for t in range(2):
        for s in range(4):
            if s != t:
                for row in range(5):
                    target = ((teacher[t][row] - center[0]) / 0.5).softmax(0)
                    terms.append(-(target * (student[s][row] / 0.2).log_softmax(0)).sum())
    torch.testing.assert_close(loss(teacher, student), torch.stack(terms).mean())
    mean = torch.cat(teacher).mean(0, keepdim=True)
    torch.testing.assert_close(loss.center.value, 0.9 * center + 0.1 * mean)


def test_balanced_targets_use_every_cluster_equally():
    logits = torch.randn(64, 8, generator=torch.Generator().manual_seed(0)) + 3 * torch.eye(8)[0]
    loss = SelfDistillation(8, "sinkhorn", teacher_temperature=0.5, student_temperature=0.1)
    targets = loss.targets(logits)
    torch.testing.assert_close(targets.sum(1), torch.ones(64))
    assert targets.sum(0).tolist() == pytest.approx([8] * 8, rel=0.25)
    plain = (logits / 0.5).softmax(1).sum(0)
    assert plain.max() > 20


def test_balanced_targets_do_not_overflow():
    loss = SelfDistillation(8, "sinkhorn", teacher_temperature=0.04, student_temperature=0.1)
    targets = loss.targets(100 * torch.randn(16, 8, generator=torch.Generator().manual_seed(0)))
    assert torch.isfinite(targets).all()
    torch.testing.assert_close(targets.sum(1), torch.ones(16))
