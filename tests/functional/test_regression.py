"""NRC1 to NRC3, the read-out, and ordered classes: slow references and known geometries."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.stats import kendalltau
from torch import Tensor

from dnc_lightning.functional import class_geometry
from dnc_lightning.functional.regression import (
    linear_read_out,
    ordinal_collapse,
    regression_collapse,
)
from tests.functional.shards import run_sharded
from tests.functional.test_simplex import cloud


def example(noise: float = 0.5, n: int = 3, d: int = 9, size: int = 200) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(4)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    y = normal(size, n) @ normal(n, n) + 2
    x = y @ normal(n, d) + noise * normal(size, d) * torch.linspace(0.5, 2, d) + 7
    return x, y, normal(n, d)


def slow(x: np.ndarray, y: np.ndarray, w: np.ndarray) -> list[float]:
    h = x - x.mean(0)
    unit = h / np.linalg.norm(h, axis=1, keepdims=True)
    n = y.shape[1]
    axes = np.linalg.svd(h, full_matrices=False)[2][:n]
    nrc1 = np.mean(np.sum((unit - unit @ axes.T @ axes) ** 2, 1))
    onto = w.T @ np.linalg.inv(w @ w.T) @ w
    nrc2 = np.mean(np.sum((unit - unit @ onto) ** 2, 1))
    values, vectors = np.linalg.eigh(np.cov(y.T, bias=True))
    root = vectors @ np.diag(np.sqrt(values)) @ vectors.T
    gram = w @ w.T / np.linalg.norm(w @ w.T)

    def gap(c: float) -> float:
        other = root - c * np.eye(n)
        return float(np.sum((gram - other / np.linalg.norm(other)) ** 2))

    grid = np.linspace(0, np.sqrt(values[0]) * (1 - 1e-9), 2001)
    near = grid[np.argmin([gap(c) for c in grid])]
    step = grid[1]
    found = minimize_scalar(gap, bounds=(max(0, near - step), min(grid[-1], near + step)),
                            method="bounded", options={"xatol": 1e-12})  # fmt: skip
    return [nrc1, nrc2, min(found.fun, gap(0.0), gap(grid[-1]))]


@pytest.mark.parametrize("seed", range(4))
def test_nrc_matches_its_definition(seed: int) -> None:
    x, y, w = example(n=2 + seed % 2)
    w = w + seed * y.T @ (x - x.mean(0)) / len(x) / 20
    found = regression_collapse(x, y, w)
    got = [float(v) for v in (found.off_plane, found.off_head, found.head)]
    assert got == pytest.approx(slow(x.numpy(), y.numpy(), w.numpy()), rel=1e-5, abs=1e-9)


def test_collapsed_features_are_0_whatever_their_offset() -> None:
    generator = torch.Generator().manual_seed(1)
    y = torch.randn(100, 2, generator=generator, dtype=torch.float64)
    covariance = torch.cov(y.T, correction=0)
    values, axes = torch.linalg.eigh(covariance)
    root = (axes * values.sqrt()) @ axes.T
    # Theorem: W W^T is a multiple of the root less a constant, and features lie on its rows.
    gram = root - 0.3 * values[0].sqrt() * torch.eye(2)
    w = torch.linalg.cholesky(gram) @ torch.linalg.qr(torch.randn(7, 2).double())[0].T
    x = y @ w + 50
    found = regression_collapse(x, y, w)
    assert float(found.off_plane) == pytest.approx(0, abs=1e-9)
    assert float(found.off_head) == pytest.approx(0, abs=1e-9)
    assert float(found.head) == pytest.approx(0, abs=1e-9)


def test_noise_is_off_the_plane_by_its_dimensions() -> None:
    x = torch.randn(4000, 20, generator=torch.Generator().manual_seed(0))
    y = torch.randn(4000, 2, generator=torch.Generator().manual_seed(1))
    found = regression_collapse(x, y, torch.randn(2, 20))
    assert float(found.off_plane) == pytest.approx(1 - 2 / 20, abs=0.02)
    assert float(found.off_head) == pytest.approx(1 - 2 / 20, abs=0.02)
    assert abs(float(linear_read_out(x, y, torch.arange(4000) % 2 == 0))) < 0.03


def test_scale_offset_and_rotation_change_nothing() -> None:
    x, y, w = example()
    turn = torch.linalg.qr(torch.randn(9, 9, dtype=torch.float64))[0]
    one, two = regression_collapse(x, y, w), regression_collapse(5 * x @ turn - 3, y, 2 * w @ turn)
    for name in ("off_plane", "off_head", "head"):
        assert float(getattr(two, name)) == pytest.approx(float(getattr(one, name)), rel=1e-6)
    half = torch.arange(200) % 2 == 0
    read = float(linear_read_out(x, y, half))
    assert float(linear_read_out(5 * x @ turn - 3, 4 * y + 1, half)) == pytest.approx(
        read, rel=1e-4
    )


def test_one_target_has_no_nrc3_and_collinear_ones_neither() -> None:
    x, y, w = example()
    assert math.isnan(float(regression_collapse(x, y[:, :1], w[:1]).head))
    twice = torch.stack([y[:, 0], 2 * y[:, 0]], 1)
    found = regression_collapse(x, twice, w[:2])
    assert math.isnan(float(found.head))
    assert math.isfinite(float(found.off_plane))


def test_without_a_head_the_rest_is_nan() -> None:
    x, y, _ = example()
    found = regression_collapse(x, y)
    assert math.isfinite(float(found.off_plane))
    assert math.isnan(float(found.off_head))
    assert math.isnan(float(found.head))


def test_the_read_out_is_least_squares_on_the_other_half() -> None:
    x, y, _ = example(noise=1.0)
    half = torch.arange(200) % 3 == 0
    expected = []
    for one in (half, ~half):
        a = np.c_[x[one].numpy(), np.ones(int(one.sum()))]
        weight = np.linalg.lstsq(a, y[one].numpy(), rcond=None)[0]
        b = np.c_[x[~one].numpy(), np.ones(int((~one).sum()))]
        rest = y[~one].numpy()
        left = ((rest - b @ weight) ** 2).sum(0) / ((rest - rest.mean(0)) ** 2).sum(0)
        expected.append(np.mean(1 - left))
    assert float(linear_read_out(x, y, half)) == pytest.approx(np.mean(expected), rel=1e-4)
    few = torch.zeros(200, dtype=torch.bool)
    few[:5] = True
    assert math.isnan(float(linear_read_out(x, y, few)))


def test_shards_give_the_numbers_of_one_process() -> None:
    x, y, w = example()
    half = torch.arange(200) % 2 == 0
    whole = regression_collapse(x, y, w)
    read = linear_read_out(x, y, half)
    parts = [slice(0, 30), slice(30, 30), slice(30, None)]

    def work(rank: int, reduce: object) -> list[float]:
        own = parts[rank]
        found = regression_collapse(x[own], y[own], w, reduce=reduce)
        own_read = linear_read_out(x[own], y[own], half[own], reduce=reduce)
        return [float(v) for v in (found.off_plane, found.off_head, found.head, own_read)]

    expected = [float(v) for v in (whole.off_plane, whole.off_head, whole.head, read)]
    for got in run_sharded(work, 3):
        assert got == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("x", "y", "w", "words"),
    [
        (torch.randn(5, 4), torch.randn(4, 2), None, r"targets \[N, n\]"),
        (torch.randn(5, 4), torch.randn(5), None, r"targets \[N, n\]"),
        (torch.randn(5, 4), torch.randn(5, 4), None, "fewer targets than dimensions"),
        (torch.randn(5, 4), torch.randn(5, 2), torch.randn(2, 3), r"must be \[2, 4\]"),
        (torch.randn(5, 4), torch.tensor([[1.0, 3.0]] * 5), None, "is constant"),
    ],
)
def test_what_does_not_fit_is_refused(x: Tensor, y: Tensor, w: Tensor, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        regression_collapse(x, y, w)


def ordered(places: list[float], bend: float = 0.0) -> tuple[Tensor, Tensor]:
    angle = torch.tensor(places, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(0)).double())[
        0
    ]
    line = torch.stack([angle, bend * angle.square(), *[torch.zeros_like(angle)] * 4], 1)
    return cloud(line @ turn, 50, 0.1)


def test_order_matches_its_definition() -> None:
    places = [0.0, 1.0, 3.0, 2.5, 6.0]
    found = ordinal_collapse(class_geometry(*ordered(places, 0.2), unbiased=True))
    x, y = ordered(places, 0.2)
    means = np.stack([x[y == k].mean(0).numpy() for k in range(5)])
    means -= means.mean(0)
    _, sizes, axes = np.linalg.svd(means)
    along = means @ axes[0]
    assert float(found.off_line) == pytest.approx(1 - sizes[0] ** 2 / (sizes**2).sum(), abs=0.002)
    assert float(found.order) == pytest.approx(abs(kendalltau(along, range(5)).statistic))
    gaps = abs(np.diff(along))
    assert float(found.gap_spread) == pytest.approx(gaps.std() / gaps.mean(), abs=0.02)


def test_a_line_is_a_line_and_a_simplex_is_none() -> None:
    line = ordinal_collapse(class_geometry(*ordered([-2.0, -1, 0, 1, 2]), unbiased=True))
    assert float(line.off_line) == pytest.approx(0, abs=0.01)
    assert float(line.order) == 1
    assert float(line.gap_spread) < 0.05
    simplex = ordinal_collapse(class_geometry(*cloud(3 * torch.eye(5, 6).double(), 50, 0.1)))
    assert float(simplex.off_line) == pytest.approx(1 - 1 / 4, abs=0.02)
    wrong = ordinal_collapse(class_geometry(*ordered([0.0, 2, 1, 3, 4]), unbiased=True))
    pairs = list(combinations([0, 2, 1, 3, 4], 2))
    tau = sum(1 if a < b else -1 for a, b in pairs) / len(pairs)
    assert float(wrong.order) == pytest.approx(tau)


def test_few_samples_do_not_bend_the_line() -> None:
    generator = torch.Generator().manual_seed(0)
    line = torch.linspace(-3, 3, 6, dtype=torch.float64)[:, None] * torch.eye(1, 200)
    labels = torch.arange(48) % 6
    found = []
    for _ in range(60):
        x = line[labels] + torch.randn(48, 200, generator=generator, dtype=torch.float64)
        found.append(float(ordinal_collapse(class_geometry(x, labels, unbiased=True)).off_line))
    plain = float(ordinal_collapse(class_geometry(x, labels)).off_line)
    assert abs(np.mean(found)) < 0.15 < plain


def test_two_classes_have_no_order() -> None:
    with pytest.raises(ValueError, match="at least 3 classes"):
        ordinal_collapse(class_geometry(torch.randn(10, 3), torch.arange(10) % 2))
