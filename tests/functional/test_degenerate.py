"""No input makes a number look better than it is: compared with exact rational arithmetic."""

from __future__ import annotations

import math
import warnings
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from dnc_lightning.functional import (
    bound_summary,
    cdnv,
    class_geometry,
    collapse_summary,
    directional_cdnv,
    few_shot_bound,
    ncc_error,
    orthogonality_summary,
    pair_bound,
    population_estimate,
)
from dnc_lightning.functional._scale import unit_rows
from dnc_lightning.functional.few_shot import _Supports, ncc_errors
from dnc_lightning.functional.summary import population_summary
from tests.functional import reference
from tests.functional.exact import Exact, episode_error

# Dyadic, so that a tie is one exactly, and further apart than rounding: what differs by less is a
# tie here, whatever exact arithmetic says.
VALUES = [0.0, 0.0, 1.0, -1.0, 0.125, 3.0, 0.75, 2.0**-10, -(2.0**-10), 2.0**-13, 300.0]


@st.composite
def degenerate(draw: st.DrawFn, classes: int = 4) -> tuple[Tensor, Tensor]:
    """Few distinct rows, dead and constant units, unequal classes, one of many scales."""
    d = draw(st.integers(1, 4))
    row = st.lists(st.sampled_from(VALUES), min_size=d, max_size=d)
    pool = draw(st.lists(row, min_size=1, max_size=5))
    counts = draw(st.lists(st.integers(1, 5), min_size=2, max_size=classes))
    labels = [c for c, n in enumerate(counts) for _ in range(n)]
    rows = [draw(st.sampled_from(pool)) for _ in labels]
    x = torch.tensor(rows, dtype=torch.float64)
    if draw(st.booleans()):
        x[:, draw(st.integers(0, d - 1))] = draw(st.sampled_from([0.0, 1.25, 1e3]))
    if draw(st.booleans()):
        return x * 2.0 ** draw(st.sampled_from([-100, -40, 0, 40, 100])), torch.tensor(labels)
    # Subnormal float32 numbers at the lower end: 2^-149 is the least.
    exponent = draw(st.sampled_from([-136, -100, -60, 0, 33, 60, 100]))
    return (x * 2.0**exponent).float(), torch.tensor(labels)


def quietly(x: Tensor, y: Tensor, **kwargs: object) -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return class_geometry(x, y, **kwargs)


def not_better(value: float, truth: Fraction | None, digits: float = 1e-5) -> bool:
    """nan, or at least the truth (None: infinite) up to a relative rounding."""
    if math.isnan(value):
        return True
    return truth is not None and value >= float(truth) * (1 - digits)


@given(degenerate())
@settings(max_examples=120, deadline=None)
def test_collapse_is_never_better_than_the_truth(data: tuple[Tensor, Tensor]) -> None:
    x, y = data
    exact, g = Exact.of(x, y), quietly(x, y)
    classes = len(exact.samples)
    pairs = [(i, j) for i in range(classes) for j in range(classes) if i != j]
    truth = {
        "cdnv": {p: exact.cdnv(*p) for p in pairs},
        "directional_cdnv": {p: exact.directional(*p) for p in pairs},
    }
    summary = collapse_summary(g)
    for name, matrix in (("cdnv", cdnv(g)), ("directional_cdnv", directional_cdnv(g))):
        for (i, j), value in truth[name].items():
            # A variance 1 / eps times the squared distance leaves no digit of what is along it,
            # and float32 few of a share of it of 1e-6.
            lost = 0.0 if value is None else 1e-15 * float(truth["cdnv"][i, j] or 0)
            digits = 1e-5 if name == "cdnv" else 3e-4 + lost
            assert not_better(float(matrix[i, j]), value, digits), (name, i, j)
            if min(len(exact.samples[i]), len(exact.samples[j])) == 1:
                assert matrix[i, j].isnan()
        values = sorted(math.inf if v is None else float(v) for v in truth[name].values())
        mean = None if math.inf in values else Fraction(sum(values) / len(values))
        assert not_better(float(summary[name]), mean, 1e-2)
        # The middle two of a rising list: no better than the lower one of them.
        assert not_better(float(summary[f"{name}_median"]), _middle(values), 1e-2)


