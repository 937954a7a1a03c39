"""Rare classes: against slow references, at known frames, and a frame found by optimisation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from dnc_lightning.functional import class_geometry
from dnc_lightning.functional.imbalance import (
    fitted_frame,
    growth,
    minority,
    minority_means,
    minority_rows,
    orthogonal_frame,
)
from tests.functional.test_simplex import cloud, frame

COUNTS = torch.tensor([400, 300, 90, 20, 12, 5])


def test_rare_is_below_the_geometric_mean_of_the_ends() -> None:
    assert minority(COUNTS).tolist() == [False, False, False, True, True, True]
    assert minority(torch.tensor([10, 1000])).tolist() == [True, False]
    assert not minority(torch.full((5,), 7)).any()


def six(collapsed: float = 1.0) -> tuple[Tensor, Tensor]:
    """Six classes, the rare half of them drawn together by a factor."""
    means = 3 * frame(6, 8)
    centre = means[3:].mean(0)
    means[3:] = centre + collapsed * (means[3:] - centre)
    return cloud(means, 60, 0.3)


def test_means_match_their_definitions() -> None:
    x, y = six(0.4)
    geometry = class_geometry(x, y, unbiased=True)
    found = minority_means(geometry, COUNTS)
    d2 = geometry.distance2.numpy()
    rare = [d2[i, j] for i in (3, 4, 5) for j in (3, 4, 5) if i != j]
    every = [d2[i, j] for i in range(6) for j in range(6) if i != j]
    # torch's median is the lower of two middle values
    expected = sorted(rare)[(len(rare) - 1) // 2] / sorted(every)[(len(every) - 1) // 2]
    assert float(found.distance) == pytest.approx(expected, rel=1e-9)
    centre = np.eye(6) - 1 / 6
    lengths = np.sqrt(np.diag(-centre @ (d2 - np.diag(np.diag(d2))) @ centre / 2))
    slope = np.polyfit(np.log(COUNTS.numpy()), np.log(lengths), 1)[0]
    assert float(found.growth) == pytest.approx(slope, rel=1e-6)


def test_a_simplex_has_no_minority_and_a_collapsed_one_has() -> None:
    even = minority_means(class_geometry(*six(), unbiased=True), COUNTS)
    assert float(even.distance) == pytest.approx(1, abs=0.1)
    assert abs(float(even.growth)) < 0.03
    assert float(even.unresolved) == float(even.unresolved_others) == float(even.excess) == 0
    gone = minority_means(class_geometry(*six(0.0), unbiased=True), COUNTS)
    assert abs(float(gone.distance)) < 0.01
    assert float(gone.unresolved) == 1
    # Three pairs of three against none of three: 1 / sqrt(1/2 1/2 (1/3 + 1/3)).
    assert float(gone.excess) == pytest.approx(math.sqrt(6), rel=1e-6)


def test_rows_match_their_definitions() -> None:
    weight = torch.randn(6, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = minority_rows(weight + 5, COUNTS)
    rows = (weight - weight.mean(0)).numpy()
    length = np.linalg.norm(rows, axis=1)
    cos = [rows[i] @ rows[j] / length[i] / length[j] for i, j in ((3, 4), (3, 5), (4, 5))]
    assert float(found.cosine) == pytest.approx(min(cos), rel=1e-9)
    assert float(found.length) == pytest.approx(length[3:].min() / np.sort(length)[2], rel=1e-9)
    slope = np.polyfit(np.log(COUNTS.numpy()), np.log(length), 1)[0]
    assert float(found.growth) == pytest.approx(slope, rel=1e-9)


def test_two_rare_rows_in_one_place_have_cosine_1_and_a_row_of_0_has_none() -> None:
    weight = frame(6, 8)
    weight[3:] = weight[3:].mean(0)
    assert float(minority_rows(weight, COUNTS).cosine) == pytest.approx(1, abs=1e-9)
    gone = frame(6, 8)
    gone[5] = gone[[0, 1, 2, 3, 4]].mean(0)  # 0 after centring
    found = minority_rows(gone, COUNTS)
    assert float(found.length) == pytest.approx(0, abs=1e-9)


def test_one_rare_class_has_no_pairs_and_equal_classes_have_no_minority() -> None:
    x, y = six()
    geometry = class_geometry(x, y, unbiased=True)
    one = minority_means(geometry, torch.tensor([100, 100, 100, 100, 100, 2]))
    assert math.isnan(float(one.distance))
    assert math.isnan(float(one.excess))
    none = minority_rows(frame(6, 8), torch.full((6,), 50))
    assert math.isnan(float(none.cosine))
    assert math.isnan(float(none.length))
    assert math.isnan(float(none.growth))


def optimised_frame(counts: list[int], head: float, feature: float, d: int) -> tuple[Tensor, ...]:
    """The minimum of the squared error over W and H themselves, by L-BFGS from a random start."""
    torch.manual_seed(0)
    y = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    target = torch.nn.functional.one_hot(y, len(counts)).double().T
    w = torch.randn(len(counts), d, dtype=torch.float64, requires_grad=True)
    h = torch.randn(d, len(y), dtype=torch.float64, requires_grad=True)
    steps = torch.optim.LBFGS([w, h], max_iter=5000, tolerance_grad=1e-12, tolerance_change=1e-14,
                              history_size=50, line_search_fn="strong_wolfe")  # fmt: skip

    def loss() -> Tensor:
        steps.zero_grad()
        error = (w @ h - target).square().sum() / (2 * len(y))
        value = error + head / 2 * w.square().sum() + feature / 2 * h.square().sum()
        value.backward()
        return value

    steps.step(loss)
    one = [int((y == k).nonzero()[0]) for k in range(len(counts))]
    return w.detach().norm(dim=1), h.detach()[:, one].norm(dim=0)


def test_the_frame_is_what_optimisation_finds_and_small_classes_vanish() -> None:
    counts, head, feature = [40, 20, 10, 2], 0.02, 2e-4
    found = orthogonal_frame(torch.tensor(counts), head, feature)
    for formula, slow in zip(found, optimised_frame(counts, head, feature, 6), strict=True):
        torch.testing.assert_close(formula, slow, rtol=1e-4, atol=1e-3)
    threshold = sum(counts) ** 2 * head * feature
    gone = orthogonal_frame(torch.tensor(counts), head, 400 * feature)[0]
    assert [bool(w == 0) for w in gone] == [n <= 400 * threshold for n in counts]
    assert any(n <= 400 * threshold < counts[0] for n in counts)


def test_growth_in_a_large_frame_is_a_quarter_and_no_proportion() -> None:
    counts = torch.tensor([1000, 500, 200, 100])
    head, feature = orthogonal_frame(counts, 1e-6, 1e-8)
    assert float(growth(head, counts)) == pytest.approx(0.25, abs=0.01)
    assert float(growth(feature, counts)) == pytest.approx(-0.25, abs=0.01)


def test_a_frame_is_fitted_to_its_own_lengths() -> None:
    counts = torch.tensor([400, 200, 80, 30, 10])
    lengths, _ = orthogonal_frame(counts, 1e-3, 1e-6)
    found, explained = fitted_frame(lengths, counts)
    torch.testing.assert_close(found, lengths, rtol=1e-6, atol=1e-6)
    assert explained == pytest.approx(1)
    assert fitted_frame(torch.tensor([1.0, 2.0, 1.0, 2.0, 9.0]), counts)[1] < 0.5


@pytest.mark.parametrize("counts", [[], [3, 0], [[1, 2]]])
def test_counts_must_be_numbers_of_samples(counts: list) -> None:
    with pytest.raises(ValueError, match="counts must be"):
        minority(torch.tensor(counts))


def test_counts_of_other_classes_and_decays_of_0_are_refused() -> None:
    with pytest.raises(ValueError, match=r"counts must be \[6\]"):
        minority_rows(frame(6, 8), torch.tensor([1, 2]))
    with pytest.raises(ValueError, match="decays must be above 0"):
        orthogonal_frame(COUNTS, 0.0, 1.0)
