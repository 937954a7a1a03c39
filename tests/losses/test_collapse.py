"""The loss against a slow reference, its gradients, its invariances, and over two processes."""

from __future__ import annotations

import math
import os
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, multiprocessing

from dnc_lightning.functional import class_geometry, directional_cdnv, pair_bound
from dnc_lightning.losses import DirectionalCollapseLoss
from dnc_lightning.losses.collapse import directional_cdnv_of_batch


def batch(k: int = 4, d: int = 6, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.repeat_interleave(torch.arange(k), torch.arange(5, 5 + k))
    spread = torch.rand(k, d, generator=generator, dtype=torch.float64) + 0.2
    means = 2 * torch.randn(k, d, generator=generator, dtype=torch.float64)
    noise = torch.randn(len(labels), d, generator=generator, dtype=torch.float64)
    return means[labels] + noise * spread[labels] + 3, labels


def slow(x: np.ndarray, y: np.ndarray) -> list[float]:
    found = []
    for i, j in permutations(np.unique(y), 2):
        delta = x[y == i].mean(0) - x[y == j].mean(0)
        u = delta / np.linalg.norm(delta)
        found.append(float(((x[y == i] - x[y == i].mean(0)) @ u).var() / (delta @ delta)))
    return found


def test_it_is_the_mean_over_pairs_of_what_each_form_says() -> None:
    x, y = batch()
    values = np.array(slow(x.numpy(), y.numpy()))
    expected = {
        "mean": values.mean(),
        "bound": (4 * values / (1 + 4 * values)).mean(),
        "log": math.log10(values.mean() + 1e-8),
    }
    for form, value in expected.items():
        assert float(DirectionalCollapseLoss(form)(x, y)) == pytest.approx(value, rel=1e-12)


def test_it_agrees_with_the_probe() -> None:
    x, y = batch(5, 7)
    geometry = class_geometry(x, y)
    off = ~torch.eye(5, dtype=torch.bool)
    torch.testing.assert_close(directional_cdnv_of_batch(x, y), directional_cdnv(geometry)[off])
    for a, b in ((0, 1), (3, 2)):
        two = (y == a) | (y == b)
        limit = pair_bound(class_geometry(x[two], (y[two] == b).long()), 1, kind="limit")
        loss = DirectionalCollapseLoss()(x[two], y[two])
        assert float(loss) == pytest.approx(float(limit[[0, 1], [1, 0]].mean()), rel=1e-9)


def test_gradients_are_those_of_the_formula() -> None:
    x, y = batch(3, 4)
    for form in ("bound", "mean", "log"):
        loss = DirectionalCollapseLoss(form)
        assert torch.autograd.gradcheck(lambda z, loss=loss: loss(z, y), x.requires_grad_())


@settings(max_examples=25, deadline=None)
@given(scale=st.floats(1e-3, 1e3), shift=st.floats(-10, 10), seed=st.integers(0, 99))
def test_scale_shift_rotation_and_names_change_nothing(
    scale: float, shift: float, seed: int
) -> None:
    x, y = batch(seed=seed)
    turn = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64))[0]
    loss = DirectionalCollapseLoss()
    moved = loss(scale * (x @ turn) + shift, torch.tensor([7, 2, 5, 3])[y])
    assert float(moved) == pytest.approx(float(loss(x, y)), rel=1e-6)


def test_unlabelled_samples_and_small_classes_are_left_out() -> None:
    x, y = batch()
    loss = DirectionalCollapseLoss(min_samples=3)
    more = torch.cat([x, torch.randn(5, 6, dtype=torch.float64)])
    labels = torch.cat([y, torch.tensor([-1, -1, -7, 9, 9])])
    assert float(loss(more, labels)) == pytest.approx(float(loss(x, y)), rel=1e-12)


def test_where_there_is_nothing_to_compare_the_loss_is_0_and_training_goes_on() -> None:
    x = torch.randn(6, 3, requires_grad=True)
    for labels in (torch.zeros(6).long(), torch.arange(6), -torch.ones(6).long()):
        x.grad = None
        loss = DirectionalCollapseLoss()(x, labels)
        loss.backward()
        assert float(loss.detach()) == 0
        assert not x.grad.any()


def test_two_means_in_one_place_have_finite_gradients() -> None:
    x = torch.randn(8, 3).repeat(2, 1).requires_grad_()
    loss = DirectionalCollapseLoss()(x, torch.arange(16) // 8)
    loss.backward()
    assert bool(x.grad.isfinite().all())


def test_half_precision_is_cast_up() -> None:
    x, y = batch()
    for dtype, close in ((torch.bfloat16, 0.05), (torch.float16, 0.01), (torch.float32, 1e-5)):
        value = DirectionalCollapseLoss()(x.to(dtype), y)
        assert value.dtype == torch.float32
        assert float(value) == pytest.approx(float(DirectionalCollapseLoss()(x, y)), rel=close)


def test_an_offset_costs_no_digits() -> None:
    x, y = batch()
    far = (x + 3000).float()
    exact = DirectionalCollapseLoss("mean")(far.double(), y)
    assert float(DirectionalCollapseLoss("mean")(far, y)) == pytest.approx(float(exact), rel=1e-6)


def test_descent_shrinks_the_axes_and_leaves_the_rest() -> None:
    x, y = batch(3, 6)
    x = x.clone().requires_grad_()
    loss = DirectionalCollapseLoss()
    before = class_geometry(x.detach(), y)
    for _ in range(200):
        (slope,) = torch.autograd.grad(loss(x, y), x)
        x = (x - 2 * slope).detach().requires_grad_()
    after = class_geometry(x.detach(), y)
    assert float(loss(x, y).detach()) < 0.05
    # Two axes of six carry the means: more than half of the variance is off them, and stays.
    assert float(after.variance.mean()) > 0.4 * float(before.variance.mean())


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (torch.zeros(3), torch.zeros(3).long(), "must be"),
        (torch.zeros(3, 2), torch.zeros(4).long(), "must be"),
        (torch.zeros(3, 2), torch.zeros(3), "labels integers"),
        (torch.zeros(3, 2).long(), torch.zeros(3).long(), "floating point"),
    ],
)
def test_what_does_not_fit_is_refused(x: Tensor, y: Tensor, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        DirectionalCollapseLoss()(x, y)


@pytest.mark.parametrize(("form", "least"), [("other", 2), ("bound", 1), ("bound", 2.5)])
def test_arguments_are_checked(form: str, least: float) -> None:
    with pytest.raises(ValueError):
        DirectionalCollapseLoss(form, least)


def _step(rank: int, folder: Path) -> None:
    store = f"file://{folder / 'store'}"
    torch.distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    x, y = batch()
    x, y = x[:24].float(), y[:24]
    own = slice(rank, None, 2)
    part = x[own].clone().requires_grad_()
    loss = DirectionalCollapseLoss()(part, y[own])
    loss.backward()
    torch.save((loss.detach(), part.grad), folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_have_the_loss_and_the_gradients_of_one(tmp_path: Path) -> None:
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    multiprocessing.spawn(_step, args=(tmp_path,), nprocs=2)
    x, y = batch()
    x, y = x[:24].float().requires_grad_(), y[:24]
    loss = DirectionalCollapseLoss()(x, y)
    loss.backward()
    for rank in (0, 1):
        found, grad = torch.load(tmp_path / f"{rank}.pt")
        assert float(found) == pytest.approx(float(loss.detach()), rel=1e-6)
        # DDP takes the mean over processes, of which each has the whole loss.
        torch.testing.assert_close(grad / 2, x.grad[rank::2], rtol=1e-4, atol=1e-7)
