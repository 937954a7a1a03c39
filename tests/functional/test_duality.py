"""NC3 and NC4 at known heads, against slow references, sharded, and where nothing is decided."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from dnc_lightning.functional import class_geometry
from dnc_lightning.functional.duality import duality, head_decisions, least_squares_duality
from dnc_lightning.functional.few_shot import Shard
from dnc_lightning.functional.linear_probe import half_of_each_class
from tests.functional.shards import run_sharded
from tests.functional.test_simplex import cloud, frame


def example(k: int = 4, d: int = 6, n: int = 40, spread: float = 1.0) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(3)
    means = 2 * torch.randn(k, d, generator=generator, dtype=torch.float64)
    x, y = cloud(means, n, spread)
    weight = torch.randn(k, d, generator=generator, dtype=torch.float64) + means
    return x, y, weight, torch.randn(k, generator=generator, dtype=torch.float64)


def slow_duality(x: np.ndarray, y: np.ndarray, w: np.ndarray) -> list[float]:
    m = np.stack([x[y == j].mean(0) for j in range(y.max() + 1)])
    m, w = m - m.mean(0), w - w.mean(0)
    cos = [m[j] @ w[j] / np.linalg.norm(m[j]) / np.linalg.norm(w[j]) for j in range(len(m))]
    gap = w / np.linalg.norm(w) - m / np.linalg.norm(m)
    return [float((gap**2).sum()), float(np.mean(cos)), float(np.std(cos))]


def test_duality_matches_its_definition() -> None:
    x, y, w, _ = example()
    found = duality(w, class_geometry(x, y))
    got = [float(v) for v in (found.distance, found.cosine, found.cosine_spread)]
    assert got == pytest.approx(slow_duality(x.numpy(), y.numpy(), w.numpy()), rel=1e-9)


def test_what_all_rows_share_and_how_long_they_are_changes_nothing() -> None:
    x, y, w, _ = example()
    geometry = class_geometry(x, y)
    moved = duality(30 * w + torch.randn(6, dtype=torch.float64), geometry)
    assert float(moved.distance) == pytest.approx(float(duality(w, geometry).distance), rel=1e-9)


def test_a_head_along_the_means_is_dual() -> None:
    means = frame(5, 9)
    x, y = cloud(means, 30, 0.0)
    found = duality(0.3 * means, class_geometry(x, y))
    assert float(found.distance) == pytest.approx(0, abs=1e-9)
    assert float(found.cosine) == pytest.approx(1)
    opposite = duality(-means, class_geometry(x, y))
    assert float(opposite.distance) == pytest.approx(4)


def test_few_samples_do_not_look_like_disagreement() -> None:
    means = 2 * torch.randn(6, 200, generator=torch.Generator().manual_seed(0)).double()
    plain, unbiased = [], []
    for seed in range(20):
        x, y = cloud(means, 5, 3.0, seed)
        plain.append(float(duality(means, class_geometry(x, y)).distance))
        unbiased.append(float(duality(means, class_geometry(x, y, unbiased=True)).distance))
    error = np.std(unbiased) / math.sqrt(len(unbiased))
    assert abs(np.mean(unbiased)) < 4 * error
    assert np.mean(plain) > 0.2  # of means that are mostly noise


def slow_decisions(x: Tensor, y: Tensor, w: Tensor, b: Tensor) -> list[float]:
    first, k = half_of_each_class(y), len(w)
    centres = {
        side: torch.stack([x[(first == side) & (y == j)].mean(0) for j in range(k)])
        for side in (True, False)
    }
    counts = np.zeros(3)
    for i in range(len(x)):
        others = centres[not bool(first[i])]
        centre = int((others - x[i]).square().sum(1).argmin())
        head = int((w @ x[i] + b).argmax())
        counts += [centre != head, head == int(y[i]), centre == int(y[i])]
    return list(counts / len(x))


@pytest.mark.parametrize("spread", [0.5, 3.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_decisions_match_loops(spread: float, dtype: torch.dtype) -> None:
    x, y, w, b = example(spread=spread)
    found = head_decisions(x.to(dtype), y, w, b)
    got = [float(v) for v in (found.mismatch, found.head, found.centre)]
    assert got == pytest.approx(slow_decisions(x, y, w, b), abs=1e-12)


def test_a_constant_encoder_agrees_by_chance() -> None:
    y = torch.arange(40) % 4
    found = head_decisions(torch.ones(40, 3), y, torch.randn(4, 3), torch.zeros(4))
    assert float(found.mismatch) == pytest.approx(0.75)
    assert float(found.centre) == pytest.approx(0.25)


def test_least_squares_matches_its_definition_and_is_zero_where_features_are_isotropic() -> None:
    x, y, _, _ = example(n=60)
    first = half_of_each_class(y).numpy()
    values = []
    for side in (True, False):
        a, ya, b, yb = (v.numpy() for s in (side, not side) for v in (x[first == s], y[first == s]))
        ma, mb = (np.stack([v[t == j].mean(0) for j in range(4)]) for v, t in ((a, ya), (b, yb)))
        within = np.mean([np.cov(a[ya == j].T, bias=True) for j in range(4)], 0)
        ma, mb = ma - ma.mean(0), mb - mb.mean(0)
        total = within + ma.T @ ma / 4
        head = ma @ np.linalg.inv(total + 1e-3 * np.trace(total) / 6 * np.eye(6))
        gap = head / np.linalg.norm(head) - mb / np.linalg.norm(mb)
        values.append((gap**2).sum())
    assert float(least_squares_duality(x, y, 4)) == pytest.approx(np.mean(values), rel=1e-9)
    means = 0.01 * frame(4, 6)
    noise = torch.randn(40_000, 6, generator=torch.Generator().manual_seed(0)).double()
    labels = torch.arange(40_000) % 4
    whole = means[labels] * 300 + noise  # far apart along equal axes, little else
    assert float(least_squares_duality(whole, labels, 4)) < 0.05


def test_shards_give_the_numbers_of_the_whole() -> None:
    x, y, w, b = example(n=60)
    rows = [torch.arange(len(x))[torch.arange(len(x)) % 3 != 1], torch.arange(1, len(x), 3)]
    alone = head_decisions(x, y, w, b), least_squares_duality(x, y, 4)

    def part(rank: int, reduce: object) -> tuple[Tensor, ...]:
        shard = Shard(y, rows[rank], reduce)  # type: ignore[arg-type]
        here = x[rows[rank]], y[rows[rank]]
        found = head_decisions(*here, w, b, shard=shard)
        least = least_squares_duality(*here, 4, shard=shard)
        return found.mismatch, found.head, found.centre, least

    expected = [alone[0].mismatch, alone[0].head, alone[0].centre, alone[1]]
    for got in run_sharded(part, 2):
        assert [float(v) for v in got] == pytest.approx([float(v) for v in expected], rel=1e-9)


def test_bad_input() -> None:
    x, y, w, b = example()
    with pytest.raises(ValueError, match=r"must be \[4, 6\]"):
        duality(w[:3], class_geometry(x, y))
    with pytest.raises(ValueError, match="takes features of length 5"):
        head_decisions(x, y, w[:, :5], b)
    with pytest.raises(ValueError, match="has one sample"):
        head_decisions(x[:5], torch.tensor([0, 0, 1, 1, 2]), w[:3], b[:3])
    assert math.isnan(float(least_squares_duality(x[:30], y[:30] % 2, 2)))
