from __future__ import annotations

import json
import math
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dnc_lightning.functional import (
    ClassGeometry,
    cdnv,
    class_geometry,
    directional_cdnv,
    few_shot_bound,
    gaussian_prediction,
    joint,
    pair_bound,
    pair_mean,
    shots_needed,
)
from dnc_lightning.functional.bounds import KINDS, check_shots
from dnc_lightning.functional.margins import margin_moments
from tests.functional import reference

GOLDEN = Path(__file__).parents[1] / "golden"
SHOTS = (1, 5, 10, 100)
UNION = ("certificate", "theorem_4_1", "luthra_2025", "limit")


def tensors(data: tuple) -> tuple[Tensor, Tensor]:
    return torch.as_tensor(data[0]).double(), torch.as_tensor(data[1])


def quietly(data: tuple, **kwargs: object) -> ClassGeometry:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return class_geometry(*tensors(data), **kwargs)


def golden(name: str) -> tuple[tuple, dict]:
    data = np.load(GOLDEN / f"{name}.npz")
    values = json.loads((GOLDEN / f"{name}.json").read_text())["ddof0"]
    return (data["features"], data["labels"]), values


def off_diagonal(values: Tensor) -> Tensor:
    return values[~torch.eye(len(values), dtype=torch.bool)]


# Golden numbers


@pytest.mark.parametrize("m", SHOTS)
@pytest.mark.parametrize("name", ["balanced", "collapsed", "identical_means"])
def test_golden_pairs(name: str, m: int) -> None:
    data, expected = golden(name)
    g = quietly(data, cross_trace="exact")
    moments = margin_moments(g, check_shots(g, m))
    found = {
        "margin_mean": moments.mean,
        "margin_var": moments.variance,
        "cert": pair_bound(g, m),
        "cert_fast": pair_bound(quietly(data), m),
        "thm41": pair_bound(g, m, kind="theorem_4_1", clip=False),
    }
    for pair, values in expected["pairs"].items():
        i, j = map(int, pair.split("_"))
        for key, tensor in found.items():
            value = values["m"][str(m)][key]
            value = 1.0 if value == "inf" else value  # documented for identical means
            assert float(tensor[i, j]) == pytest.approx(value, rel=1e-6, abs=1e-12), (pair, key)


@pytest.mark.parametrize("m", SHOTS)
@pytest.mark.parametrize("name", ["balanced", "collapsed"])
def test_golden_aggregates(name: str, m: int) -> None:
    data, expected = golden(name)
    expected = expected["aggregate"]["m"][str(m)]
    g, fast = quietly(data, cross_trace="exact"), quietly(data)
    found = {
        "cert": few_shot_bound(g, m),
        "cert_fast": few_shot_bound(fast, m),
        "thm41_official": few_shot_bound(g, m, kind="theorem_4_1", clip=False),
        "old_opt_VsV": few_shot_bound(g, m, kind="luthra_2025", clip=False),
    }
    for key, value in found.items():
        assert float(value) == pytest.approx(expected[key], rel=1e-6, abs=1e-12), key


@pytest.mark.parametrize("m", SHOTS)
def test_identical_means_count_as_one(m: int) -> None:
    data, expected = golden("identical_means")
    g = quietly(data, cross_trace="exact")
    expected = expected["aggregate"]["m"][str(m)]
    assert float(few_shot_bound(g, m)) == pytest.approx(expected["cert"], rel=1e-6)
    assert float(few_shot_bound(g, m, kind="luthra_2025")) == 1
    assert float(few_shot_bound(g, m, kind="luthra_2025", clip=False)) == 1
    for clip in (True, False):
        pairs = pair_bound(g, m, kind="theorem_4_1", clip=clip)
        assert float(pairs[0, 1]) == float(pairs[1, 0]) == 1
    assert math.isfinite(float(few_shot_bound(g, m, kind="theorem_4_1", clip=False)))


