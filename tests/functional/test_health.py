"""Spectra and dispersion against numpy's singular values and loops over pairs."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from dnc_lightning.functional import (
    alpha_req,
    dead_units,
    effective_rank,
    feature_norms,
    feature_spectrum,
    noise_eigenvalues,
    rankme,
    sphere_uniformity,
    uniformity,
)
from dnc_lightning.functional import dispersion as module
from dnc_lightning.functional.few_shot import Shard
from tests.functional.shards import run_sharded


def features(n: int, d: int, decay: float = 0.7, offset: float = 2.0) -> Tensor:
    """Columns of unequal variance, mixed, around an offset."""
    rng = np.random.default_rng(n + d)
    x = rng.normal(size=(n, d)) * np.arange(1, d + 1) ** -decay
    mix = np.linalg.qr(rng.normal(size=(d, d)))[0]
    return torch.as_tensor(x @ mix + offset * rng.normal(size=d))


def entropy_rank(shares: np.ndarray) -> float:
    return float(np.exp(-sum(p * math.log(p) for p in shares if p > 0)))


def slow(x: np.ndarray) -> dict[str, float]:
    """Every number in the words of its paper, from singular values."""
    out = {}
    raw = np.linalg.svd(x, compute_uv=False)
    centred = np.linalg.svd(x - x.mean(0), compute_uv=False)
    for name, s in (("rankme", raw), ("rankme_centred", centred)):
        out[name] = entropy_rank(s / s.sum() + 1e-7)
    out["effective_rank"] = entropy_rank(centred**2 / (centred**2).sum())
    if len(centred) >= 100:
        ranks = np.arange(4, 101)
        slope, _ = np.polyfit(np.log(ranks), np.log(centred[3:100] ** 2), 1, w=np.sqrt(1.0 / ranks))
        out["alpha_req"] = -slope
    return out


def ours(x: Tensor, shard: Shard | None = None) -> dict[str, float]:
    spectrum = feature_spectrum(x, shard=shard)
    found = {
        "rankme": rankme(spectrum.uncentred),
        "rankme_centred": rankme(spectrum.centred),
        "effective_rank": effective_rank(spectrum.centred),
        "alpha_req": alpha_req(spectrum.centred),
    }
    return {name: float(value) for name, value in found.items()}


@pytest.mark.parametrize(("n", "d"), [(300, 120), (150, 400), (40, 7), (6, 30)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_spectra_match_singular_values(n: int, d: int, dtype: torch.dtype) -> None:
    x = features(n, d).to(dtype)
    found, expected = ours(x), slow(x.double().numpy())
    for name, value in expected.items():
        # A zero singular value is known to 1e-8 of the largest, of which there are d - n.
        assert found[name] == pytest.approx(value, rel=1e-6), name
    assert math.isnan(found["alpha_req"]) == ("alpha_req" not in expected)


@pytest.mark.parametrize(("n", "d"), [(300, 120), (150, 200)])
def test_what_changes_nothing(n: int, d: int) -> None:
    x, expected = features(n, d), ours(features(n, d))
    turn = torch.linalg.qr(features(d, d, offset=0.0)).Q
    for changed in (x @ turn, x.flip(0), x * 1e-25, x * 1e25):
        assert ours(changed) == pytest.approx(expected, rel=1e-6)
    moved = ours(x + 1_000)
    centred = ("rankme_centred", "effective_rank", "alpha_req")
    assert {k: moved[k] for k in centred} == pytest.approx(
        {k: expected[k] for k in centred}, rel=1e-5
    )
    assert moved["rankme"] < expected["rankme"] / 2


@pytest.mark.parametrize("cut", [0, 1, 70])
@pytest.mark.parametrize(("n", "d"), [(200, 60), (90, 130)])
def test_shards_give_the_numbers_of_the_whole(n: int, d: int, cut: int) -> None:
    x = features(n, d).float()
    order = torch.randperm(n, generator=torch.Generator().manual_seed(1))
    rows, labels = [order[:cut], order[cut:]], torch.zeros(n, dtype=torch.long)

    def work(rank: int, reduce: Callable[[Tensor], Tensor]) -> dict[str, float]:
        shard = Shard(labels, rows[rank], reduce)
        own = x[rows[rank]]
        norms = feature_norms(own, shard=shard)
        more = {
            "norm": float(norms.mean),
            "spread": float(norms.spread),
            "uniformity": float(uniformity(own, shard=shard)),
            "dead": float(dead_units(feature_spectrum(own, shard=shard))),
        }
        return ours(own, shard) | more

    norms = feature_norms(x)
    expected = ours(x) | {
        "norm": float(norms.mean),
        "spread": float(norms.spread),
        "uniformity": float(uniformity(x)),
        "dead": 0.0,
    }
    for found in run_sharded(work, 2):
        assert found == pytest.approx(expected, rel=1e-9, nan_ok=True)


def test_documented_values_at_the_edges() -> None:
    constant = feature_spectrum(torch.full((50, 8), 3.7))
    assert float(rankme(constant.uncentred)) == pytest.approx(1, abs=1e-4)
    assert rankme(constant.centred).isnan()
    assert effective_rank(constant.centred).isnan()
    assert alpha_req(constant.centred).isnan()
    noise = 3.7 * (1 + 2.0**-24 * torch.randn(50, 8, generator=torch.Generator().manual_seed(0)))
    assert rankme(feature_spectrum(noise).centred).isnan()
    assert rankme(feature_spectrum(torch.zeros(50, 8)).uncentred).isnan()
    assert float(rankme(feature_spectrum(torch.ones(1, 8)).uncentred)) == pytest.approx(1)
    line = torch.randn(50, 1) * torch.arange(1.0, 9) + 5
    assert float(effective_rank(feature_spectrum(line.double()).centred)) == pytest.approx(1)
    equal = torch.eye(6).double().repeat(5, 1)
    assert float(rankme(feature_spectrum(equal).uncentred)) == pytest.approx(6, rel=1e-5)
    assert float(effective_rank(feature_spectrum(equal).centred)) == pytest.approx(5)
    broken = torch.randn(20, 4)
    broken[1, 2] = torch.inf
    assert rankme(feature_spectrum(broken).uncentred).isnan()


@pytest.mark.parametrize(("x", "match"), [
    (torch.zeros(3), r"shape \[N, D\], got torch.float32 of shape \[3\]"),
    (torch.zeros(3, 2, dtype=torch.long), "got torch.int64"),
    (torch.zeros(0, 2), "at least one sample"),
])  # fmt: skip
def test_bad_input(x: Tensor, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        feature_spectrum(x)


@pytest.mark.parametrize(("n", "d"), [(256, 512), (512, 512), (2_000, 128), (400, 50)])
def test_noise_has_the_numbers_of_a_draw(n: int, d: int) -> None:
    drawn = torch.randn(n, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found, spectrum = noise_eigenvalues(n, d), feature_spectrum(drawn)
    assert found.shape == spectrum.uncentred.shape
    assert (found.diff() <= 0).all()
    assert float(found.sum()) == pytest.approx(n * d, rel=0.01)
    for number in (rankme, effective_rank):
        assert float(number(found)) == pytest.approx(float(number(spectrum.uncentred)), rel=0.005)
    if min(n, d) >= 100:
        assert float(alpha_req(found)) == pytest.approx(
            float(alpha_req(spectrum.uncentred)), rel=0.05
        )


def test_rankme_of_noise_depends_on_the_samples() -> None:
    """512 dimensions read 237 with 256 samples, and 474 with 1,024."""
    assert float(rankme(noise_eigenvalues(256, 512))) == pytest.approx(237, abs=1)
    assert float(rankme(noise_eigenvalues(1_024, 512))) == pytest.approx(474, abs=1)


def test_uniformity_matches_a_loop_over_pairs() -> None:
    x = features(30, 5)
    unit = x / x.norm(dim=1, keepdim=True)
    pairs = [
        math.exp(-2 * float((a - b).square().sum()))
        for i, a in enumerate(unit)
        for j, b in enumerate(unit)
        if i != j
    ]
    assert float(uniformity(x)) == pytest.approx(math.log(sum(pairs) / len(pairs)), rel=1e-12)
    assert float(uniformity(torch.ones(9, 4))) == pytest.approx(0, abs=1e-6)
    assert uniformity(torch.ones(1, 4)).isnan()


def test_uniformity_of_many_samples_is_that_of_evenly_spaced_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x = features(40, 5)
    expected = uniformity(x[torch.tensor([0, 5, 10, 15, 20, 25, 30, 35])])
    monkeypatch.setattr(module, "UNIFORMITY_SAMPLES", 8)
    assert uniformity(x) == expected


@pytest.mark.parametrize("d", [1, 2, 3, 10, 100])
def test_the_sphere_is_what_a_draw_comes_close_to(d: int) -> None:
    drawn = torch.randn(2_000, d, generator=torch.Generator().manual_seed(d), dtype=torch.float64)
    assert sphere_uniformity(d) == pytest.approx(float(uniformity(drawn)), abs=0.02)
    if d >= 10:
        assert sphere_uniformity(d) == pytest.approx(-4 + 8 / d, abs=6 / d**2)


def test_units_and_norms() -> None:
    x = features(60, 10)
    x[:, 3], x[:, 7] = 0.0, 123.25
    assert float(dead_units(feature_spectrum(x))) == pytest.approx(0.2)
    assert float(dead_units(feature_spectrum(x.float() * 1e20))) == pytest.approx(0.2)
    norm = np.sqrt((x.numpy() ** 2).sum(1))
    for scale in (1.0, 1e30):
        found = feature_norms(x * scale)
        assert float(found.mean) == pytest.approx(norm.mean() * scale)
        assert float(found.spread) == pytest.approx(norm.std() / norm.mean())
    assert feature_norms(torch.zeros(4, 3)).spread.isnan()
