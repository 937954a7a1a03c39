from __future__ import annotations

import warnings
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dnc_lightning.functional import (
    Interval,
    axis_cosines,
    class_geometry,
    cramers_v,
    decision_axes,
    orthogonality_bound,
    orthogonality_summary,
    random_floor,
)
from dnc_lightning.functional import orthogonality as module
from tests.functional.shards import run_sharded

Array = np.ndarray
Axis = tuple[Array, float]


def axis(x: Array, y: Array, a: int, b: int) -> Axis:
    delta = x[y == a].mean(0) - x[y == b].mean(0)
    return delta / np.sqrt(delta @ delta), float(np.sqrt(delta @ delta))


def class_pairs(y: Array) -> list[tuple[int, int]]:
    return list(combinations(sorted(set(y.tolist())), 2))


def one_sided(
    x: Array, y1: Array, y2: Array, p: tuple[int, int], q: tuple[int, int], by_class: bool
) -> tuple[float, float]:
    """The general form, sample by sample: conditioning on task 2, one end and the other."""
    (_, d1), (u2, d2) = axis(x, y1, *p), axis(x, y2, *q)
    f = x @ u2
    h = (y1 == p[0]) / (y1 == p[0]).mean() - (y1 == p[1]) / (y1 == p[1]).mean()
    g, mu = np.zeros(len(x)), np.zeros(len(x))
    for c in set(y2.tolist()):
        g[y2 == c], mu[y2 == c] = h[y2 == c].mean(), f[y2 == c].mean()
    centre = float((g * mu).mean()) / d1
    if by_class:
        radius = sum(
            (y2 == c).mean() * h[y2 == c].std() * f[y2 == c].std() for c in set(y2.tolist())
        )
        radius /= d1
    else:
        v2_all = ((f - mu) ** 2).mean() / d2**2
        radius = d2 / d1 * np.sqrt(((h - g) ** 2).mean() * v2_all)
    return centre - radius, centre + radius


def general(
    x: Array, y1: Array, y2: Array, p: tuple[int, int], q: tuple[int, int], by_class: bool = True
) -> tuple[float, float]:
    low1, high1 = one_sided(x, y1, y2, p, q, by_class)
    low2, high2 = one_sided(x, y2, y1, q, p, by_class)
    return max(low1, low2, -1), min(high1, high2, 1)


def proposition(x: Array, y1: Array, y2: Array, p: tuple[int, int], q: tuple[int, int]) -> float:
    """For K classes sqrt(2 K V), which is 2 sqrt V for two."""
    (u1, d1), (u2, d2) = axis(x, y1, *p), axis(x, y2, *q)
    v1 = np.mean([(x[y1 == c] @ u1).var() for c in p]) / d1**2
    v2 = np.mean([(x[y2 == c] @ u2).var() for c in q]) / d2**2
    k1, k2 = len(set(y1.tolist())), len(set(y2.tolist()))
    return float(min(1, d1 / d2 * np.sqrt(2 * k2 * v1), d2 / d1 * np.sqrt(2 * k1 * v2)))


def case(seed: int, most_classes: int = 6) -> tuple[Array, Array, Array]:
    """Two tasks of any dependence and balance, from few samples (empty cells) to many."""
    rng = np.random.default_rng(seed)
    k1, k2 = rng.integers(2, most_classes + 1, 2)
    n = int(rng.integers(k1 + k2, 120))
    y1 = rng.choice(k1, n, p=rng.dirichlet(np.full(k1, rng.choice([0.5, 5]))))
    other = rng.choice(k2, n, p=rng.dirichlet(np.full(k2, rng.choice([0.5, 5]))))
    y2 = np.where(rng.random(n) < rng.choice([0, 0.3, 0.9]), (y1 + 1) % k2, other)
    y1[:k1], y2[-k2:] = np.arange(k1), np.arange(k2)
    d = int(rng.choice([1, 2, 3, 8, 40]))
    noise = rng.choice([0.01, 0.3, 3]) * rng.standard_t(3, size=(n, d))
    x = rng.normal(size=(k1, d))[y1] + rng.normal(size=(k2, d))[y2] + noise
    joint = rng.normal(size=(k1, k2, d))[y1, y2]
    return x + rng.choice([0, 1]) * joint, y1, y2


def bound(x: Array, y1: Array, y2: Array, **kwargs: object) -> Interval:
    return orthogonality_bound(*map(torch.as_tensor, (x, y1, y2)), **kwargs)


def cosines(x: Array, y1: Array, y2: Array) -> Array:
    axes = [np.stack([axis(x, y, *p)[0] for p in class_pairs(y)]) for y in (y1, y2)]
    # Parallel axes have a product of 1 + 2e-16 now and then.
    return np.clip(axes[0] @ axes[1].T, -1, 1)


