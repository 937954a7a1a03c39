from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from dnc_lightning.functional import VarianceDecomposition, variance_decomposition
from dnc_lightning.functional.few_shot import Shard
from tests.functional import reference
from tests.functional.shards import run_sharded

TOP = (1, 3, 100)
PAIRS = [(0, 1), (3, 1), (2, 3)]


def dense(x: np.ndarray, y: np.ndarray, a: int, b: int) -> tuple[float, list[float], float]:
    """From the D x D covariance, the axis projected out on both sides."""
    m = reference.moments(x, y)
    n_a, n_b = len(m.samples[a]), len(m.samples[b])
    sigma = (n_a * m.sigma[a] + n_b * m.sigma[b]) / (n_a + n_b)
    u = m.mu[a] - m.mu[b]
    u = u / np.sqrt(u @ u)
    out = np.eye(len(u)) - np.outer(u, u)
    spectrum = np.sort(np.linalg.eigvalsh(out @ sigma @ out))[::-1]
    return float(u @ sigma @ u), [float(spectrum[:k].sum()) for k in TOP], float(spectrum.sum())


def check(got: VarianceDecomposition, x: np.ndarray, y: np.ndarray, rtol: float) -> None:
    assert got.pairs.tolist() == [list(pair) for pair in PAIRS]
    for p, pair in enumerate(PAIRS):
        on_axis, top, orthogonal = dense(x, y, *pair)
        assert float(got.on_axis[p]) == pytest.approx(on_axis, rel=rtol)
        assert got.orthogonal_top[p].tolist() == pytest.approx(top, rel=rtol)
        assert float(got.orthogonal[p]) == pytest.approx(orthogonal, rel=rtol)
        assert float(got.total[p]) == pytest.approx(on_axis + orthogonal, rel=rtol)


def data(d: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    return reference.asymmetric(seed, (7, 12, 5, 9), d)


def decompose(x: np.ndarray | Tensor, y: np.ndarray) -> VarianceDecomposition:
    return variance_decomposition(torch.as_tensor(x), torch.as_tensor(y), pairs=PAIRS, top=TOP)


@pytest.mark.parametrize("d", [2, 6, 16, 40])
def test_against_a_dense_eigendecomposition(d: int) -> None:
    x, y = data(d)
    check(decompose(x, y), x, y, 1e-9)
    check(decompose(x.astype(np.float32), y), x.astype(np.float32), y, 1e-5)


def test_offset_rotation_scale_and_half_precision() -> None:
    x, y = data(40)
    far = (x + 1000 * x.std()).astype(np.float32)
    check(decompose(far, y), far, y, 1e-5)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(40, 40)))[0]
    plain, turned = decompose(x, y), decompose(3 * x @ turn, y)
    torch.testing.assert_close(turned.orthogonal_top, 9 * plain.orthogonal_top)
    torch.testing.assert_close(turned.on_axis, 9 * plain.on_axis)
    half = x.astype(np.float16)
    check(decompose(half, y), half, y, 1e-5)


@pytest.mark.parametrize("d", [6, 40])
def test_shards_give_the_same_numbers(d: int) -> None:
    x, y = data(d)
    features, labels = torch.as_tensor(x), torch.as_tensor(y)
    order = torch.randperm(33, generator=torch.Generator().manual_seed(0))
    parts = [order[:3], order[3:3], order[3:14], order[14:]]

    def work(rank: int, reduce: object) -> VarianceDecomposition:
        rows = parts[rank]
        shard = Shard(labels, rows, reduce)
        return variance_decomposition(
            features[rows], labels[rows], pairs=PAIRS, top=TOP, shard=shard
        )

    for got in run_sharded(work, len(parts)):
        check(got, x, y, 1e-9)


def test_no_axis_and_no_variance() -> None:
    x = torch.tensor([[0.0, 1], [0, -1], [0, 2], [0, -2], [5, 1], [5, 1]])
    y = torch.tensor([0, 0, 1, 1, 2, 2])
    got = variance_decomposition(x, y, pairs=torch.tensor([[0, 1], [0, 2]]))
    assert bool(got.on_axis.isnan()[0])
    assert bool(got.orthogonal_top[0].isnan().all())
    delta, spread = torch.tensor([5.0, 1]).double(), torch.tensor([0.0, 0.5]).double()
    on_axis = float((delta * spread.sqrt()).sum() ** 2 / 26)
    assert float(got.on_axis[1]) == pytest.approx(on_axis)
    assert got.orthogonal_top[1].tolist() == pytest.approx([0.5 - on_axis] * 3)
    still = variance_decomposition(x[[0, 0, 4, 4]], torch.tensor([0, 0, 1, 1]), pairs=[(0, 1)])
    assert still.total.tolist() == [0]
    assert variance_decomposition(x, y, pairs=[]).orthogonal_top.shape == (0, 3)


def test_bad_input() -> None:
    x, y = torch.randn(4, 3), torch.tensor([0, 0, 2, 2])
    with pytest.raises(ValueError, match=r"got \(0, 1\): class 1 has no samples"):
        variance_decomposition(x, y, pairs=[(0, 1)])
    with pytest.raises(ValueError, match=r"got \(2, 2\): they are the same"):
        variance_decomposition(x, y, pairs=[(2, 2)])
    with pytest.raises(ValueError, match=r"got \(0, 9\): class 9 has no samples"):
        variance_decomposition(x, y, pairs=[(0, 9)])
    with pytest.raises(ValueError, match=r"top must be integers of at least 1, got \(0, 2\)"):
        variance_decomposition(x, y, pairs=[(0, 2)], top=(0, 2))
