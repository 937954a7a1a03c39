from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch import Tensor

from dnc_lightning.functional import (
    ClassGeometry,
    cdnv,
    class_geometry,
    directional_cdnv,
    few_shot_bound,
    pair_mean,
    population_estimate,
)
from tests.functional import reference
from tests.functional.population import Population
from tests.functional.shards import run_sharded

NAMES = ("CDNV", "directional CDNV", "certificate, m = 5", "certificate, m = 50")


def statistic(geometry: ClassGeometry) -> Tensor:
    bounds = [few_shot_bound(geometry, m, clip=False) for m in (5, 50)]
    return torch.stack([pair_mean(cdnv(geometry)), pair_mean(directional_cdnv(geometry)), *bounds])


def test_matches_the_delete_one_jackknife() -> None:
    x, y = map(torch.as_tensor, reference.asymmetric(0, (120, 160, 140), 5))
    estimate = population_estimate(x, y, statistic)
    torch.testing.assert_close(estimate.value, statistic(class_geometry(x, y, unbiased=True)))
    left_out = []
    for row in range(len(y)):
        keep = torch.arange(len(y)) != row
        left_out.append(statistic(class_geometry(x[keep], y[keep], unbiased=True)))
    variance = torch.zeros(4, dtype=torch.float64)
    for c in range(3):
        of_class = torch.stack(left_out)[y == c]
        n = len(of_class)
        variance += (n - 1) / n * (of_class - of_class.mean(0)).square().sum(0)
    torch.testing.assert_close(estimate.standard_error, variance.sqrt(), rtol=0.05, atol=0)


def test_tiles_shards_and_a_ready_geometry_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = map(torch.as_tensor, reference.asymmetric(1, (30, 14, 21), 7))
    whole = population_estimate(x, y, statistic)
    given = population_estimate(x, y, statistic, geometry=class_geometry(x, y))
    assert torch.equal(given.low, whole.low)
    parts = [torch.arange(len(y)) < 23, torch.arange(len(y)) >= 23]
    for result in run_sharded(
        lambda rank, reduce: population_estimate(
            x[parts[rank]], y[parts[rank]], statistic, num_classes=3, reduce=reduce
        ),
        2,
    ):
        torch.testing.assert_close(result.standard_error, whole.standard_error, rtol=1e-9, atol=0)
    monkeypatch.setattr("dnc_lightning.functional._tiles.TILE_BYTES", 900)
    monkeypatch.setattr("dnc_lightning.functional._moments.TILE_BYTES", 900)
    tiled = population_estimate(x, y, statistic)
    torch.testing.assert_close(tiled.standard_error, whole.standard_error, rtol=1e-9, atol=0)


def test_collapsed_and_unresolved_classes_do_not_crash() -> None:
    y = torch.arange(40) % 4
    collapsed = population_estimate(torch.eye(4)[y], y, statistic)
    assert collapsed.value.tolist() == [0, 0, 0, 0]
    noise = torch.as_tensor(np.random.default_rng(0).normal(size=(40, 30)))
    estimate = population_estimate(noise, y, statistic)
    assert estimate.value[2:].isfinite().all()


def test_bad_level() -> None:
    x, y = map(torch.as_tensor, reference.asymmetric(1))
    with pytest.raises(ValueError, match=r"level must be in \(0, 1\), got 95"):
        population_estimate(x, y, statistic, level=95)


def simulate(noise: str, n: int, draws: int) -> dict[str, Tensor]:
    population = Population.make(noise, classes=5, d=24, distance=3.0)
    truth, rng = statistic(population.geometry()), np.random.default_rng(n)
    covered, plug_in, unbiased = [], [], []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(draws):
            x, y = population.draw(rng, n)
            geometry = class_geometry(x, y, cross_trace="exact")
            estimate = population_estimate(x, y, statistic, geometry=geometry)
            covered.append((estimate.low <= truth) & (truth <= estimate.high))
            plug_in.append(statistic(geometry))
            unbiased.append(estimate.value)
    means = [torch.stack(v).double().mean(0) for v in (covered, plug_in, unbiased)]
    return dict(zip(("coverage", "plug-in", "unbiased"), means, strict=True), truth=truth)


@pytest.mark.slow
@pytest.mark.parametrize("noise", ["gaussian", "exponential"])
@pytest.mark.parametrize("n", [30, 50, 200])
def test_coverage_and_bias(noise: str, n: int) -> None:
    """95 % intervals cover between 92 and 98 %; run with -s for the table."""
    found = simulate(noise, n, 800)
    print(f"\n{noise}, n = {n}: name | truth | plug-in | unbiased | coverage")
    for k, name in enumerate(NAMES):
        print(
            f"{name:20s} "
            + " ".join(
                f"{float(found[c][k]):.4f}" for c in ("truth", "plug-in", "unbiased", "coverage")
            )
        )
    assert (found["coverage"] >= 0.92).all()
    assert (found["coverage"] <= 0.98).all()
    bias = {k: (found[k] - found["truth"]).abs() / found["truth"] for k in ("plug-in", "unbiased")}
    assert (bias["unbiased"][:2] < 0.02).all()
    if n < 200:
        assert (bias["unbiased"][:2] < bias["plug-in"][:2]).all()