def test_2025_bound_is_the_least_over_a() -> None:
    """Against a grid of a, over 20 orders of magnitude of the variances."""
    rng = np.random.default_rng(0)
    for _ in range(60):
        data = reference.asymmetric(int(rng.integers(1_000)), (9, 12, 7))
        factor = 10 ** rng.uniform(-6, 6)
        mu = np.stack(reference.moments(*data).mu)[data[1]]
        g = quietly((mu + factor * (data[0] - mu), data[1]))
        m = int(10 ** rng.uniform(0, 4))
        v, vt = float(pair_mean(cdnv(g))), float(pair_mean(directional_cdnv(g)))
        root = float(pair_mean(cdnv(g).sqrt()))
        bracket = 2 * (root + v) / m**0.5 + v / m
        low = max(2 * (2 + 2**1.5 / m), 5)
        a = low + np.logspace(-9, 9, 200_001)
        shrink = 0.5 - 2 / a - 2**1.5 / (a * m)
        expected = 2 * float(np.min(vt / shrink**2 + a / 4 * bracket))
        found = float(few_shot_bound(g, m, kind="luthra_2025", clip=False))
        assert found == pytest.approx(expected, rel=1e-6)


# The moments of the margin


@given(seed=st.integers(0, 10_000), shots=st.tuples(*[st.integers(1, 3)] * 3))
@settings(max_examples=30, deadline=None)
def test_margin_moments_match_all_supports(seed: int, shots: tuple[int, ...]) -> None:
    """Mean, variance and covariance of the margins against the list of all experiments."""
    x, y = reference.asymmetric(seed, (3, 2, 4), 3)
    g = quietly((x, y), cross_trace="exact", joint=True)
    found = margin_moments(g, check_shots(g, shots))
    for i in range(3):
        j, k = (r for r in range(3) if r != i)
        margins = reference.all_margins(x, y, list(shots), i)
        cov = np.cov(margins.T, ddof=0)
        np.testing.assert_allclose(found.mean[i, [j, k]], margins.mean(0), rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(found.variance[i, [j, k]], cov.diagonal(), rtol=1e-9)
        both = 4 * g.axis_covariance[i, j, k] + found.shared[i]
        assert float(both) == pytest.approx(cov[0, 1], rel=1e-9, abs=1e-9 * cov[0, 0])


@pytest.mark.parametrize("shots", [(1, 1, 1), (5, 5, 5), (1, 7, 30), (40, 3, 2)])
def test_margin_moments_match_monte_carlo(shots: tuple[int, ...]) -> None:
    x, y = reference.asymmetric(6, (9, 14, 11), 5)
    g = quietly((x, y), cross_trace="exact")
    found = margin_moments(g, check_shots(g, torch.tensor(shots)))
    samples, rng, trials = reference.moments(x, y).samples, np.random.default_rng(1), 200_000
    centres = [
        rng.multinomial(m, np.full(len(s), 1 / len(s)), size=trials) / m @ s
        for s, m in zip(samples, shots, strict=True)
    ]
    for i in range(3):
        query = samples[i][rng.integers(len(samples[i]), size=trials)]
        own = ((query - centres[i]) ** 2).sum(1)
        for j in {0, 1, 2} - {i}:
            margin = ((query - centres[j]) ** 2).sum(1) - own
            square = (margin - margin.mean()) ** 2
            for draws, value in ((margin, found.mean[i, j]), (square, found.variance[i, j])):
                error = draws.std() / trials**0.5
                assert abs(draws.mean() - float(value)) < 5 * error


# The joint certificate


@given(seed=st.integers(0, 10_000), classes=st.integers(2, 4), m=st.integers(1, 30))
@settings(max_examples=25, deadline=None)
def test_joint_matches_the_slow_reference(seed: int, classes: int, m: int) -> None:
    """Near the least value over all scales and correlation matrices, and never under it."""
    x, y = reference.asymmetric(seed, (8, 12, 6, 9)[:classes], 4)
    g = quietly((3 * y[:, None] * np.eye(4)[y] + x, y), cross_trace="exact", joint=True)
    found = joint.joint_bound(g, check_shots(g, m))
    moments = margin_moments(g, check_shots(g, m))
    for i in range(classes):
        rivals = [j for j in range(classes) if j != i]
        mean = moments.mean[i, rivals].numpy()
        cov = (4 * g.axis_covariance[i][rivals][:, rivals] + moments.shared[i]).numpy().copy()
        np.fill_diagonal(cov, moments.variance[i, rivals].numpy())
        if (mean <= 0).any():
            assert float(found[i]) == 1
            continue
        expected = min(1, reference.joint_minimum(mean, cov))
        assert expected * (1 - 1e-6) <= float(found[i]) <= expected * 1.01


def test_joint_of_two_classes_is_the_certificate() -> None:
    for seed in range(20):
        g = quietly(reference.asymmetric(seed, (7, 9)), joint=True)
        for m in (1, 10):
            expected = few_shot_bound(g, m)
            torch.testing.assert_close(few_shot_bound(g, m, kind="joint"), expected)


def test_joint_holds_for_every_experiment() -> None:
    """Against the exact chance that some margin is not positive, all supports counted."""
    for seed in range(20):
        x, y = reference.asymmetric(seed, (3, 2, 3), 3)
        x += 4 * np.eye(3)[y]
        shots = [2, 3, 1]
        g = quietly((x, y), joint=True)
        bound = joint.joint_bound(g, check_shots(g, shots))
        pairs = pair_bound(g, shots)
        for i in range(3):
            wrong = reference.all_margins(x, y, shots, i) <= 1e-12
            assert wrong.any(1).mean() <= float(bound[i]) + 1e-9
            assert (wrong.mean(0) <= pairs[i, [j for j in range(3) if j != i]].numpy() + 1e-9).all()


@given(seed=st.integers(0, 10_000), k=st.integers(1, 12), rank=st.integers(0, 12))
@settings(max_examples=60, deadline=None)
def test_joint_uses_a_correlation_matrix(seed: int, k: int, rank: int) -> None:
    rng = np.random.default_rng(seed)
    factor = rng.normal(size=(1, k, min(rank, k))) * 10.0 ** rng.integers(-9, 9, size=(1, k, 1))
    moment = joint._ridged(torch.as_tensor(factor @ factor.transpose(0, 2, 1)))
    weight = moment.diagonal(dim1=1, dim2=2)
    for _ in range(4):
        correlation, weight = joint._better_correlation(moment, weight)
        torch.testing.assert_close(correlation, correlation.mT, rtol=0, atol=1e-9)
        assert (correlation.diagonal(dim1=1, dim2=2) == 1).all()
        assert float(torch.linalg.eigvalsh(correlation).min()) > 1e-8
        assert weight.isfinite().all()


def test_joint_gains_where_rivals_share_a_direction() -> None:
    rng = np.random.default_rng(0)
    y = np.arange(12).repeat(40)
    x = 3 * np.eye(12)[y] + 0.4 * rng.normal(size=(len(y), 12))
    x[:, 0] += 1.5 * rng.normal(size=len(y))
    g = quietly((x, y), joint=True)
    assert float(few_shot_bound(g, 10, kind="joint")) < 0.8 * float(few_shot_bound(g, 10))


@pytest.mark.slow
def test_joint_of_a_hundred_classes_takes_seconds() -> None:
    import time

    rng = np.random.default_rng(0)
    y = np.arange(100).repeat(30)
    x = rng.normal(size=(100, 64))[y] * 2 + rng.normal(size=(len(y), 64))
    g = quietly((x, y), joint=True)
    began = time.perf_counter()
    value = float(few_shot_bound(g, 10, kind="joint"))
    assert time.perf_counter() - began < 10
    assert value < float(few_shot_bound(g, 10, clip=False))


# Validity


def check_validity(seed: int, trials: int) -> None:
    """Bounds against the simulated error of the experiment they speak of, and their order."""
    rng = np.random.default_rng(seed)
    x, y = reference.probe_set(seed)
    classes = int(y.max()) + 1
    m = int(10 ** rng.uniform(0, 2))
    fast = quietly((x, y), joint=True)
    exact = quietly((x, y), cross_trace="exact", joint=True) if x.shape[1] <= 32 else fast
    error, noise = reference.few_shot_error(x, y, [m] * classes, trials, rng)
    bounds = []
    for g in (exact, fast):
        for kind in ("joint", "certificate", "theorem_4_1"):
            bounds.append(float(few_shot_bound(g, m, kind=kind)))
            assert bounds[-1] >= error - 4 * noise - 1e-9, (seed, kind)
        assert bounds[-3] <= bounds[-2] + 1e-9, seed
        assert bounds[-2] <= bounds[-1] + 1e-9, seed
        pairs = [pair_bound(g, m, kind=k, clip=False) for k in ("certificate", "theorem_4_1")]
        assert (off_diagonal(pairs[0]) <= off_diagonal(pairs[1]) + 1e-9).all(), seed
    assert bounds[1] <= bounds[4] + 1e-9, seed
    assert float(few_shot_bound(fast, 1, kind="limit")) >= reference.centre_error(x, y) - 1e-9
    many = few_shot_bound(fast, 10**9)
    torch.testing.assert_close(many, few_shot_bound(fast, 1, kind="limit"), rtol=1e-4, atol=1e-6)
    shots = rng.integers(1, 30, size=classes).tolist()
    error, noise = reference.few_shot_error(x, y, shots, trials, rng)
    for kind in ("joint", "certificate"):
        assert float(few_shot_bound(fast, shots, kind=kind)) >= error - 4 * noise - 1e-9, seed


@pytest.mark.parametrize("batch", range(5))
def test_bounds_hold(batch: int) -> None:
    for seed in range(batch * 60, batch * 60 + 60):
        check_validity(seed, trials=60)


@pytest.mark.slow
@pytest.mark.parametrize("batch", range(5))
def test_bounds_hold_on_more(batch: int) -> None:
    for seed in range(10_000 + batch * 200, 10_000 + batch * 200 + 200):
        check_validity(seed, trials=250)


def test_bounds_hold_for_fewer_ways() -> None:
    """The error of random sub-tasks, averaged over all of them."""
    rng = np.random.default_rng(0)
    for seed in range(20):
        x, y = reference.asymmetric(seed, (9, 12, 7, 8), 5)
        x = x + 6 * np.eye(5)[y]
        g = quietly((x, y), joint=True)
        drawn = []
        for a in range(4):
            for b in range(a):
                keep = (y == a) | (y == b)
                drawn.append(
                    reference.few_shot_error(x[keep], (y[keep] == a).astype(int), [3, 3], 300, rng)
                )
        error, noise = np.mean(drawn, 0)
        for kind in ("joint", "certificate", "theorem_4_1"):
            bound = float(few_shot_bound(g, 3, kind=kind, ways=2))
            assert bound >= error - 4 * noise
            assert bound <= float(few_shot_bound(g, 3, kind=kind)) + 1e-12
        torch.testing.assert_close(few_shot_bound(g, 3, ways=4), few_shot_bound(g, 3))


def test_cantelli_is_attained() -> None:
    """One sample in 20 sits halfway to the rival: with exact centres the bound is the error."""
    x = np.zeros((40, 1))
    x[:20, 0] = [-1.0] * 19 + [19.0]  # mean 0
    x[20:, 0] = [38.0] * 20
    y = np.arange(2).repeat(20)
    g = quietly((x, y))
    assert reference.centre_error(x, y) == pytest.approx(1 / 40)
    assert float(few_shot_bound(g, 1, kind="limit")) == pytest.approx(1 / 40, rel=1e-12)


# Monotone in what should help


@given(seed=st.integers(0, 1_000), m=st.integers(1, 50))
@settings(max_examples=25, deadline=None)
def test_invariant_to_rotation_translation_scale_and_order(seed: int, m: int) -> None:
    x, y = reference.asymmetric(seed)
    rng = np.random.default_rng(seed)
    rotation = np.linalg.qr(rng.normal(size=(x.shape[1],) * 2))[0]
    order, names = rng.permutation(len(y)), rng.permutation(4)
    moved = ((x @ rotation) * 10 ** rng.uniform(-3, 3) + rng.normal(size=x.shape[1]))[order]
    a, b = quietly((x, y), joint=True), quietly((moved, names[y][order]), joint=True)
    for kind in KINDS:
        expected = few_shot_bound(a, m, kind=kind, clip=False)
        got = few_shot_bound(b, m, kind=kind, clip=False)
        torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-9)
    for kind in UNION:
        expected, got = pair_bound(a, m, kind=kind), pair_bound(b, m, kind=kind)
        torch.testing.assert_close(
            got[names][:, names], expected, rtol=1e-6, atol=1e-9, equal_nan=True
        )


