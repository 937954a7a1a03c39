from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from dnc_lightning.functional import (
    ClassGeometry,
    cdnv,
    class_geometry,
    debias,
    directional_cdnv,
    resolved_pairs,
)
from dnc_lightning.functional.unbiased import samples_to_resolve
from tests.functional import reference

GOLDEN = Path(__file__).parents[1] / "golden"


def test_golden_ddof1() -> None:
    data = np.load(GOLDEN / "balanced.npz")
    golden = json.loads((GOLDEN / "balanced.json").read_text())["ddof1"]["pairs"]
    x, y = torch.as_tensor(data["features"]).double(), torch.as_tensor(data["labels"])
    g = class_geometry(x, y, unbiased=True, cross_trace="exact")
    for pair, values in golden.items():
        i, j = map(int, pair.split("_"))
        assert float(g.variance[i]) == pytest.approx(values["vi"], rel=1e-9)
        assert float(g.cross_trace[i, j]) == pytest.approx(values["trSiSj"], rel=1e-9)
        expected = values["d2"] - values["vi"] / 40 - values["vj"] / 40
        assert float(g.distance2[i, j]) == pytest.approx(expected, rel=1e-9)


class Population:
    """Three skewed classes in R^4: linear images of centred exponentials, all moments known."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.mix = rng.normal(size=(3, 4, 4)) * np.array([0.6, 1.0, 1.4])[:, None, None]
        self.mu = rng.normal(size=(3, 4))
        self.sigma = np.einsum("cab,cad->cbd", self.mix, self.mix)
        big = rng.exponential(size=(500_000, 4)) - 1
        self.fourth = [float(((big @ m) ** 2).sum(1).var()) for m in self.mix]

    def draw(self, rng: np.random.Generator, n: int) -> tuple[torch.Tensor, torch.Tensor]:
        x = np.einsum("cna,cab->cnb", rng.exponential(size=(3, n, 4)) - 1, self.mix)
        return torch.as_tensor((x + self.mu[:, None]).reshape(-1, 4)), torch.arange(
            3
        ).repeat_interleave(n)


@pytest.mark.parametrize("n", [4, 9])
def test_every_field_is_unbiased(n: int) -> None:
    """The mean over many small probes hits the population within 5 standard errors."""
    population, rng = Population(), np.random.default_rng(1)
    draws = [
        class_geometry(*population.draw(rng, n), unbiased=True, cross_trace="exact")
        for _ in range(1_500)
    ]
    delta = population.mu[:, None] - population.mu[None]
    sigma = population.sigma
    v = np.trace(sigma, axis1=1, axis2=2)
    expected = {
        "variance": v,
        "distance2": (delta**2).sum(2),
        "axis_variance": np.einsum("ija,iab,ijb->ij", delta, sigma, delta),
        "second_trace": np.einsum("iab,iab->i", sigma, sigma),
        "cross_trace": np.einsum("iab,jab->ij", sigma, sigma),
        "fourth_moment": np.array(population.fourth) + v**2,
    }
    for name, value in expected.items():
        samples = torch.stack([getattr(g, name) for g in draws]).numpy()
        error = samples.std(0) / np.sqrt(len(samples)) + 2e-3 * np.abs(value)
        assert (np.abs(samples.mean(0) - value) <= 5 * error + 1e-12).all(), name


def test_plug_in_measures_the_probe_where_unbiased_measures_the_encoder() -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(size=(10, 50, 2048)) + 0.32 * rng.normal(size=(10, 1, 2048))
    y = torch.arange(10).repeat_interleave(50)
    x = torch.as_tensor(x.reshape(-1, 2048))
    true = 2 * 2048 / (2 * 0.32**2 * 2048)
    plug_in = class_geometry(x, y)
    estimate = debias(plug_in)
    off = ~torch.eye(10, dtype=torch.bool)
    assert float(cdnv(plug_in)[off].median()) < 0.87 * true
    assert float(cdnv(estimate)[off].median()) == pytest.approx(true, rel=0.05)
    true_directional = 1 / (2 * 0.32**2 * 2048)
    assert float(directional_cdnv(plug_in)[off].median()) < 0.87 * true_directional
    assert float(directional_cdnv(estimate)[off].median()) == pytest.approx(
        true_directional, rel=0.05
    )


def test_equal_means_are_not_resolved() -> None:
    rng = np.random.default_rng(2)
    x = torch.as_tensor(rng.normal(size=(200, 64)))
    g = class_geometry(x, torch.arange(200) % 10, unbiased=True)
    assert float(resolved_pairs(g)) < 0.1
    assert directional_cdnv(g)[~g.resolved].isnan().all()


def test_samples_to_resolve_are_enough() -> None:
    """Draw that many and most pairs are resolved; with half as many they are not."""
    rng = np.random.default_rng(3)
    centres = 0.12 * rng.normal(size=(8, 64))

    def draw(n: int) -> ClassGeometry:
        x = rng.normal(size=(8, n, 64)) + centres[:, None]
        y = torch.arange(8).repeat_interleave(n)
        return class_geometry(torch.as_tensor(x.reshape(-1, 64)), y, unbiased=True)

    needed = samples_to_resolve(draw(200), 0.5)
    assert needed is not None
    assert float(resolved_pairs(draw(3 * needed))) > 0.5
    assert float(resolved_pairs(draw(needed // 3))) < 0.5


def test_fast_cross_trace_resolves_fewer() -> None:
    x, y = reference.asymmetric(3, (9, 9, 9, 9), 12)
    x, y = torch.as_tensor(x), torch.as_tensor(y)
    fast = class_geometry(x, y, unbiased=True)
    exact = class_geometry(x, y, unbiased=True, cross_trace="exact")
    assert not (fast.resolved & ~exact.resolved).any()


def test_classes_under_four_samples_are_nan() -> None:
    x, y = reference.asymmetric(0, (3, 8, 8), 4)
    g = class_geometry(torch.as_tensor(x), torch.as_tensor(y), unbiased=True)
    assert cdnv(g)[0].isnan().all()
    assert not cdnv(g)[1, 2].isnan()


def test_debias_twice_is_an_error() -> None:
    x, y = reference.asymmetric(0)
    g = class_geometry(torch.as_tensor(x), torch.as_tensor(y), unbiased=True)
    with pytest.raises(ValueError, match="unbiased already"):
        debias(g)
