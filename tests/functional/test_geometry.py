from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dnc_lightning.functional import (
    ClassGeometry,
    _tiles,
    cdnv,
    class_geometry,
    directional_cdnv,
    pair_mean,
    pair_median,
    resolved_pairs,
)
from tests.functional import reference

GOLDEN = Path(__file__).parents[1] / "golden"
FIELDS = {
    "d2": lambda g, i, j: g.distance2[i, j],
    "A": lambda g, i, j: g.axis_variance[i, j],
    "V": lambda g, i, j: cdnv(g)[i, j],
    "Vtilde": lambda g, i, j: directional_cdnv(g)[i, j],
    "trSi2": lambda g, i, j: g.second_trace[i],
    "trSiSj": lambda g, i, j: g.cross_trace[i, j],
    "M4i": lambda g, i, j: g.fourth_moment[i],
    "vi": lambda g, i, j: g.variance[i],
    "delta_dot_tj": lambda g, i, j: g.third_projection[i, j] - g.third_projection[j, j],
}


def check(geometry: ClassGeometry, expected: dict, rtol: float) -> None:
    for (i, j), values in expected.items():
        for key, value in values.items():
            got = float(FIELDS[key](geometry, i, j))
            # |delta . t_j| <= |delta| E|r|^3, to which rounding is relative where terms cancel.
            size = values["d2"] ** 0.5 * expected[j, i]["M4i"] ** 0.75
            atol = rtol * size if key == "delta_dot_tj" else 1e-300
            assert got == pytest.approx(value, rel=rtol, abs=atol), (key, i, j)


def tensors(data: tuple, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    return torch.as_tensor(data[0]).to(dtype), torch.as_tensor(data[1])


@pytest.mark.parametrize("name", ["balanced", "collapsed"])
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-9), (torch.float32, 1e-4)])
def test_golden(name: str, dtype: torch.dtype, rtol: float) -> None:
    data = np.load(GOLDEN / f"{name}.npz")
    golden = json.loads((GOLDEN / f"{name}.json").read_text())["ddof0"]
    x, y = torch.as_tensor(data["features"], dtype=dtype), torch.as_tensor(data["labels"])
    g = class_geometry(x, y, cross_trace="exact")
    for pair, values in golden["pairs"].items():
        i, j = map(int, pair.split("_"))
        for key, field in FIELDS.items():
            got = float(field(g, i, j))
            atol = rtol * max(1.0, abs(values["A"])) if key == "delta_dot_tj" else rtol * 1e-3
            assert got == pytest.approx(values[key], rel=rtol, abs=atol), (pair, key)
    assert float(pair_mean(cdnv(g))) == pytest.approx(golden["aggregate"]["V"], rel=rtol)
    assert float(pair_mean(directional_cdnv(g))) == pytest.approx(
        golden["aggregate"]["Vtilde"], rel=rtol
    )


def test_golden_identical_means() -> None:
    data = np.load(GOLDEN / "identical_means.npz")
    golden = json.loads((GOLDEN / "identical_means.json").read_text())["ddof0"]
    x, y = torch.as_tensor(data["features"]).double(), torch.as_tensor(data["labels"])
    with pytest.warns(UserWarning, match="2 of 6 ordered pairs .* identical means"):
        g = class_geometry(x, y)
    assert cdnv(g)[0, 1].isnan()
    assert directional_cdnv(g)[1, 0].isnan()
    assert float(resolved_pairs(g)) == pytest.approx(4 / 6)
    expected = golden["aggregate"]["Vtilde_skip_identical"]
    assert float(pair_mean(directional_cdnv(g))) == pytest.approx(expected, rel=1e-12)


@given(
    seed=st.integers(0, 10_000),
    counts=st.lists(st.integers(2, 15), min_size=2, max_size=6),
    d=st.integers(2, 20),
)
@settings(max_examples=60, deadline=None)
def test_matches_the_slow_reference(seed: int, counts: list[int], d: int) -> None:
    x, y = reference.asymmetric(seed, tuple(counts), d)
    g = class_geometry(*tensors((x, y)), cross_trace="exact")
    check(g, reference.pairs(x, y), 1e-8)


