"""Features that are not finite, collapsed classes and one far sample: nan or the right value."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor

from dnc_lightning.functional import (
    bound_summary,
    cdnv,
    class_geometry,
    collapse_summary,
    cramers_v,
    decision_axes,
    few_shot_bound,
    gaussian_prediction,
    ncc_error,
    orthogonality_bound,
    orthogonality_summary,
    population_estimate,
    shots_needed,
    variance_decomposition,
)
from dnc_lightning.functional.few_shot import Shard, ncc_errors
from dnc_lightning.functional.summary import population_summary
from dnc_lightning.metrics import DirectionalCollapse, FewShotError, TaskOrthogonality
from tests.functional.exact import Exact, dot

pytestmark = pytest.mark.filterwarnings("ignore:.*identical means", "ignore:.*have no axis")

UNSIGNED = [torch.uint8, torch.uint16, torch.uint32, torch.uint64]


def healthy(n: int = 80, classes: int = 4) -> tuple[Tensor, Tensor]:
    y = torch.arange(n) % classes
    noise = torch.randn(n, 8, generator=torch.Generator().manual_seed(0))
    return noise + 2 * torch.eye(8)[y], y


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("everywhere", [False, True])
def test_features_that_are_not_finite_have_no_error_and_no_bound(
    value: float, everywhere: bool
) -> None:
    x, y = healthy()
    x[slice(None) if everywhere else 3, 0] = value
    assert all(v.isnan() for v in ncc_error(x, y, shots=5))
    g = class_geometry(x, y)
    kinds: tuple[Any, ...] = ("certificate", "theorem_4_1", "luthra_2025", "limit")
    for kind in kinds:
        assert few_shot_bound(g, 5, kind=kind).isnan(), kind
    assert gaussian_prediction(g, 5).isnan()
    assert shots_needed(g, 0.1) is None
    assert all(v.isnan() for v in bound_summary(g, [1, 5]).values())
    split = variance_decomposition(x, y, pairs=[(3, 0)])
    assert split.on_axis.isnan().all()
    assert split.total.isnan().all()
    metric = FewShotError(shots=(5,), num_classes=4)
    metric.update(x, y)
    assert all(v.isnan() for v in metric.compute().values())


def test_one_process_with_nan_makes_the_error_of_all_nan() -> None:
    x, y = healthy()
    x[1] = torch.nan
    halves = [torch.arange(0, 80, 2), torch.arange(1, 80, 2)]
    # What the process with row 1 adds to any sum.
    shard = Shard(y, halves[0], lambda tensor: tensor + torch.nan)
    mean, error = ncc_errors(x[halves[0]], y[halves[0]], shots=[1, 5], shard=shard)
    assert mean.isnan().all()
    assert error.isnan().all()


def test_no_number_of_a_collapsed_encoder_is_the_best_of_a_run() -> None:
    """Three of four classes on one point, exactly or but for sampling noise of a thousandth."""
    x, y = healthy()
    one_apart = torch.zeros(80, 8)
    one_apart[y == 3, 0] = 1
    noise = 1e-3 * torch.randn(80, 8, generator=torch.Generator().manual_seed(1))
    good = _numbers(x, y)
    for collapsed in (torch.zeros(80, 8), one_apart, one_apart + noise):
        found = _numbers(collapsed, y)
        for key, value in good.items():
            # The certificates are capped: 1 of a healthy encoder says nothing, and .75 is true.
            if not key.startswith(("certificate", "few_shot", "resolved")):
                assert not found[key] < value, (key, found[key], value)
        assert found["resolved_pairs"] <= 0.5
    assert good["theorem_4_1/5"] > 3  # the capped value of a constant encoder


def _numbers(x: Tensor, y: Tensor) -> dict[str, float]:
    g = class_geometry(x, y)
    found = {**collapse_summary(g), **bound_summary(g, [1, 5])}
    names, statistic = population_summary([5])
    estimate = population_estimate(x, y, statistic, geometry=g)
    found |= {n.format("low"): v for n, v in zip(names, estimate.low, strict=True)}
    return {key: float(value) for key, value in found.items()}


def test_unbiased_values_speak_for_more_than_half_of_the_pairs() -> None:
    x, y = healthy(200, 5)
    x[y == 1] = x[y == 0]  # not equal up to rounding only: equal means, but a variance of each
    summary = collapse_summary(class_geometry(x, y))
    assert float(summary["resolved_pairs"]) == pytest.approx(0.9)
    expected = cdnv(class_geometry(x, y, unbiased=True)).nanmean()
    assert float(summary["cdnv_unbiased"]) == pytest.approx(float(expected))


@pytest.mark.parametrize("dtype", UNSIGNED)
def test_labels_of_any_integer_type(dtype: torch.dtype) -> None:
    x, y = healthy()
    z, other = y.to(dtype), torch.arange(80) // 4 % 2
    assert torch.equal(ncc_error(x, z, shots=5)[0], ncc_error(x, y, shots=5)[0])
    assert torch.equal(class_geometry(x, z).distance2, class_geometry(x, y).distance2)
    found, expected = (variance_decomposition(x, k, pairs=[(0, 2)]).total for k in (z, y))
    assert torch.equal(found, expected)
    assert float(cramers_v(z, z)) == pytest.approx(1)
    low = [orthogonality_bound(x, k, other).low for k in (z, y)]
    assert torch.equal(*low)
    for metric in (DirectionalCollapse(), FewShotError(shots=(5,)), TaskOrthogonality()):
        values = []
        for k in (z, y):
            metric.reset()
            metric.update(x, {"a": k, "b": other} if isinstance(metric, TaskOrthogonality) else k)  # type: ignore[arg-type]
            values.append(metric.compute())
        torch.testing.assert_close(values[0], values[1], equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("far", [1e4, 1e6, 1e10])
def test_the_interval_holds_the_cosine_beside_one_far_sample(
    dtype: torch.dtype, far: float
) -> None:
    """Variances along an axis between close means cancel out of ones of the far sample's size."""
    for seed in range(12):
        g = torch.Generator().manual_seed(seed)
        x = torch.randint(-2, 3, (15, 3), generator=g).to(dtype)
        x[int(torch.randint(15, (1,), generator=g))] += far
        y = torch.arange(15) % 3
        z = torch.rand(15, generator=g).argsort() % 2
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            interval = orthogonality_bound(x, y, z)
            pairs = orthogonality_summary(x, {"y": y, "z": z}).pairs
            axes = decision_axes(class_geometry(x, y))[1]
        assert pairs["y"].tolist() == axes.tolist()
        one, two = Exact.of(x, y), Exact.of(x, z)
        for p, (a, b) in enumerate(pairs["y"].tolist()):
            for q, (c, d) in enumerate(pairs["z"].tolist()):
                left, right = one.delta(a, b), two.delta(c, d)
                cosine = float(dot(left, right)) / (
                    float(dot(left, left)) ** 0.5 * float(dot(right, right)) ** 0.5
                )
                assert float(interval.low[p, q]) - 1e-12 <= cosine, (seed, p, q)
                assert cosine <= float(interval.high[p, q]) + 1e-12, (seed, p, q)


@pytest.mark.parametrize("n", [2, 3])
def test_too_few_samples_for_an_estimate_have_no_interval(n: int) -> None:
    x, y = healthy(4 * n)
    names, statistic = population_summary([1, 5])
    estimate = population_estimate(x, y, statistic)
    for end in (estimate.value, estimate.low, estimate.high):
        assert len(end) == len(names)
        assert end.isnan().all()
