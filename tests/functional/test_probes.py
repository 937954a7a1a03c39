"""Nearest neighbours and linear probes against loops, refits and the optimum's own condition."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchmetrics.functional.classification import multiclass_accuracy

from dnc_lightning.functional import (
    Accuracy,
    TrainingSet,
    accuracy,
    half_of_each_class,
    knn_accuracy,
    knn_predict,
    logistic_probe,
    ridge_probe,
)
from dnc_lightning.functional import neighbours as module
from dnc_lightning.functional.few_shot import Shard
from tests.functional.shards import run_sharded


def data(
    counts: tuple[int, ...] = (31, 18, 25, 40), d: int = 9, apart: float = 0.45
) -> tuple[Tensor, Tensor]:
    """Overlapping classes with unequal units, around an offset, in random order."""
    rng = np.random.default_rng(sum(counts) + d)
    y = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    x = rng.normal(size=(len(y), d)) * np.arange(1, d + 1) ** -0.5
    x += apart * rng.normal(size=(len(counts), d))[y] + 2.0
    return torch.as_tensor(x), torch.as_tensor(y)


def slow_knn(x: np.ndarray, y: np.ndarray, k: int, temperature: float) -> list[int]:
    """The vote of the others for each sample, by loops."""
    out = []
    for i in range(len(x)):
        cosines = [
            (float(x[i] @ x[j] / np.linalg.norm(x[i]) / np.linalg.norm(x[j])), j)
            for j in range(len(x))
            if j != i
        ]
        votes = [0.0] * (int(y.max()) + 1)
        for cosine, j in sorted(cosines, reverse=True)[:k]:
            votes[y[j]] += math.exp(cosine / temperature)
        out.append(int(np.argmax(votes)))
    return out


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.07), (5, 0.07), (20, 0.07), (20, 3.0)])
def test_neighbours_match_loops(k: int, temperature: float) -> None:
    x, y = data()
    expected = slow_knn(x.numpy(), y.numpy(), k, temperature)
    found = knn_predict(x, x, y, k=k, temperature=temperature, left_out=torch.arange(len(x)))
    assert found.tolist() == expected
    score = knn_accuracy(x, y, k=k, temperature=temperature)
    assert float(score.top1) == np.mean(np.array(expected) == y.numpy())
    assert 0.3 < float(score.top1) < 0.95


@pytest.mark.parametrize("cut", [0, 50])
def test_a_part_of_the_samples_is_classified_by_all(cut: int) -> None:
    x, y = data()
    places = [0, 16, 32, 48, 65, 81, 97]  # 7 of 114
    predicted = torch.tensor(slow_knn(x.numpy(), y.numpy(), 20, 0.07))[places]
    expected = accuracy(predicted, y[places], 4)
    rows = [torch.arange(cut), torch.arange(cut, 114)]
    results = run_sharded(
        lambda rank, reduce: knn_accuracy(
            x[rows[rank]], y[rows[rank]], queries=7, shard=Shard(y, rows[rank], reduce)
        ),
        2,
    )
    for found in (knn_accuracy(x, y, queries=7), *results):
        torch.testing.assert_close(found.per_class, expected.per_class, equal_nan=True)
        assert found.top1_error == expected.top1_error


def test_a_bank_given_apart_votes_with_all_its_samples() -> None:
    x, y = data()
    assert knn_predict(x, x, y, k=1).tolist() == y.tolist()
    bank = slice(0, 60)
    found = knn_predict(x[60:], x[bank], y[bank], k=3)
    assert found.shape == (len(x) - 60,)
    assert float((found == y[60:]).double().mean()) > 0.4


def test_neither_scale_nor_chunks_change_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = data()
    expected = knn_accuracy(x, y)
    for changed in (x * 1e-30, x * 1e30, x * torch.rand(len(x), 1).double().add(0.1)):
        assert knn_accuracy(changed, y).top1 == expected.top1
    assert knn_accuracy(x, y, temperature=1e-4).top1.isfinite()
    monkeypatch.setattr(module, "CHUNK_ELEMENTS", 1)
    assert knn_accuracy(x, y).top1 == expected.top1


@pytest.mark.parametrize("cut", [0, 1, 50])
def test_shards_give_the_numbers_of_the_whole(cut: int) -> None:
    x, y = data()
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(4))
    rows = [order[:cut], order[cut:]]

    def work(rank: int, reduce: Callable[[Tensor], Tensor]) -> Accuracy:
        own = rows[rank]
        return knn_accuracy(x[own], y[own], shard=Shard(y, own, reduce))

    expected = knn_accuracy(x, y)
    for found in run_sharded(work, 2):
        assert torch.equal(found.per_class, expected.per_class)
        assert found.top1 == expected.top1


@pytest.mark.parametrize(
    ("kwargs", "match"),
    [
        ({"k": 114}, "k must be between 1 and the 113 samples that may vote, got 114"),
        ({"k": 0}, "k must be between 1"),
        ({"queries": 0}, "queries must be at least 1, or None for all samples, got 0"),
        ({"temperature": 0.0}, "temperature must be above 0, got 0.0"),
    ],
)
def test_bad_input_of_neighbours(kwargs: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        knn_accuracy(*data(), **kwargs)


def test_a_bank_of_another_dimension_is_refused() -> None:
    x, y = data()
    with pytest.raises(ValueError, match=r"one dimension, got \[114, 8\] and \[114, 9\]"):
        knn_predict(x[:, 1:], x, y)
    with pytest.raises(ValueError, match="at least two classes"):
        knn_accuracy(x, torch.zeros_like(y))


def test_accuracy_is_that_of_torchmetrics() -> None:
    _, y = data()
    guess = (y + (torch.rand(len(y), generator=torch.Generator().manual_seed(0)) < 0.4)) % 4
    found = accuracy(guess, y, 4)
    for average, value in (("micro", found.top1), ("macro", found.balanced)):
        expected = multiclass_accuracy(guess, y, 4, average=average)
        assert float(value) == pytest.approx(float(expected), rel=1e-6)
    each = multiclass_accuracy(guess, y, 4, average=None)
    torch.testing.assert_close(found.per_class.float(), each)
    assert found.balanced != found.top1


def test_standard_errors_are_those_of_many_draws() -> None:
    rng, rates, counts = np.random.default_rng(0), np.array([0.9, 0.5, 0.2]), [40, 80, 20]
    y = torch.arange(3).repeat_interleave(torch.tensor(counts))
    draws = []
    for _ in range(3_000):
        right = torch.as_tensor(rng.random(len(y)) < rates[y.numpy()])
        draws.append(accuracy(torch.where(right, y, (y + 1) % 3), y, 3))
    for name in ("top1", "balanced"):
        values = torch.stack([getattr(one, name) for one in draws])
        errors = torch.stack([getattr(one, f"{name}_error") for one in draws])
        spread = float(values.std())
        # Top-1 takes samples for draws from one pot, which is more than within given classes.
        assert spread * 0.95 < float(errors.mean()) < spread * (1.25 if name == "top1" else 1.05)


def test_a_class_without_samples_is_left_out_of_the_balanced_accuracy() -> None:
    found = accuracy(torch.tensor([0, 0, 2]), torch.tensor([0, 2, 2]), 3)
    assert float(found.balanced) == 0.75
    assert found.per_class.isnan().tolist() == [False, True, False]
    assert float(found.balanced_error) == pytest.approx(math.sqrt(0.25 / 2) / 2)


def test_halves_of_each_class() -> None:
    _, y = data((31, 18, 2, 3))
    train = half_of_each_class(y)
    assert torch.bincount(y[train]).tolist() == [16, 9, 1, 2]
    assert torch.equal(train, half_of_each_class(y))
    other = half_of_each_class(y, torch.Generator().manual_seed(1))
    assert torch.bincount(y[other]).tolist() == [16, 9, 1, 2]
    assert not torch.equal(train, other)
    with pytest.raises(ValueError, match=r"class 2 has one sample.* at least two"):
        half_of_each_class(torch.tensor([0, 0, 1, 1, 2]))


def slow_ridge(x: np.ndarray, t: np.ndarray, penalty: float) -> tuple[np.ndarray, np.ndarray]:
    """Weights and bias that solve the normal equations with a free bias."""
    n, d = x.shape
    full = np.c_[x, np.ones(n)]
    solved = np.linalg.solve(full.T @ full + penalty * np.diag([1.0] * d + [0.0]), full.T @ t)
    return solved[:-1], solved[-1]


@pytest.mark.parametrize("d", [9, 130])
def test_ridge_matches_refits_without_each_sample(d: int) -> None:
    x, y = data(d=d, apart=0.4)
    fit = TrainingSet.build(x, y)
    penalties = (0.1, 10.0, 1_000.0)
    probe = ridge_probe(fit, penalties)
    target, errors = np.eye(4)[y.numpy()], []
    for penalty in penalties:
        left = 0.0
        for i in range(len(x)):
            keep = np.arange(len(x)) != i
            weight, bias = slow_ridge(x.numpy()[keep], target[keep], penalty * fit.unit_variance)
            left += float(((x.numpy()[i] @ weight + bias - target[i]) ** 2).sum())
        errors.append(left)
    best = penalties[int(np.argmin(errors))]
    assert probe.penalty == pytest.approx(best * fit.unit_variance)
    weight, bias = slow_ridge(x.numpy(), target, probe.penalty)
    np.testing.assert_allclose(
        probe.scores(x).numpy(), x.numpy() @ weight + bias, rtol=1e-6, atol=1e-9
    )


def slow_gradient(x: np.ndarray, y: np.ndarray, weight: np.ndarray, bias: np.ndarray,
                  penalty: float) -> np.ndarray:  # fmt: skip
    """Of the sum of cross-entropies + penalty/2 |weight|^2, largest entry."""
    score = x @ weight + bias
    p = np.exp(score - score.max(1, keepdims=True))
    rest = p / p.sum(1, keepdims=True) - np.eye(weight.shape[1])[y]
    return max(abs(x.T @ rest + penalty * weight).max(), abs(rest.sum(0)).max())


@pytest.mark.parametrize("d", [9, 130])
@pytest.mark.parametrize("penalty", [0.1, 1.0, 100.0])
def test_logistic_regression_ends_where_its_gradient_is_none(d: int, penalty: float) -> None:
    x, y = data(d=d)
    fit = TrainingSet.build(x, y)
    probe = logistic_probe(fit, penalty=penalty, iterations=1_000)
    # With more units than samples every class is apart, and the last digits come slowly.
    assert probe.converged or d > len(x)
    assert probe.penalty == pytest.approx(penalty * fit.unit_variance)
    weight = probe.weight.numpy()
    bias = (probe.bias - probe.mean @ probe.weight).numpy()
    start = slow_gradient(x.numpy(), y.numpy(), 0 * weight, 0 * bias, probe.penalty)
    end = slow_gradient(x.numpy(), y.numpy(), weight, bias, probe.penalty)
    assert end < 1e-5 * start
    single = logistic_probe(TrainingSet.build(x.float(), y), penalty=penalty, iterations=1_000)
    assert single.converged
    torch.testing.assert_close(
        single.scores(x).softmax(1), probe.scores(x).softmax(1), atol=1e-3, rtol=0
    )


@pytest.mark.parametrize("fitted", [ridge_probe, logistic_probe])
def test_what_changes_no_prediction_of_a_linear_probe(fitted: Any) -> None:
    x, y = data()
    expected = fitted(TrainingSet.build(x, y)).scores(x).softmax(1)
    turn = torch.linalg.qr(torch.randn(9, 9, generator=torch.Generator().manual_seed(0))).Q.double()
    for changed in (x @ turn, x + 1_000, x * 1e-30, x * 1e30):
        found = fitted(TrainingSet.build(changed, y)).scores(changed).softmax(1)
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("fitted", [ridge_probe, logistic_probe])
def test_edges_of_linear_probes(fitted: Any) -> None:
    x, y = data()
    constant = fitted(TrainingSet.build(torch.full_like(x, 3.0), y))
    assert (constant.scores(torch.full_like(x, 3.0)).argmax(1) == 3).all()  # the largest class
    line = torch.randn(114, 1, generator=torch.Generator().manual_seed(0)).double()
    deficient = torch.cat([line, 2 * line, line - line], 1) + y[:, None]
    assert fitted(TrainingSet.build(deficient, y)).scores(deficient).isfinite().all()
    few = fitted(TrainingSet.build(x[:6], y[:6], 4))
    assert few.scores(x).isfinite().all()
    assert few.scores(x).shape == (114, 4)


def test_bad_input_of_linear_probes() -> None:
    x, y = data()
    with pytest.raises(ValueError, match="at least two classes"):
        TrainingSet.build(x, torch.zeros_like(y))
    with pytest.raises(ValueError, match="at least two samples"):
        TrainingSet.build(x[:1], y[:1], 4)
    with pytest.raises(ValueError, match="labels must be integers"):
        TrainingSet.build(x, y[:-1])


def test_steps_that_end_too_early_are_told() -> None:
    assert not logistic_probe(TrainingSet.build(*data()), iterations=2).converged


def test_random_states_are_left_alone() -> None:
    x, y = data()
    state = torch.get_rng_state()
    train = half_of_each_class(y)
    logistic_probe(TrainingSet.build(x[train], y[train]))
    assert torch.equal(state, torch.get_rng_state())
