"""Blocks of pairs, samples that meet, and queries that are drawn give the numbers of the whole."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from dnc_lightning.functional import (
    ClassGeometry,
    bound_summary,
    cdnv,
    class_geometry,
    collapse_summary,
    debias,
    directional_cdnv,
    extreme_pairs,
    few_shot_bound,
    gaussian_prediction,
    ncc_error,
    pair_bound,
    pair_mean,
    pair_median,
    population_estimate,
)
from dnc_lightning.functional import few_shot as few_shot_module
from dnc_lightning.functional._gather import Shards
from dnc_lightning.functional._tiles import ClassTiles
from dnc_lightning.functional.few_shot import Shard, _Supports, ncc_errors
from dnc_lightning.functional.summary import population_summary
from dnc_lightning.functional.unbiased import samples_to_resolve
from dnc_lightning.functional.worst import worst_pairs
from tests.functional import reference
from tests.functional.shards import run_sharded

SHOTS = (1, 5, 40)


def data(counts: tuple[int, ...] = (30, 14, 21, 17, 9), d: int = 7) -> tuple[Tensor, Tensor]:
    x, y = map(torch.as_tensor, reference.asymmetric(4, counts, d))
    return x + 4 * torch.eye(d, dtype=x.dtype)[y % d], y


def everything(g: ClassGeometry) -> dict[str, Tensor]:
    estimate = debias(g)
    found = {**collapse_summary(g), **bound_summary(g, SHOTS), "cdnv": cdnv(g)}
    found |= {f"pair/{m}": pair_bound(g, m) for m in SHOTS}
    found |= {"gaussian": gaussian_prediction(g, 3), "limit": few_shot_bound(g, 1, kind="limit")}
    found |= {"axis": estimate.axis_variance, "distance": estimate.distance2}
    found["samples"] = torch.tensor(float(samples_to_resolve(g) or 0))
    found["extreme"] = torch.tensor(list(extreme_pairs(g).values()), dtype=torch.float64)
    return found


@pytest.mark.parametrize("entries", [1, 7, 12])
@pytest.mark.parametrize("cross_trace", ["fast", "exact"])
def test_blocks_of_pairs_change_nothing(
    entries: int, cross_trace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = data()
    whole = everything(class_geometry(x, y, cross_trace=cross_trace))
    for place in ("_pairs.BLOCK_PAIRS", "geometry.BLOCK_ENTRIES", "_scale.CHUNK_ENTRIES"):
        monkeypatch.setattr(f"dnc_lightning.functional.{place}", entries)
    for key, value in everything(class_geometry(x, y, cross_trace=cross_trace)).items():
        torch.testing.assert_close(value, whole[key], rtol=1e-11, atol=0, equal_nan=True)


def statistic(g: ClassGeometry) -> Tensor:
    means = [pair_mean(number(g)) for number in (cdnv, directional_cdnv)]
    return torch.stack([*means, *(few_shot_bound(g, m, ways=3) for m in SHOTS)])


@pytest.mark.parametrize("entries", [2**17, 6])
@pytest.mark.parametrize("cross_trace", ["fast", "exact"])
def test_intervals_in_blocks_are_those_of_the_whole_graph(
    entries: int, cross_trace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = data()
    g = class_geometry(x, y, cross_trace=cross_trace)
    whole = population_estimate(x, y, statistic, geometry=g)
    assert bool((whole.standard_error > 0).all())
    monkeypatch.setattr("dnc_lightning.functional._pairs.BLOCK_PAIRS", entries)
    monkeypatch.setattr("dnc_lightning.functional._gradients.SCRATCH_BYTES", 24 * 25 * 2)
    _, terms = population_summary(SHOTS, ways=3)
    found = population_estimate(x, y, terms, geometry=g)
    for field in ("value", "standard_error", "low", "high"):
        value, expected = getattr(found, field), getattr(whole, field)
        torch.testing.assert_close(value, expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize("undefined", [0, 1])
def test_the_median_is_the_quantile(undefined: int) -> None:
    values = torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    values[0, 1 : 1 + undefined] = torch.nan
    off = values[~torch.eye(6, dtype=torch.bool)]
    assert torch.equal(pair_median(values), off.nanquantile(0.5))
    assert pair_median(torch.full((3, 3), torch.nan)).isnan()


def test_extreme_pairs_are_those_of_a_full_ranking() -> None:
    x, y = data((5, 9, 6, 7, 5, 8, 6), 3)
    x[y == 6] = x[y == 4][:1] + 0 * x[y == 6]  # one pair less, or equal ones
    g = class_geometry(x.float(), y)
    value = directional_cdnv(g)
    value = (value + value.T) / 2
    ranked = sorted(
        (float(value[a, b]), (a, b)) for a in range(7) for b in range(a + 1, 7) if value[a, b] >= 0
    )
    places = {"best": 0, "median": (len(ranked) - 1) // 2, "worst": len(ranked) - 1}
    assert extreme_pairs(g) == {name: ranked[k][1] for name, k in places.items()}


def test_worst_pairs_are_those_of_the_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dnc_lightning.functional._pairs.BLOCK_PAIRS", 11)
    g = class_geometry(*data((5, 9, 6, 7, 5, 8, 6), 3))
    plain, directional = cdnv(g), directional_cdnv(g)
    found = worst_pairs(g, 5, 4)
    flat = directional.nan_to_num(-1).flatten().topk(5)
    assert found.pairs.tolist() == [[int(k) // 7, int(k) % 7] for k in flat.indices]
    i, j = found.pairs.T
    assert torch.equal(found.values, torch.stack([plain[i, j], directional[i, j]], 1))
    filled = directional.nan_to_num(-1)
    score = torch.maximum(filled.amax(0), filled.amax(1))
    assert found.classes.tolist() == sorted(score.topk(4).indices.tolist())
    kept = found.classes
    torch.testing.assert_close(found.cdnv, plain[kept][:, kept], equal_nan=True, rtol=0, atol=0)
    torch.testing.assert_close(
        found.directional_cdnv, directional[kept][:, kept], equal_nan=True, rtol=0, atol=0
    )
    torch.testing.assert_close(found.by_class[:, 0], filled.amax(1))
    torch.testing.assert_close(found.by_class[:, 1], directional.nanmean(1))


# Samples of a class that several shards hold

Reduce = Callable[[Tensor], Tensor]


def halves(y: Tensor, cut: int) -> list[Tensor]:
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(2))
    return [order[:cut], order[cut:]]


@pytest.mark.parametrize("scratch", [2**28, 700])
@pytest.mark.parametrize("cut", [0, 20, 50])
def test_samples_that_meet_give_the_moments_of_the_whole(
    cut: int, scratch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = data((5, 14, 8, 3, 20), 23)
    whole, rows = class_geometry(x, y), halves(y, cut)
    terms = population_summary(SHOTS)[1]
    estimate = population_estimate(x, y, terms)
    monkeypatch.setattr("dnc_lightning.functional._gather.SCRATCH_BYTES", scratch)
    covariances: list[int] = []
    monkeypatch.setattr(
        "dnc_lightning.functional._moments.covariance_slices", lambda *_: covariances.append(1)
    )

    def work(rank: int, reduce: Reduce) -> tuple[ClassGeometry, Tensor]:
        own = rows[rank]
        g = class_geometry(x[own], y[own], num_classes=5, reduce=reduce)
        found = population_estimate(x[own], y[own], terms, num_classes=5, reduce=reduce, geometry=g)
        return g, found.standard_error

    for g, error in run_sharded(work, 2):
        torch.testing.assert_close(g.second_trace, whole.second_trace, rtol=1e-10, atol=0)
        torch.testing.assert_close(g.axis_variance, whole.axis_variance, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(
            error, estimate.standard_error, rtol=1e-9, atol=0, equal_nan=True
        )
    assert not covariances


def test_few_samples_of_many_dimensions_send_less_than_covariances() -> None:
    x, y = data((6,) * 12, 128)
    sent = [0, 0]

    def work(rank: int, reduce: Reduce) -> None:
        def counting(tensor: Tensor) -> Tensor:
            sent[rank] += tensor.nbytes if len(tensor.shape) > 1 else 0
            return reduce(tensor)

        own = halves(y, 31)[rank]
        class_geometry(x[own], y[own], num_classes=12, reduce=counting)

    run_sharded(work, 2)
    features = x.nbytes
    assert features < sent[0] < 4 * features < 12 * 128 * 128 * 8 / 2


def test_shards_that_hold_the_same_are_not_told_apart_and_give_the_same_numbers() -> None:
    x, y = data((5, 14, 8), 23)
    whole = class_geometry(torch.cat([x, x]), torch.cat([y, y]))
    found = run_sharded(lambda _, reduce: class_geometry(x, y, num_classes=3, reduce=reduce), 2)
    torch.testing.assert_close(found[0].second_trace, whole.second_trace, rtol=1e-10, atol=0)


def test_shards_find_places_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dnc_lightning.functional._gather.SLOTS", 5)  # collisions are likely
    labels = [torch.tensor([0, 0, 2]), torch.tensor([2]), torch.tensor([], dtype=torch.long)]
    features = [torch.randn(len(y), 4) for y in labels]

    def work(rank: int, reduce: Reduce) -> Shards | None:
        tiles = ClassTiles.build(features[rank], labels[rank], 3)
        return Shards.find(tiles, features[rank].sum(0), reduce)

    found = run_sharded(work, 3)
    assert all(one is not None and torch.equal(one.count, found[0].count) for one in found)
    for rank in (0, 1):
        own = found[rank].count[found[rank].own]
        assert own.tolist() == torch.bincount(labels[rank], minlength=3).tolist()


# Queries that are drawn


def test_drawn_queries_are_no_supports_and_as_many_as_asked() -> None:
    y = torch.repeat_interleave(torch.tensor([7, 4, 9]))
    supports = _Supports.build(y, torch.bincount(y), torch.arange(20), 3, y.device)
    places, last = supports.draw_with_queries(50, torch.Generator().manual_seed(0), 4)
    again = supports.draw(50, torch.Generator().manual_seed(0))
    assert torch.equal(places, again)
    for first, queries in zip(places, last, strict=True):
        for c, n in enumerate((7, 4, 9)):
            drawn = [q for q in queries[c].tolist() if q < 20]
            assert len(set(drawn)) == min(4, n)
            assert all(int(y[q]) == c for q in drawn)
            assert not set(drawn[: n - 3]) & set(first[c].tolist())


@pytest.mark.parametrize("ways", [None, 3])
def test_some_queries_of_every_class_give_the_error_of_all(
    ways: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = data((12, 20, 9, 15, 11), 4)
    x = x + 2 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    kwargs = {"shots": 3, "ways": ways, "episodes": 2_000}
    mean, error = ncc_error(x, y, **kwargs)
    monkeypatch.setattr(few_shot_module, "MOST_SCORES", 2 * 5**2)  # 2 of each class
    drawn, wider = ncc_error(x, y, **kwargs)
    assert float(wider) > 1.2 * float(error)
    assert abs(float(drawn) - float(mean)) < 4 * (float(error) ** 2 + float(wider) ** 2) ** 0.5
    rows = halves(y, 31)
    expected = torch.stack(ncc_errors(x, y, shots=[1, 3], ways=ways, episodes=9))
    for result in run_sharded(
        lambda rank, reduce: ncc_errors(
            x[rows[rank]], y[rows[rank]], shots=[1, 3], ways=ways, episodes=9,
            shard=Shard(y, rows[rank], reduce),
        ),
        2,
    ):  # fmt: skip
        assert torch.allclose(torch.stack(result), expected, atol=1e-6)
