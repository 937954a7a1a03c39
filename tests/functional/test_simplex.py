"""NC1 and NC2 at known geometries, against slow references, and beside their floors."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from dnc_lightning.functional import class_geometry, nc1, simplex, simplex_floor
from dnc_lightning.functional.simplex import within_rank
from tests.functional.shards import run_sharded


def cloud(means: Tensor, n: int, spread: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Skewed samples around means [K, D], classes of unequal size, with an offset."""
    generator = torch.Generator().manual_seed(seed)
    k, d = means.shape
    labels = torch.cat([torch.full((n + j % 3,), j) for j in range(k)])
    labels = labels[torch.randperm(len(labels), generator=generator)]
    noise = torch.empty(len(labels), d, dtype=torch.float64).exponential_(generator=generator) - 1
    return means[labels] + spread * noise + 7.0, labels


def frame(k: int, d: int) -> Tensor:
    """K vertices of a simplex in D dimensions."""
    corners = torch.eye(k, dtype=torch.float64) - 1 / k
    turn = torch.linalg.qr(torch.randn(d, d, dtype=torch.float64))[0]
    return 3 * corners @ turn[:k]


def slow(x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """From the definitions, with D x D matrices, of the samples as they are."""
    k = y.max() + 1
    means = np.stack([x[y == j].mean(0) for j in range(k)])
    m = means - means.mean(0)
    within = np.mean([np.cov(x[y == j].T, bias=True) for j in range(k)], 0)
    between = m.T @ m / k
    norm = np.linalg.norm(m, axis=1)
    cos = [m[i] @ m[j] / norm[i] / norm[j] for i in range(k) for j in range(k) if i != j]
    gram = m @ m.T
    etf = (np.eye(k) - 1 / k) / math.sqrt(k - 1)
    unit = m / norm[:, None]
    energy = [
        -math.log(np.linalg.norm(unit[i] - unit[j])) for i in range(k) for j in range(k) if i != j
    ]
    return {
        "nc1": np.trace(within @ np.linalg.pinv(between, rcond=1e-10)) / k,
        "within_share": np.trace(within) / np.trace(within + between),
        "equinorm": norm.std() / norm.mean(),
        "equiangular": np.std(cos),
        "coherence": np.mean(np.abs(np.array(cos) + 1 / (k - 1))),
        "etf_distance": np.linalg.norm(gram / np.linalg.norm(gram) - etf),
        "log_energy": np.mean(energy) + math.log(2 * k / (k - 1)) / 2,
        "log_energy_spread": np.std(energy),
    }


@pytest.mark.parametrize(("k", "d"), [(5, 9), (12, 6), (2, 4)])
def test_every_number_is_that_of_its_definition(k: int, d: int) -> None:
    x, y = cloud(torch.randn(k, d, dtype=torch.float64), 9, 0.4)
    geometry = class_geometry(x, y)
    found = {**vars(simplex(geometry)), "nc1": nc1(x, y, geometry)}
    for name, expected in slow(x.numpy(), y.numpy()).items():
        assert float(found[name]) == pytest.approx(expected, rel=1e-7, abs=1e-9), name
    turned = x @ torch.linalg.qr(torch.randn(d, d, dtype=torch.float64))[0] * 5 - 3
    again = class_geometry(turned, y)
    for name, value in vars(simplex(again)).items():
        assert float(value) == pytest.approx(float(found[name]), rel=1e-6, abs=1e-8), name
    assert float(nc1(turned, y, again)) == pytest.approx(float(found["nc1"]), rel=1e-6)


def test_at_the_simplex_everything_is_zero() -> None:
    x, y = cloud(frame(6, 20), 8, 0.0)
    geometry = class_geometry(x, y)
    for name, value in vars(simplex(geometry)).items():
        assert float(value) == pytest.approx(6 if name == "told" else 0, abs=1e-6), name
    assert float(nc1(x, y, geometry)) == pytest.approx(0, abs=1e-9)
    # An orthogonal frame is the same simplex once it is centred.
    x, y = cloud(torch.eye(6, 20, dtype=torch.float64), 8, 0.0)
    assert float(simplex(class_geometry(x, y)).etf_distance) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("k", "d"), [(10, 512), (40, 512), (10, 2048)])
def test_random_means_lie_at_the_floor(k: int, d: int) -> None:
    means = 50 * torch.randn(k, d, dtype=torch.float64, generator=torch.Generator().manual_seed(k))
    x, y = cloud(means, 6, 0.01)
    found, floor = simplex(class_geometry(x, y, unbiased=True)), simplex_floor(k, d, 6)
    for name in ("equinorm", "equiangular", "coherence", "etf_distance"):
        assert float(getattr(found, name)) == pytest.approx(getattr(floor, name), rel=0.35), name