@pytest.mark.parametrize("seed", range(12))
def test_against_sample_by_sample_loops(seed: int) -> None:
    x, y1, y2 = case(seed, 4)
    got, published = bound(x, y1, y2), bound(x, y1, y2, kind="proposition_4_2")
    for i, p in enumerate(class_pairs(y1)):
        for j, q in enumerate(class_pairs(y2)):
            low, high = general(x, y1, y2, p, q)
            assert float(got.low[i, j]) == pytest.approx(low, abs=1e-9)
            assert float(got.high[i, j]) == pytest.approx(high, abs=1e-9)
            # The sums over classes are at most the root of one sum over all.
            wide_low, wide_high = general(x, y1, y2, p, q, by_class=False)
            assert wide_low <= low + 1e-12
            assert high <= wide_high + 1e-12
            limit = proposition(x, y1, y2, p, q)
            assert float(published.high[i, j]) == pytest.approx(limit, rel=1e-9)
            assert float(published.low[i, j]) == pytest.approx(-limit, rel=1e-9)


def contained(seeds: range) -> tuple[int, int]:
    """Pairs of pairs whose cosine is in the general interval, and all."""
    inside = number = 0
    for seed in seeds:
        x, y1, y2 = case(seed)
        got, cosine = bound(x, y1, y2), cosines(x, y1, y2)
        inside += int(((got.low.numpy() <= cosine) & (cosine <= got.high.numpy())).sum())
        number += cosine.size
    return inside, number


def test_the_general_interval_contains_the_cosine() -> None:
    inside, number = contained(range(600))
    assert inside == number > 20_000


@pytest.mark.slow
def test_the_general_interval_contains_the_cosine_in_a_large_sweep() -> None:
    inside, number = contained(range(10_000, 20_000))
    assert inside == number > 400_000


@settings(max_examples=150, deadline=None, database=None)
@given(
    cells=st.lists(
        st.tuples(
            st.integers(0, 2),
            st.integers(0, 3),
            st.tuples(*[st.integers(-3, 3)] * 2),
        ),
        min_size=2,
        max_size=12,
    )
)
def test_the_general_interval_holds_for_a_handful_of_samples(cells: list) -> None:
    y1, y2 = (np.array([cell[k] for cell in cells]) for k in (0, 1))
    x = np.array([cell[2] for cell in cells], dtype=np.float64)
    if len(set(y1)) < 2 or len(set(y2)) < 2:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        (u1, _), (u2, _) = (decision_axes(geometry(x, y)) for y in (y1, y2))
        got = bound(x, y1, y2)
    cosine = axis_cosines(u1, u2)
    assert got.low.shape == cosine.shape
    assert bool(((got.low <= cosine) & (cosine <= got.high)).all())


def geometry(x: Array, y: Array) -> object:
    return class_geometry(torch.as_tensor(x), torch.as_tensor(y))