def test_limit_is_cantelli_of_the_directional_cdnv() -> None:
    g = quietly(reference.asymmetric(3))
    vt = off_diagonal(directional_cdnv(g))
    torch.testing.assert_close(off_diagonal(pair_bound(g, 1, kind="limit")), 4 * vt / (1 + 4 * vt))
    # Without a fourth moment, too: infinitely many shots need none.
    heavy = replace(g, fourth_moment=torch.full_like(g.fourth_moment, torch.inf))
    torch.testing.assert_close(
        pair_bound(heavy, 1, kind="limit"), pair_bound(g, 1, kind="limit"), equal_nan=True
    )


def test_shots_of_the_right_class_count() -> None:
    """Doubling only class 2's shots changes only the pairs that class 2 is an end of."""
    g = quietly(reference.asymmetric(0))
    a, b = pair_bound(g, [3, 3, 3, 3]), pair_bound(g, [3, 3, 6, 3])
    touched = torch.zeros(4, 4, dtype=torch.bool)
    touched[2], touched[:, 2] = True, True
    touched.fill_diagonal_(False)
    assert ((a != b) & a.isfinite()).equal(touched & a.isfinite())
    torch.testing.assert_close(pair_bound(g, 3), a, equal_nan=True)


# Gaussian prediction


@pytest.mark.parametrize(
    ("classes", "m", "distance", "most"),
    [(2, 1, 3.0, 1.1), (2, 10, 2.5, 1.1), (3, 5, 4.0, 1.5), (5, 20, 4.5, 1.6)],
)
def test_gaussian_prediction_is_close_for_gaussian_data(
    classes: int, m: int, distance: float, most: float
) -> None:
    """Of two classes; with more, the sum over rivals counts some errors twice."""
    rng = np.random.default_rng(0)
    y = np.arange(classes).repeat(300)
    x = np.linspace(0.8, 1.2, classes)[y, None] * rng.normal(size=(len(y), 64))
    x += distance * np.eye(64)[y]
    error, noise = reference.few_shot_error(x, y, [m] * classes, 300, rng)
    predicted = float(gaussian_prediction(quietly((x, y), cross_trace="exact"), m))
    assert error > 0.01
    assert 0.9 * error - 4 * noise < predicted < most * error + 4 * noise
    assert predicted < float(few_shot_bound(quietly((x, y)), m))