@pytest.mark.parametrize("tile_bytes", [1, 1_000, 6_000])
@pytest.mark.parametrize("cross_trace", ["fast", "exact"])
def test_tiles_of_any_size_agree(
    tile_bytes: int, cross_trace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = reference.asymmetric(3, (30, 4, 11, 1, 17), 9)
    whole = class_geometry(*tensors((x, y)), cross_trace=cross_trace)
    monkeypatch.setattr(_tiles, "TILE_BYTES", tile_bytes)
    monkeypatch.setattr("dnc_lightning.functional._moments.TILE_BYTES", tile_bytes)
    tiled = class_geometry(*tensors((x, y)), cross_trace=cross_trace)
    for name in ("axis_variance", "cross_trace", "third_moment", "fourth_moment", "variance"):
        torch.testing.assert_close(getattr(tiled, name), getattr(whole, name))


def test_fast_cross_trace_bounds_the_exact_one() -> None:
    data = tensors(reference.asymmetric(5))
    fast, exact = class_geometry(*data), class_geometry(*data, cross_trace="exact")
    torch.testing.assert_close(fast.second_trace, exact.second_trace)
    assert (fast.cross_trace >= exact.cross_trace * (1 - 1e-12)).all()
    assert not fast.cross_trace_exact


@pytest.mark.parametrize("offset", [0.0, 1_000.0])
def test_float32_keeps_five_digits_at_any_offset(offset: float) -> None:
    """Offset 1,000 times the spread; the reference reads the very same float32 numbers."""
    x, y = reference.asymmetric(11, (60, 45, 52), 40)
    x = (x / x.std() + offset).astype(np.float32)
    g = class_geometry(torch.as_tensor(x), torch.as_tensor(y), cross_trace="exact")
    check(g, reference.pairs(x, y), 1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_cast_up_first(dtype: torch.dtype) -> None:
    x, y = reference.asymmetric(2, (40, 30, 50), 16)
    half = torch.as_tensor(x).to(dtype)
    g = class_geometry(half, torch.as_tensor(y), cross_trace="exact")
    check(g, reference.pairs(half.double().numpy(), y), 1e-5)


def test_user_precision_settings_do_not_reach_the_moments() -> None:
    x, y = reference.asymmetric(2, (40, 30, 50), 16)
    data = tensors((x, y), torch.float32)
    expected = class_geometry(*data)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            got = class_geometry(*data)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    torch.testing.assert_close(got.axis_variance, expected.axis_variance, rtol=1e-12, atol=0)


@given(seed=st.integers(0, 1_000), scale=st.floats(1e-3, 1e3))
@settings(max_examples=25, deadline=None)
def test_invariant_to_rotation_translation_scale_and_order(seed: int, scale: float) -> None:
    x, y = reference.asymmetric(seed)
    rng = np.random.default_rng(seed)
    rotation = np.linalg.qr(rng.normal(size=(x.shape[1],) * 2))[0]
    order, names = rng.permutation(len(y)), rng.permutation(4)
    moved = (x @ rotation * scale + rng.normal(size=x.shape[1]))[order]
    a = class_geometry(*tensors((x, y)))
    b = class_geometry(*tensors((moved, names[y][order])))
    for measure in (cdnv, directional_cdnv):
        expected = measure(a)
        got = measure(b)[names][:, names]
        torch.testing.assert_close(got, expected, rtol=1e-7, atol=0, equal_nan=True)


def test_directional_is_not_symmetric() -> None:
    value = directional_cdnv(class_geometry(*tensors(reference.asymmetric(0))))
    assert ((value - value.T).nan_to_num().abs() > 1e-3).any()


@pytest.mark.parametrize("cross_trace", ["fast", "exact"])
def test_shards_sum_to_the_whole(cross_trace: str) -> None:
    """Three uneven shards, one empty, run in lockstep by threads with a summing barrier."""
    from tests.functional.shards import run_sharded

    x, y = tensors(reference.asymmetric(7, (9, 14, 6, 11), 8))
    whole = class_geometry(x, y, cross_trace=cross_trace)
    cuts = [slice(0, 27), slice(27, 27), slice(27, None)]
    results = run_sharded(
        lambda rank, reduce: class_geometry(
            x[cuts[rank]], y[cuts[rank]], num_classes=4, cross_trace=cross_trace, reduce=reduce
        ),
        len(cuts),
    )
    for result in results:
        for name in ("mean", "variance", "distance2", "axis_variance", "second_trace"):
            torch.testing.assert_close(
                getattr(result, name), getattr(whole, name), rtol=1e-9, atol=1e-12
            )
        torch.testing.assert_close(result.cross_trace, whole.cross_trace, rtol=1e-9, atol=0)


def test_missing_class_is_nan_and_said() -> None:
    x, y = tensors(reference.asymmetric(1))
    with pytest.warns(UserWarning, match=r"1 of 5 classes have no samples \(\[4\]"):
        g = class_geometry(x, y, num_classes=5)
    assert cdnv(g)[4].isnan().all()
    assert cdnv(g)[:, 4].isnan().all()
    torch.testing.assert_close(cdnv(g)[:4, :4], cdnv(class_geometry(x, y)), equal_nan=True)
    assert float(resolved_pairs(g)) == pytest.approx(12 / 20)


def test_zero_variance_is_zero_and_constant_features_are_undefined() -> None:
    y = torch.arange(6) // 2
    x = torch.eye(3)[y]
    g = class_geometry(x, y)
    assert float(pair_mean(cdnv(g))) == 0
    assert float(pair_mean(directional_cdnv(g))) == 0
    with pytest.warns(UserWarning, match="6 of 6 .* identical means"):
        g = class_geometry(torch.full((6, 3), 0.1), y)
    assert pair_mean(cdnv(g)).isnan()
    assert pair_median(cdnv(g)).isnan()


def test_pair_averages_skip_only_undefined_pairs() -> None:
    nan = float("nan")
    values = torch.tensor([[nan, 1.0, 2.0], [4.0, nan, nan], [9.0, 10.0, nan]])
    assert float(pair_mean(values)) == pytest.approx(26 / 5)
    assert float(pair_median(values)) == pytest.approx(4.0)
    with pytest.raises(ValueError, match=r"square matrix \[C, C\], got \[2, 3\]"):
        pair_mean(torch.ones(2, 3))


@pytest.mark.parametrize(
    ("features", "labels", "kwargs", "match"),
    [
        (
            torch.ones(4),
            torch.zeros(4).long(),
            {},
            r"shape \[N, D\], got torch.float32 of shape \[4\]",
        ),
        (torch.ones(4, 2).long(), torch.zeros(4).long(), {}, "floating point"),
        (torch.ones(4, 2), torch.zeros(3).long(), {}, r"integers of shape \[4\].*got .* \[3\]"),
        (torch.ones(4, 2), torch.eye(4), {}, "One-hot"),
        (torch.ones(4, 2), torch.zeros(4), {}, "labels must be integers"),
        (torch.ones(4, 2), torch.tensor([0, 1, -1, 0]), {}, r"in \[0, C\), got -1"),
        (
            torch.ones(4, 2),
            torch.arange(4),
            {"num_classes": 3},
            r"\[0, 3\) for num_classes=3, got 3",
        ),
        (torch.ones(4, 2), torch.zeros(4).long(), {}, "at least two classes, got 1"),
        (torch.ones(0, 2), torch.zeros(0).long(), {"num_classes": 2}, "at least one sample"),
        (torch.ones(4, 2), torch.arange(4), {"reduce": lambda t: t}, "num_classes is needed"),
        (torch.ones(4, 2), torch.arange(4), {"cross_trace": "slow"}, '"fast" or "exact", got'),
    ],
)
def test_bad_input(features: Tensor, labels: Tensor, kwargs: dict, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        class_geometry(features, labels, **kwargs)


def test_one_warning_for_no_fault() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        class_geometry(*tensors(reference.asymmetric(1)), unbiased=True)