def factorial(seed: int) -> tuple[Array, Array, Array]:
    """Two binary tasks, balanced and exactly independent; features of any kind."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 12))
    y1, y2 = np.repeat([0, 0, 1, 1], n), np.repeat([0, 1, 0, 1], n)
    d = int(rng.choice([1, 2, 3, 20]))
    x = rng.normal(size=(2, d))[y1] + rng.normal(size=(2, d))[y2]
    x = x + rng.choice([0, 0.3, 2]) * rng.normal(size=(2, 2, d))[y1, y2]
    return x + rng.choice([0, 0.1, 2]) * rng.standard_t(3, size=(4 * n, d)), y1, y2


def test_proposition_4_2_holds_for_factorial_designs() -> None:
    for seed in range(300):
        x, y1, y2 = factorial(seed)
        cosine = cosines(x, y1, y2)
        got, limit = bound(x, y1, y2), bound(x, y1, y2, kind="proposition_4_2").high.numpy()
        assert (np.abs(cosine) <= limit + 1e-9).all()
        # The general interval is symmetric then, and at least as good.
        assert (np.maximum(np.abs(got.low.numpy()), got.high.numpy()) <= limit + 1e-9).all()


def sampled(rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """Forty labels of two independent fair coins, and features that are the labels."""
    y1, y2 = rng.integers(0, 2, (2, 40))
    return np.stack([y1, y2], 1).astype(np.float64), y1, y2


def broken(draws: int) -> int:
    """How many draws break Proposition 4.2; none breaks the general interval."""
    rng = np.random.default_rng(0)
    out = 0
    for _ in range(draws):
        x, y1, y2 = sampled(rng)
        cosine = cosines(x, y1, y2)
        out += bool(abs(cosine[0, 0]) > bound(x, y1, y2, kind="proposition_4_2").high + 1e-9)
        got = bound(x, y1, y2)
        assert got.low[0, 0] <= cosine[0, 0] <= got.high[0, 0]
    return out


def test_proposition_4_2_fails_for_labels_that_are_drawn() -> None:
    assert broken(200) > 180


@pytest.mark.slow
def test_proposition_4_2_fails_for_labels_that_are_drawn_five_thousand_times() -> None:
    assert broken(5_000) > 4_750


def test_proposition_4_2_fails_for_three_classes() -> None:
    """The third class holds all variance along the axis: the cosine is 1, the bound 0."""
    y1, y2 = np.repeat([0, 1], 3), np.tile([0, 1, 2], 2)
    x = np.array([[0.0, 0], [1, 0], [0, 5], [0, 0], [1, 0], [3, 5]])
    cosine = cosines(x, y1, y2)[0, 0]
    assert abs(cosine) == pytest.approx(1)
    assert float(bound(x, y1, y2, kind="proposition_4_2").high[0, 0]) == 0
    got = bound(x, y1, y2)
    assert float(got.low[0, 0]) <= cosine <= float(got.high[0, 0])


def test_both_bounds_are_reached() -> None:
    """f = alpha y1 e1 + beta y2 (cos t, sin t): the bound is the cosine."""
    y1, y2 = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    t = 1.1
    x = 3 * y1[:, None] * np.array([1, 0]) + 2 * y2[:, None] * np.array([np.cos(t), np.sin(t)])
    for kind in ("general", "proposition_4_2"):
        got = bound(x, y1, y2, kind=kind)
        assert float(got.high[0, 0]) == pytest.approx(np.cos(t), rel=1e-9)
        assert float(got.low[0, 0]) == pytest.approx(-np.cos(t), rel=1e-9)


def test_binary_balanced_and_correlated() -> None:
    """|u1.u2 - rho d2 / d1| <= 2 (d2 / d1) sqrt((1 - rho^2) V2), equal variances assumed."""
    rng = np.random.default_rng(0)
    y1, y2 = np.repeat([0, 1], 50), np.repeat([0, 1, 0, 1], [35, 15, 15, 35])
    x = np.stack([0.4 * y1, 1.0 * y2, 0 * y1], 1) + 0.2 * rng.normal(size=(100, 3))
    rho = 0.4
    (_, d1), (u2, d2) = axis(x, y1, 0, 1), axis(x, y2, 0, 1)
    v2 = np.mean([(x[y2 == c] @ u2).var() for c in (0, 1)]) / d2**2
    low, high = one_sided(x, y1, y2, (0, 1), (0, 1), by_class=False)
    radius = 2 * d2 / d1 * np.sqrt((1 - rho**2) * v2)
    assert (low, high) == pytest.approx((rho * d2 / d1 - radius, rho * d2 / d1 + radius))
    got = bound(x, y1, y2)
    assert float(got.low[0, 0]) >= low
    assert float(got.high[0, 0]) <= high


def same(got: Interval, wanted: Interval, tolerance: float = 1e-9) -> None:
    torch.testing.assert_close(got.low, wanted.low, rtol=0, atol=tolerance)
    torch.testing.assert_close(got.high, wanted.high, rtol=0, atol=tolerance)


@pytest.mark.parametrize("kind", ["general", "proposition_4_2"])
def test_invariances(kind: str) -> None:
    x, y1, y2 = case(3)
    rng = np.random.default_rng(0)
    plain = bound(x, y1, y2, kind=kind)
    turn = np.linalg.qr(rng.normal(size=(x.shape[1],) * 2))[0]
    same(bound(7 * x @ turn + 5, y1, y2, kind=kind), plain)
    order = rng.permutation(len(x))
    same(bound(x[order], y1[order], y2[order], kind=kind), plain)
    swapped = bound(x, y2, y1, kind=kind)
    same(Interval(swapped.low.T, swapped.high.T), plain)
    reverse = torch.tensor([[b, a] for a, b in class_pairs(y1)])
    flipped = bound(x, y1, y2, kind=kind, pairs_a=reverse)
    same(Interval(-flipped.high, -flipped.low), plain)


@pytest.mark.parametrize("kind", ["general", "proposition_4_2"])
def test_an_offset_of_a_thousand_spreads_and_half_precision(kind: str) -> None:
    x, y1, y2 = case(5)
    far = (x + 1000 * x.std()).astype(np.float32)
    exact = bound(far.astype(np.float64), y1, y2, kind=kind)
    same(bound(far, y1, y2, kind=kind), exact, 1e-5)
    half = x.astype(np.float16)
    same(bound(half, y1, y2, kind=kind), bound(half.astype(np.float32), y1, y2, kind=kind), 0)
    got = bound(far, y1, y2)
    cosine = [decision_axes(geometry(far, y))[0] for y in (y1, y2)]
    assert bool(((got.low <= axis_cosines(*cosine)) & (axis_cosines(*cosine) <= got.high)).all())


def test_chosen_pairs() -> None:
    x, y1, y2 = case(6)
    plain = bound(x, y1, y2)
    a, b = class_pairs(y1), class_pairs(y2)
    got = bound(x, y1, y2, pairs_a=torch.tensor(a[-1:]), pairs_b=torch.tensor(b[1:]))
    same(got, Interval(plain.low[-1:, 1:], plain.high[-1:, 1:]), 1e-12)
    with pytest.raises(ValueError, match=r"pairs_b must be .* got \[1, 1\]\. Choose among"):
        bound(x, y1, y2, pairs_b=torch.tensor([[1, 1]]))


@pytest.mark.parametrize("cuts", [[0, 11, 11, 40, 60], [0, 0, 60], [0, 1, 60]])
def test_shards_give_the_same_numbers(cuts: list[int]) -> None:
    rng = np.random.default_rng(0)
    y1, y2 = np.sort(rng.permutation(60) % 3), rng.permutation(60) % 4
    x = torch.as_tensor(rng.normal(size=(60, 5)) + y1[:, None] + 100)
    tasks = {"one": torch.as_tensor(y1), "two": torch.as_tensor(y2)}
    classes = {"one": 3, "two": 4}
    wanted, plain = orthogonality_summary(x, tasks), bound(x, y1, y2)

    def work(rank: int, reduce: object) -> tuple[object, Interval]:
        rows = slice(cuts[rank], cuts[rank + 1])
        mine = {name: labels[rows] for name, labels in tasks.items()}
        summary = orthogonality_summary(x[rows], mine, num_classes=classes, reduce=reduce)
        return summary, orthogonality_bound(
            x[rows], mine["one"], mine["two"], num_classes_a=3, num_classes_b=4, reduce=reduce
        )

    for summary, interval in run_sharded(work, len(cuts) - 1):
        same(interval, plain)
        for key, value in wanted.scalars.items():
            assert float(summary.scalars[key]) == pytest.approx(float(value), rel=1e-9), key


def test_no_features_are_reduced() -> None:
    rng = np.random.default_rng(0)
    y1, y2, shapes = torch.arange(60) % 3, torch.arange(60) % 4, []

    def reduce(tensor: torch.Tensor) -> torch.Tensor:
        shapes.append(tuple(tensor.shape))
        return tensor

    x = torch.as_tensor(rng.normal(size=(60, 5)))
    orthogonality_bound(x, y1, y2, num_classes_a=3, num_classes_b=4, reduce=reduce)
    assert sorted(shapes) == [(), (), (3, 3), (3, 4), (3, 7), (4, 6), (4, 7), (5,)]


def three_tasks() -> tuple[Array, dict[str, Array]]:
    x, y1, y2 = case(8)
    return x, {"shape": y1, "colour": y2, "size": np.arange(len(x)) % 2}


def test_summary_is_the_average_over_pairs_of_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK_ENTRIES", 7)
    x, tasks = three_tasks()
    got = orthogonality_summary(
        torch.as_tensor(x), {name: torch.as_tensor(y) for name, y in tasks.items()}
    )
    names = ["shape-colour", "shape-size", "colour-size"]
    keys = ["abs_cos", "abs_cos_max", "bound", "dependence"]
    assert list(got.scalars) == [f"{n}/{key}" for n in names for key in keys] + ["floor"]
    assert float(got.scalars["floor"]) == pytest.approx(random_floor(x.shape[1]))
    for one, two in combinations(tasks, 2):
        cosine = np.abs(cosines(x, tasks[one], tasks[two]))
        ends = [
            max(map(abs, general(x, tasks[one], tasks[two], p, q)))
            for p in class_pairs(tasks[one])
            for q in class_pairs(tasks[two])
        ]
        value = {key: float(got.scalars[f"{one}-{two}/{key}"]) for key in keys}
        assert value["abs_cos"] == pytest.approx(cosine.mean(), rel=1e-9)
        assert value["abs_cos_max"] == pytest.approx(cosine.max(), rel=1e-9)
        assert value["bound"] == pytest.approx(np.mean(ends), rel=1e-9)
        labels = [torch.as_tensor(tasks[name]) for name in (one, two)]
        assert value["dependence"] == pytest.approx(float(cramers_v(*labels)), rel=1e-9)
        np.testing.assert_allclose(got.abs_cosines[f"{one}-{two}"], cosine, atol=1e-6)
        assert got.pairs[one].tolist() == [list(p) for p in class_pairs(tasks[one])]


def test_many_pairs_are_represented_by_some(monkeypatch: pytest.MonkeyPatch) -> None:
    x, tasks = three_tasks()
    arguments = torch.as_tensor(x), {name: torch.as_tensor(y) for name, y in tasks.items()}
    full = orthogonality_summary(*arguments)
    monkeypatch.setattr(module, "MOST_PAIRS", 2)
    part = orthogonality_summary(*arguments)
    index = [full.pairs["colour"].tolist().index(pair) for pair in part.pairs["colour"].tolist()]
    assert len(index) == 2 < len(full.pairs["colour"])
    torch.testing.assert_close(
        part.abs_cosines["colour-size"], full.abs_cosines["colour-size"][index]
    )
    mean = part.abs_cosines["colour-size"].mean()
    assert float(part.scalars["colour-size/abs_cos"]) == pytest.approx(float(mean), rel=1e-5)
    assert not orthogonality_summary(*arguments, matrices=False).abs_cosines


def test_a_task_with_itself() -> None:
    x, y, _ = case(4)
    got = bound(x, y, y)
    torch.testing.assert_close(got.low.diagonal(), torch.ones(len(got.low)).double())
    assert got.high.diagonal().tolist() == [1.0] * len(got.high)
    labels = torch.as_tensor(y)
    scalars = orthogonality_summary(
        torch.as_tensor(x), {"a": labels, "b": y.max() - labels}
    ).scalars
    assert float(scalars["a-b/abs_cos_max"]) == pytest.approx(1)
    assert float(scalars["a-b/dependence"]) == pytest.approx(1)


def test_missing_classes_leave_the_rest_as_it_is() -> None:
    x, y1, y2 = case(9)
    plain = bound(x, y1, y2)
    with pytest.warns(UserWarning, match="task 'a': .* pairs of classes have no axis"):
        gaps = bound(x, 2 * y1, y2)
    same(gaps, plain, 1e-12)
    tasks = {"one": torch.as_tensor(2 * y1 + 1), "two": torch.as_tensor(y2)}
    with pytest.warns(UserWarning, match="task 'one'"):
        scalars = orthogonality_summary(torch.as_tensor(x), tasks).scalars
    wanted = orthogonality_summary(torch.as_tensor(x), tasks | {"one": torch.as_tensor(y1)}).scalars
    assert {k: float(v) for k, v in scalars.items()} == pytest.approx(
        {k: float(v) for k, v in wanted.items()}
    )


def test_constant_features_have_no_axes() -> None:
    y = torch.arange(12)
    with pytest.warns(UserWarning, match="look whether the encoder is constant"):
        got = orthogonality_summary(torch.full((12, 4), 7.0), {"a": y % 2, "b": y % 3})
    assert bool(got.scalars["a-b/abs_cos"].isnan())
    assert bool(got.scalars["a-b/bound"].isnan())
    assert float(got.scalars["a-b/dependence"]) == pytest.approx(0)
    assert got.abs_cosines["a-b"].shape == (0, 0)


def test_bad_input() -> None:
    x, y = torch.randn(6, 3), torch.arange(6)
    with pytest.raises(ValueError, match=r"at least two tasks, got \['a'\]"):
        orthogonality_summary(x, {"a": y})
    with pytest.raises(ValueError, match=r"task 'b': labels must be integers of shape \[6\]"):
        orthogonality_summary(x, {"a": y, "b": y[:5]})
    with pytest.raises(ValueError, match=r"task 'b': labels must be in \[0, C\), got -1"):
        orthogonality_summary(x, {"a": y, "b": y - 1})
    with pytest.raises(ValueError, match=r"task 'b': .* at least two classes, got 1"):
        orthogonality_summary(x, {"a": y, "b": 0 * y})
    with pytest.raises(ValueError, match="task 'b' needs samples of at least two classes, got 1"):
        orthogonality_summary(x, {"a": y, "b": 0 * y + 1})
    with pytest.raises(ValueError, match="task 'b': num_classes is needed with reduce"):
        orthogonality_summary(x, {"a": y, "b": y}, num_classes={"a": 6}, reduce=lambda t: t)
    with pytest.raises(ValueError, match='"general" or "proposition_4_2", got \'tight\''):
        orthogonality_bound(x, y, y, kind="tight")