# Shots needed


@pytest.mark.parametrize("kind", KINDS)
def test_shots_needed_is_the_least(kind: str) -> None:
    found = []
    for seed in range(12):
        x, y = reference.asymmetric(seed, (9, 12, 7), 6)
        g = quietly((x + 3 * (1 + seed) * np.eye(6)[y], y), joint=True)
        limit = float(few_shot_bound(g, 1, kind="limit"))
        for factor in (1.05, 1.5):
            target = min(0.99, limit * factor)
            needed = shots_needed(g, target, kind=kind)
            found.append(needed)
            if needed is None:
                assert float(few_shot_bound(g, 2**40, kind=kind)) > target
                continue
            values = [
                float(few_shot_bound(g, m, kind=kind)) <= target
                for m in range(max(1, needed - 60), needed + 1)
            ]
            assert values == [False] * (len(values) - 1) + [True]
    assert any(needed is not None for needed in found)


def test_shots_needed_is_none_where_no_number_suffices() -> None:
    g = quietly(reference.asymmetric(0))
    limit = float(few_shot_bound(g, 1, kind="limit"))
    assert shots_needed(g, limit * 0.999) is None
    assert shots_needed(g, limit * 0.999, kind="limit") is None
    assert shots_needed(g, min(0.999, limit * 1.001), kind="limit") == 1


