from __future__ import annotations

import numpy as np
import pytest
import torch

from dnc_lightning.functional import (
    axis_cosines,
    class_geometry,
    decision_axes,
    directional_cdnv,
    extreme_pairs,
    random_floor,
)
from tests.functional import reference


def test_axes_are_differences_of_means_in_order() -> None:
    x, y = reference.asymmetric(0)
    axes, pairs = decision_axes(class_geometry(torch.as_tensor(x), torch.as_tensor(y)))
    assert pairs.tolist() == [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]
    for u, (a, b) in zip(axes.numpy(), pairs.tolist(), strict=True):
        delta = x[y == a].mean(0) - x[y == b].mean(0)
        np.testing.assert_allclose(u, delta / np.sqrt(delta @ delta), rtol=1e-12)


def test_an_offset_of_a_thousand_spreads_keeps_five_digits() -> None:
    x, y = reference.asymmetric(1)
    x, y = torch.as_tensor(x), torch.as_tensor(y)
    far = (x + 1000 * x.std()).float()
    wanted = decision_axes(class_geometry(far.double(), y))[0]
    torch.testing.assert_close(decision_axes(class_geometry(far, y))[0], wanted, rtol=0, atol=1e-5)
    half = x.half()
    got, wanted = (decision_axes(class_geometry(f, y))[0] for f in (half, half.double()))
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-5)


def test_pairs_without_an_axis_are_left_out() -> None:
    x = torch.tensor([[0.0, 1], [0, 1], [0, 1], [3, 5]]).double()
    with pytest.warns(UserWarning, match=r"no samples|identical means"):
        geometry = class_geometry(x, torch.tensor([0, 1, 1, 3]), num_classes=4)
    axes, pairs = decision_axes(geometry)
    assert pairs.tolist() == [[0, 3], [1, 3]]
    torch.testing.assert_close(axes, torch.tensor([[-0.6, -0.8]] * 2).double())


def test_cosines_against_a_loop() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(3, 5)), rng.normal(size=(4, 5))
    a /= np.linalg.norm(a, axis=1)[:, None]
    b /= np.linalg.norm(b, axis=1)[:, None]
    got = axis_cosines(torch.as_tensor(a), torch.as_tensor(b))
    for p in range(3):
        for q in range(4):
            assert float(got[p, q]) == pytest.approx(float(sum(a[p] * b[q])), rel=1e-12)
    with pytest.raises(ValueError, match=r"\[Pa, D\] and \[Pb, D\], got \[3, 5\] and \[4, 4\]"):
        axis_cosines(torch.as_tensor(a), torch.as_tensor(b[:, 1:]))


@pytest.mark.parametrize("dim", [8, 64, 512])
def test_floor_of_random_directions(dim: int) -> None:
    u = np.random.default_rng(0).normal(size=(20_000, 2, dim))
    u /= np.linalg.norm(u, axis=2)[..., None]
    cosine = np.abs((u[:, 0] * u[:, 1]).sum(1))
    error = cosine.std() / np.sqrt(len(cosine))
    exact = random_floor(dim) * (1 + 1 / (4 * dim))
    assert abs(cosine.mean() - exact) < 4 * error + exact / (8 * dim**2)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        random_floor(0)


def test_extreme_pairs_rank_both_orders_together() -> None:
    x, y = reference.asymmetric(3, (7, 12, 5, 9, 6), 6)
    moments = reference.pairs(x, y)
    value = {(a, b): moments[a, b]["Vtilde"] + moments[b, a]["Vtilde"] for a, b in moments if a < b}
    ranked = sorted(value, key=value.__getitem__)
    geometry = class_geometry(torch.as_tensor(x), torch.as_tensor(y))
    assert extreme_pairs(geometry) == {
        "best": ranked[0],
        "median": ranked[4],
        "worst": ranked[9],
    }
    assert not torch.equal(directional_cdnv(geometry), directional_cdnv(geometry).T)


def test_no_extreme_pairs_without_resolved_ones() -> None:
    with pytest.warns(UserWarning, match="identical means"):
        geometry = class_geometry(torch.ones(4, 3), torch.tensor([0, 0, 1, 1]))
    assert extreme_pairs(geometry) == {}
    axes, pairs = decision_axes(geometry)
    assert axes.shape == (0, 3)
    assert pairs.shape == (0, 2)