def _middle(values: list[float]) -> Fraction | None:
    lower = values[(len(values) - 1) // 2]
    return None if math.isinf(lower) else Fraction(lower)


@given(degenerate(), st.sampled_from([1, 2, 5]))
@settings(max_examples=120, deadline=None)
def test_bounds_are_never_better_than_the_truth(data: tuple[Tensor, Tensor], m: int) -> None:
    x, y = data
    exact, g = Exact.of(x, y), quietly(x, y, joint=True)
    assert not_better(float(few_shot_bound(g, m)), exact.certificate(m))
    if len(exact.samples) == 2:
        error = float(exact.one_shot_error())
        for kind in ("certificate", "joint", "theorem_4_1", "luthra_2025"):
            assert float(few_shot_bound(g, 1, kind=kind)) >= error - 1e-6, kind


@given(degenerate(), st.integers(1, 3))
@settings(max_examples=120, deadline=None)
def test_measured_error_is_never_better_than_the_truth(data: tuple[Tensor, Tensor], m: int) -> None:
    x, y = data
    count = torch.bincount(y)
    m = min(m, int(count.min()) - 1)
    assume(m >= 1)
    found, _ = ncc_error(x, y, shots=m, episodes=3)
    drawn = _Supports.build(y, count, torch.arange(len(y)), m, y.device).draw(
        3, torch.Generator().manual_seed(0)
    )
    truth = sum(episode_error(x, y, supports) for supports in drawn.tolist()) / 3
    assert float(truth) - 1e-6 <= float(found) <= 1


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("value", [0.0, 0.1, 1.3, -7e3])
@pytest.mark.parametrize("ways", [None, 2])
def test_a_constant_encoder_is_at_chance(
    dtype: torch.dtype, value: float, ways: int | None
) -> None:
    y = torch.arange(60) % 3
    x = torch.full((60, 16), value, dtype=dtype)
    mean, error = ncc_error(x, y, shots=5, ways=ways, episodes=20)
    assert float(mean) == pytest.approx(1 - 1 / (ways or 3), abs=1e-7)
    assert float(error) == pytest.approx(0, abs=1e-7)
    g = quietly(x, y)
    assert float(few_shot_bound(g, 5)) == 1
    assert all(v.isnan() for k, v in collapse_summary(g).items() if k != "resolved_pairs")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_noise_of_the_arithmetic_is_a_constant(dtype: torch.dtype) -> None:
    """Of which class the last bit speaks does not matter: nothing of it is the encoder's."""
    y = torch.arange(80) % 4
    unit = 2.0 ** math.ceil(math.log2(torch.finfo(dtype).eps))
    noise = torch.rand(80, 16, generator=torch.Generator().manual_seed(0)) < 0.2 + 0.2 * y[:, None]
    x = (1 + noise.double() * unit).to(dtype)
    assert len(x.unique()) == 2
    assert float(ncc_error(x, y, shots=5)[0]) == pytest.approx(0.75)
    g = quietly(x, y)
    assert float(few_shot_bound(g, 5)) == 1
    assert cdnv(g).isnan().all()
    assert not (orthogonality_pairs(x, y))


def orthogonality_pairs(x: Tensor, y: Tensor) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = orthogonality_summary(x, {"a": y, "b": torch.arange(len(y)) // 4 % 2})
    return sum(len(pairs) for pairs in found.pairs.values())


def test_classes_on_one_point_are_guessed_among() -> None:
    y = torch.arange(80) % 4
    for offset in (0.0, 1.0, 1e3):
        x = torch.zeros(80, 8)
        x[y == 3, 0] = 1
        assert float(ncc_error(x + offset, y, shots=5)[0]) == pytest.approx(0.5, abs=1e-6)
        g = quietly(x + offset, y)
        assert pair_bound(g, 5)[0, 1] == 1
        assert pair_bound(g, 5)[3, 0] == 0
        summary = collapse_summary(g)
        assert summary["directional_cdnv"].isnan()
        assert summary["directional_cdnv_median"].isnan()


def test_dead_units_are_mostly_guesses() -> None:
    """A tenth of the samples is alive, whatever the class: five supports of a class are all dead
    with probability .59, and a centre away from 0 loses every dead query."""
    y = torch.arange(400) % 4
    x = torch.zeros(400, 16)
    x[torch.rand(400, generator=torch.Generator().manual_seed(0)) < 0.1, 0] = 1
    mean, error = ncc_error(x, y, shots=5, episodes=400)
    assert abs(float(mean) - 0.75) < 5 * float(error) + 0.01


@pytest.mark.parametrize("shots", [1, 5])
def test_sparse_features_without_signal_are_at_chance(shots: int) -> None:
    y = torch.arange(400) % 4
    x = (torch.rand(400, 16, generator=torch.Generator().manual_seed(1)) < 0.05).float()
    mean, error = ncc_error(x, y, shots=shots, episodes=400)
    # 95 samples of a class are left: what the draw of the set itself adds is about .02.
    assert abs(float(mean) - 0.75) < 5 * float(error) + 0.03


def test_a_tie_of_distinct_centres_is_a_guess() -> None:
    """The query 0 is as near to the centre -1 as to 1, in every direction of the offset."""
    x = torch.tensor([[-1.0], [0.0], [1.0], [1.0]])
    y = torch.tensor([0, 0, 1, 1])
    errors = {round(float(ncc_error(x * s + o * s, y, shots=1, episodes=200)[0]), 6)
              for s in (2.0**-40, 1.0, 2.0**40) for o in (0.0, 0.5, 4.0)}  # fmt: skip
    # Supports -1 or 0 of class 0: the query 0 is tied, the query -1 right; class 1 is right.
    assert len(errors) == 1
    assert 0.1 < errors.pop() < 0.15


@pytest.mark.parametrize(
    ("dtype", "scale", "digits"),
    [
        *((torch.float64, 10.0**e, 1e-9) for e in (-30, -8, 8, 30)),
        # Decimal scales round float32 features anew, powers of two do not.
        *((torch.float32, 10.0**e, 5e-6) for e in (-18, -12, 12, 18)),
        *((torch.float32, 2.0**e, 1e-6) for e in (-60, 60)),
    ],
)
def test_scale_changes_nothing(dtype: torch.dtype, scale: float, digits: float) -> None:
    values, labels = reference.asymmetric(4, (20, 25, 22), 6)
    x, y = torch.as_tensor(values), torch.as_tensor(labels)
    one = _everything(x.to(dtype), y)
    other = _everything((x * scale).to(dtype), y)
    assert one.keys() == other.keys()
    for key, value in one.items():
        assert other[key] == pytest.approx(value, rel=digits, abs=1e-9), key


def _everything(x: Tensor, y: Tensor) -> dict[str, float]:
    g = class_geometry(x, y, joint=True)
    found = {**collapse_summary(g), **bound_summary(g, [1, 5])}
    found["joint"] = few_shot_bound(g, 5, kind="joint")
    found["unbiased"] = few_shot_bound(class_geometry(x, y, unbiased=True), 5)
    means, _ = ncc_errors(x, y, shots=[1, 5], episodes=10)
    found |= {f"error/{k}": value for k, value in enumerate(means)}
    names, statistic = population_summary([5])
    estimate = population_estimate(x, y, statistic)
    found |= {name.format("high"): value for name, value in zip(names, estimate.high, strict=True)}
    tasks = {"a": y, "b": torch.arange(len(y)) % 2}
    found |= orthogonality_summary(x, tasks).scalars
    normalised = class_geometry(unit_rows(x), y)
    found |= {f"unit/{key}": value for key, value in collapse_summary(normalised).items()}
    return {key: float(value) for key, value in found.items() if not value.isnan()}


def test_a_narrow_class_beside_a_far_one_keeps_its_digits() -> None:
    """Spread 1e-5 and distance 1e-3, a million spreads away from a third class."""
    rng = np.random.default_rng(0)
    narrow = rng.normal(size=(30, 5)) * 1e-5
    narrow[15:] += 1e-3
    values = np.concatenate([narrow, 10 + rng.normal(size=(15, 5))]).astype(np.float32)
    labels = np.arange(45) // 15
    expected = reference.pairs(values, labels)
    g = class_geometry(torch.as_tensor(values), torch.as_tensor(labels))
    for pair in ((0, 1), (1, 0), (0, 2), (2, 0)):
        assert float(cdnv(g)[pair]) == pytest.approx(expected[pair]["V"], rel=1e-5)
        assert float(directional_cdnv(g)[pair]) == pytest.approx(expected[pair]["Vtilde"], rel=1e-5)


def test_one_sample_has_no_variance() -> None:
    x, y = torch.eye(4), torch.arange(4)
    g = quietly(x, y)
    assert cdnv(g).isnan().all()
    assert directional_cdnv(g).isnan().all()
    assert float(collapse_summary(g)["resolved_pairs"]) == 0
    assert all(value.isnan() for value in bound_summary(g, [1, 5]).values())