def test_shots_needed_sees_a_bound_that_rises() -> None:
    """A point at the mean of a wide class: fewer shots leave its centre far from the point."""
    x = torch.tensor([[0.0], [0.0], [-1.0], [1.0]]).double()
    x = torch.cat([x, x + 1_000])
    g = quietly((x, torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])))
    values = pair_bound(g, 1)[0, 1], pair_bound(g, 50)[0, 1]
    assert values[0] < values[1]
    bounds = [float(few_shot_bound(g, m)) for m in range(1, 33)]
    target = (min(bounds) + bounds[-1]) / 2
    least = next(m for m, bound in enumerate(bounds, 1) if bound <= target)
    assert shots_needed(g, target) == least


# Degenerate input


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("m", [1, 7])
def test_constant_features_are_one(kind: str, m: int) -> None:
    y = torch.arange(6) // 2
    g = quietly((torch.ones(6, 3), y), joint=True)
    assert float(few_shot_bound(g, m, kind=kind)) == 1
    assert float(gaussian_prediction(g, m)) == 1
    if kind != "joint":
        assert (off_diagonal(pair_bound(g, m, kind=kind, clip=False)) == 1).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("m", [1, 7])
def test_zero_variance_is_zero(kind: str, m: int) -> None:
    y = torch.arange(8) // 2
    g = quietly((torch.eye(4)[y], y), joint=True)
    assert float(few_shot_bound(g, m, kind=kind)) == 0
    assert float(gaussian_prediction(g, m)) == 0
    assert shots_needed(g, 0.01, kind=kind) == 1


