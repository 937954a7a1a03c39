"""Circles, lines, horseshoes and simplices, drawn, and told apart."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from dnc_lightning.functional import class_geometry
from dnc_lightning.functional.cyclic import Cyclic, cyclic
from tests.functional.test_simplex import cloud, frame


def placed(plane: Tensor, d: int = 24, seed: int = 0) -> Tensor:
    """Points [K, r] in d dimensions, turned at random."""
    generator = torch.Generator().manual_seed(seed)
    turn = torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=torch.float64))[0]
    return plane.double() @ turn[: plane.shape[1]]


def circle(k: int, turns: int = 1, start: float = 0.3) -> Tensor:
    angle = start + 2 * math.pi * turns * torch.arange(k) / k
    return 3 * torch.stack([angle.cos(), angle.sin()], 1)


def of(means: Tensor, n: int = 40, spread: float = 0.3, seed: int = 0) -> Cyclic:
    x, y = cloud(means, n, spread, seed)
    return cyclic(class_geometry(x, y, unbiased=True))


def slow(means: np.ndarray) -> dict[str, float]:
    """From the singular values and the Fourier transform of the means themselves."""
    m = means - means.mean(0)
    k = len(m)
    u, s, _ = np.linalg.svd(m, full_matrices=False)
    power = (np.abs(np.fft.fft(m, axis=0)) ** 2).sum(1)
    pairs = [(power[f] + power[k - f]) / (2 if 2 * f == k else 1) for f in range(1, k // 2 + 1)]
    flat = u[:, :2] * s[:2]
    angle = np.sort(np.arctan2(flat[:, 1], flat[:, 0]))
    gaps = np.diff(np.append(angle, angle[0] + 2 * np.pi))
    radius = np.linalg.norm(flat, axis=1)
    return {
        "plane": (s[:2] ** 2).sum() / (s**2).sum(),
        "balance": s[1] ** 2 / s[0] ** 2,
        "fourier": max(pairs) / power[1:].sum(),
        "frequency": 1 + int(np.argmax(pairs)),
        "radius_spread": radius.std() / radius.mean(),
        "gap_spread": gaps.std() / gaps.mean(),
    }


@pytest.mark.parametrize("k", [5, 6, 11, 12])
def test_it_matches_its_definition(k: int) -> None:
    generator = torch.Generator().manual_seed(k)
    means = torch.randn(k, 7, generator=generator, dtype=torch.float64)
    x, y = cloud(means, 3, 0.0)  # plug-in moments of means without noise
    found = cyclic(class_geometry(x, y))
    for name, value in slow(means.numpy()).items():
        assert float(getattr(found, name)) == pytest.approx(value, rel=1e-7), name


@pytest.mark.parametrize(("k", "turns"), [(7, 1), (12, 1), (23, 5), (97, 30)])
def test_a_circle_is_one(k: int, turns: int) -> None:
    found = of(placed(circle(k, turns)), spread=0.1)
    assert found.shape == "circle"
    assert int(found.frequency) == min(turns, k - turns)
    assert float(found.plane) > 0.97
    assert float(found.balance) > 0.9
    assert float(found.gap_spread) < 0.3


def test_few_samples_do_not_take_it_out_of_its_plane() -> None:
    x, y = cloud(placed(circle(30), 200), 6, 1.0)
    plain, unbiased = (cyclic(class_geometry(x, y, unbiased=u)).plane for u in (False, True))
    assert float(plain) < 0.5
    assert float(unbiased) == pytest.approx(1, abs=0.1)


def test_shapes_are_told_apart() -> None:
    shuffled = circle(23)[torch.randperm(23, generator=torch.Generator().manual_seed(0))]
    assert of(placed(shuffled)).shape == "unordered circle"
    steps = torch.linspace(-3, 3, 23)[:, None]
    assert of(placed(steps)).shape == "line"
    angle = torch.linspace(0, math.pi, 23)
    arc = 3 * torch.stack([angle.cos(), angle.sin()], 1)
    assert of(placed(arc)).shape == "horseshoe"
    narrow = circle(23, 4) * torch.tensor([1.0, 0.5])
    assert of(placed(narrow)).shape == "ellipse"
    assert of(frame(10, 24)).shape is None
    assert float(of(frame(10, 24)).plane) == pytest.approx(2 / 9, abs=0.05)
    noise = torch.randn(23, 24, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert of(noise).shape is None


def test_what_it_does_not_depend_on() -> None:
    means = torch.randn(9, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x, y = cloud(means, 20, 0.5)
    plain = cyclic(class_geometry(x, y, unbiased=True))
    turned = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64))[0]
    for moved, labels in ((30 * x @ turned + 5, y), (x, (y + 3) % 9), (x, 8 - y)):
        found = cyclic(class_geometry(moved, labels, unbiased=True))
        for name in ("plane", "balance", "fourier", "frequency", "radius_spread", "gap_spread"):
            assert float(getattr(found, name)) == pytest.approx(float(getattr(plain, name))), name


def test_constant_features_are_nan_and_few_classes_refused() -> None:
    y = torch.arange(60) % 6
    with pytest.warns(UserWarning, match="identical means"):
        found = cyclic(class_geometry(torch.ones(60, 3), y, unbiased=True))
    assert math.isnan(float(found.plane))
    assert found.shape is None
    with pytest.raises(ValueError, match="at least 5 classes, got 4"):
        cyclic(class_geometry(torch.randn(40, 3), torch.arange(40) % 4))