def test_noise_has_the_nc1_of_its_floor_and_a_share_of_one() -> None:
    y = torch.arange(200) % 10
    x = torch.randn(200, 300, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert float(nc1(x, y, class_geometry(x, y))) == pytest.approx(
        simplex_floor(10, 300, 20).nc1, rel=0.1
    )
    share = float(simplex(class_geometry(x, y, unbiased=True)).within_share)
    assert share == pytest.approx(1, abs=0.02)


def test_few_samples_do_not_pull_unbiased_numbers_towards_the_simplex() -> None:
    """Means of low rank are far from it, which the noise of ten samples hides."""
    generator = torch.Generator().manual_seed(0)
    low = torch.randn(20, 3, dtype=torch.float64, generator=generator)
    means = low @ torch.randn(3, 1024, dtype=torch.float64, generator=generator) / 8
    truth = float(simplex(class_geometry(*cloud(means, 4, 0.0))).etf_distance)
    x, y = cloud(means, 10, 1.0)
    plain = float(simplex(class_geometry(x, y)).etf_distance)
    unbiased = float(simplex(class_geometry(x, y, unbiased=True)).etf_distance)
    assert plain < truth - 0.1
    assert unbiased == pytest.approx(truth, abs=0.05)


def test_more_classes_than_dimensions_have_a_floor_by_rank() -> None:
    assert simplex_floor(10, 512, 5).etf_least == 0
    assert simplex_floor(1000, 384, 5).etf_least == pytest.approx(0.87, abs=0.01)
    assert math.isnan(simplex_floor(1000, 384, 5).nc1)


def test_shards_and_bad_input() -> None:
    x, y = cloud(torch.randn(4, 6, dtype=torch.float64), 7, 0.5)
    geometry = class_geometry(x, y)
    whole = float(nc1(x, y, geometry))
    parts = run_sharded(
        lambda rank, reduce: float(nc1(x[rank::2], y[rank::2], geometry, reduce=reduce)), 2
    )
    assert parts == pytest.approx([whole, whole], rel=1e-12)
    with pytest.raises(ValueError, match="NC1 has no unbiased form"):
        nc1(x, y, class_geometry(x, y, unbiased=True))
    same = torch.ones(12, 3, dtype=torch.float64)
    with pytest.warns(UserWarning, match="identical means"):
        flat = class_geometry(same, torch.arange(12) % 3)
    assert math.isnan(float(nc1(same, torch.arange(12) % 3, flat)))


def test_a_mean_at_the_centre_has_no_angles_and_the_others_keep_theirs() -> None:
    means = torch.cat([4 * frame(5, 9), torch.zeros(1, 9, dtype=torch.float64)])
    x, y = cloud(means, 200, 1.0)
    found = simplex(class_geometry(x, y, unbiased=True))
    assert int(found.told) == 5
    others = simplex(class_geometry(x[y < 5], y[y < 5], unbiased=True))
    # Centred on the mean of six, of which the sixth is at the centre: their angles stay.
    assert float(found.equiangular) == pytest.approx(float(others.equiangular), abs=0.01)
    assert math.isfinite(float(found.log_energy))
    assert int(others.told) == 5


def test_of_noise_alone_no_mean_is_told() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 30, generator=generator, dtype=torch.float64)
    found = simplex(class_geometry(x, torch.arange(200) % 10, unbiased=True))
    assert int(found.told) <= 1
    assert math.isnan(float(found.equiangular))
    assert math.isnan(float(found.log_energy))


def test_the_rank_within_classes_is_that_of_its_eigenvalues() -> None:
    x, y = cloud(torch.randn(4, 7, dtype=torch.float64), 30, 0.5)
    x = x * torch.linspace(0.2, 2, 7)
    geometry = class_geometry(x, y)
    pooled = sum(np.cov(x[y == k].numpy().T, bias=True) for k in range(4)) / 4
    share = np.linalg.eigvalsh(pooled)
    share /= share.sum()
    expected = math.exp(-float((share * np.log(share)).sum()))
    assert float(within_rank(x, y, geometry)) == pytest.approx(expected, rel=1e-9)
    for found in run_sharded(
        lambda rank, reduce: within_rank(x[rank::3], y[rank::3], geometry, reduce=reduce), 3
    ):
        assert float(found) == pytest.approx(expected, rel=1e-9)


def test_two_means_are_a_simplex_whatever_they_are() -> None:
    x, y = cloud(torch.randn(2, 7, dtype=torch.float64), 30, 0.5)
    found = simplex(class_geometry(x, y, unbiased=True))
    for name in ("equinorm", "equiangular", "coherence", "etf_distance"):
        assert float(getattr(found, name)) == pytest.approx(0, abs=1e-9)