def test_some_classes_without_variance() -> None:
    x, y = reference.asymmetric(1, (8, 8, 8, 8), 5)
    x[y < 2] = 0
    x += 40 * np.eye(5)[y]
    g = quietly((x, y), joint=True)
    values = [float(few_shot_bound(g, 5, kind=kind)) for kind in ("joint", "certificate")]
    assert 0 < values[0] <= values[1] < 0.5
    assert float(pair_bound(g, 5)[0, 1]) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [1e80, 1e100])
def test_infinite_fourth_moments_are_one(kind: str, scale: float) -> None:
    """Features this large have no fourth moment in float64."""
    x, y = reference.asymmetric(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        g = class_geometry(torch.as_tensor(x * scale), torch.as_tensor(y), joint=True)
    assert g.fourth_moment.isinf().all()
    value = float(few_shot_bound(g, 3, kind=kind))
    assert 0 <= value <= 1
    if kind in ("certificate", "joint", "theorem_4_1"):
        assert value == 1
    assert not math.isnan(float(gaussian_prediction(g, 3)))


@pytest.mark.parametrize("kind", KINDS)
def test_one_sample_per_class(kind: str) -> None:
    g = quietly((np.eye(3), np.arange(3)), joint=True)
    assert float(few_shot_bound(g, 1, kind=kind)) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_missing_classes_are_left_out(kind: str) -> None:
    x, y = reference.asymmetric(1)
    whole = quietly((x, y), joint=True)
    spread = quietly((x, np.array([0, 2, 3, 5])[y]), num_classes=7, joint=True)
    for clip in (True, False):
        expected = few_shot_bound(whole, 4, kind=kind, clip=clip)
        torch.testing.assert_close(few_shot_bound(spread, 4, kind=kind, clip=clip), expected)
    torch.testing.assert_close(gaussian_prediction(spread, 4), gaussian_prediction(whole, 4))
    if kind != "joint":
        pairs = pair_bound(spread, 4, kind=kind)
        assert pairs[1].isnan().all()
        assert pairs[:, 4].isnan().all()
        assert int(pairs.isnan().sum()) == 49 - 12


@pytest.mark.parametrize("kind", KINDS)
def test_one_class_present_has_no_error(kind: str) -> None:
    g = quietly((np.random.default_rng(0).normal(size=(5, 3)), np.ones(5, int)), joint=True)
    assert float(few_shot_bound(g, 2, kind=kind)) == 0


@given(seed=st.integers(0, 10_000), m=st.integers(1, 10**6), log=st.floats(-30, 30))
@settings(max_examples=60, deadline=None)
def test_never_nan(seed: int, m: int, log: float) -> None:
    x, y = reference.probe_set(seed, largest=8)
    g = quietly((x * 10**log, y), joint=True)
    unbiased = quietly((x * 10**log, y), unbiased=True)
    for kind in KINDS:
        assert 0 <= float(few_shot_bound(g, m, kind=kind)) <= 1
        assert float(few_shot_bound(g, m, kind=kind, clip=False)) >= 0
        if kind != "joint":
            assert 0 <= float(few_shot_bound(unbiased, m, kind=kind)) <= 1


# Bad input


@pytest.mark.parametrize(
    ("shots", "kwargs", "match"),
    [
        (0, {}, "whole numbers, at least 1, got 0"),
        ([3, 3, 0, 3], {}, r"at least 1, got \[3, 3, 0, 3\]"),
        (2.5, {}, "whole numbers, at least 1, got 2.5"),
        (float("nan"), {}, "whole numbers, at least 1, got nan"),
        ([3, 3, 3], {}, r"one per class \[4\], got shape \[3\]"),
        (torch.ones(4, 1), {}, r"one per class \[4\], got shape \[4, 1\]"),
        (3, {"kind": "theorem"}, "certificate, joint, theorem_4_1, luthra_2025, limit, got 'theo"),
        (3, {"kind": "joint"}, r"class_geometry\(..., joint=True\)"),
        ([3, 3, 3, 4], {"kind": "theorem_4_1"}, 'theorem_4_1 .*one number of shots.*"certificate"'),
        ([3, 3, 3, 4], {"kind": "luthra_2025"}, "luthra_2025 is stated for one number of shots"),
        (3, {"ways": 1}, "between 2 and the 4 classes, got 1"),
        (3, {"ways": 5}, "between 2 and the 4 classes, got 5"),
    ],
)
def test_bad_input(shots: object, kwargs: dict, match: str) -> None:
    g = quietly(reference.asymmetric(0))
    with pytest.raises(ValueError, match=match):
        few_shot_bound(g, shots, **kwargs)
    if not {"ways", "joint"} & {*kwargs, kwargs.get("kind")} and kwargs.get("kind") != "theorem":
        with pytest.raises(ValueError, match=match):
            pair_bound(g, shots, **kwargs)


def test_bad_input_elsewhere() -> None:
    g = quietly(reference.asymmetric(0), joint=True)
    with pytest.raises(ValueError, match=r"kind must be one of .*, got 'joint'"):
        pair_bound(g, 3, kind="joint")
    with pytest.raises(ValueError, match="at least 1, got -1"):
        gaussian_prediction(g, -1)
    for target in (0.0, 1.0, -0.1, 10, float("nan")):
        with pytest.raises(ValueError, match=r"target_error must be in \(0, 1\), got"):
            shots_needed(g, target)
    with pytest.raises(ValueError, match="kind must be one of"):
        shots_needed(g, 0.1, kind="best")
    with pytest.raises(ValueError, match="plug-in moments"):
        few_shot_bound(quietly(reference.asymmetric(0), unbiased=True), 3, kind="joint")
