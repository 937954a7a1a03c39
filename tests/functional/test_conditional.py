"""The conditional certificate against every draw of supports, and what it must never do."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from dnc_lightning.functional import (
    class_geometry,
    conditional_certificate,
    few_shot_bound,
    ncc_error,
)
from dnc_lightning.functional._tiles import Reduce
from dnc_lightning.functional.conditional import QueryMargins
from dnc_lightning.functional.few_shot import Shard
from tests.functional.shards import run_sharded


def samples(counts: tuple[int, ...], dim: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    labels = labels[torch.randperm(len(labels), generator=generator)]
    noise = torch.randn(len(labels), dim, generator=generator, dtype=torch.float64)
    noise = noise + 0.4 * noise.square()  # skewed, so that the third moments count
    spread = 1 + 0.3 * labels[:, None]
    return spread * noise + 2.5 * torch.eye(len(counts), dim).double()[labels], labels


def slow(features: Tensor, labels: Tensor, m: int, share: float = 1.0) -> float:
    """From all n^m draws of the supports of a class: moments of |x - c|^2, query by query."""
    classes = int(labels.max()) + 1
    centres = [
        torch.stack([torch.stack(draw).mean(0) for draw in itertools.product(members, repeat=m)])
        for members in (features[labels == c].unbind() for c in range(classes))
    ]
    errors: list[list[float]] = [[] for _ in range(classes)]
    for x, i in zip(features, labels.tolist(), strict=True):
        far = [(x - c).square().sum(1) for c in centres]
        total = 0.0
        for j in set(range(classes)) - {i}:
            mean = float(far[j].mean() - far[i].mean())
            variance = float(far[j].var(correction=0) + far[i].var(correction=0))
            total += variance / (variance + mean**2) if mean > 0 else 1.0
        errors[i].append(min(1.0, share * total))
    return sum(sum(e) / len(e) for e in errors) / classes


@pytest.mark.parametrize("m", [1, 2, 3])
@pytest.mark.parametrize("dim", [2, 3, 9])
def test_it_is_cantelli_over_all_draws(dim: int, m: int) -> None:
    features, labels = samples((5, 4, 6), dim)
    found = float(conditional_certificate(features, labels, m))
    assert found == pytest.approx(slow(features, labels, m), rel=1e-9)
    ways = float(conditional_certificate(features, labels, m, ways=2))
    assert ways == pytest.approx(slow(features, labels, m, share=0.5), rel=1e-9)


@pytest.mark.parametrize("m", [1, 5, 20, 100])
def test_the_error_of_draws_stays_below_it(m: int) -> None:
    features, labels = samples((40, 60), 30, seed=2)
    generator = torch.Generator().manual_seed(1)
    wrong = []
    for _ in range(300):
        centre = torch.stack(
            [
                members[torch.randint(len(members), (m,), generator=generator)].mean(0)
                for members in (features[labels == c] for c in range(2))
            ]
        )
        miss = (torch.cdist(features, centre).argmin(1) != labels).double()
        wrong.append(float(torch.stack([miss[labels == c].mean() for c in range(2)]).mean()))
    assert sum(wrong) / len(wrong) <= float(conditional_certificate(features, labels, m))


def test_many_shots_lead_to_the_error_of_the_means_where_the_certificate_does_not() -> None:
    features, labels = samples((60, 80, 50), 40, seed=3)
    means = torch.stack([features[labels == c].mean(0) for c in range(3)])
    miss = (torch.cdist(features, means).argmin(1) != labels).double()
    error = float(torch.stack([miss[labels == c].mean() for c in range(3)]).mean())
    found = float(conditional_certificate(features, labels, 10**9))
    assert found == pytest.approx(error, abs=1e-6)
    assert found < 0.2 * float(few_shot_bound(class_geometry(features, labels), 10**9))


def test_shots_needed_is_the_least_that_is_enough() -> None:
    features, labels = samples((60, 80, 50), 40, seed=3)
    margins = QueryMargins.of(features, labels)
    target = float(margins.bound([50])[0])
    needed = margins.shots_needed(target)
    assert needed is not None
    assert needed > 1
    at, before = margins.bound([needed, needed - 1]).tolist()
    assert at <= target < before
    assert margins.shots_needed(1e-12) is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scale_offset_order_and_rotation_change_nothing(dtype: torch.dtype) -> None:
    features, labels = samples((12, 9, 15), 7)
    base = float(conditional_certificate(features, labels, 5))
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    turn = torch.linalg.qr(torch.randn(7, 7, dtype=torch.float64)).Q
    for changed in (features[order] @ turn, 1e8 * features[order], 3e-9 * features[order]):
        found = float(conditional_certificate(changed.to(dtype), labels[order], 5))
        assert found == pytest.approx(base, rel=1e-4)
    moved = float(conditional_certificate((features + 1000).to(dtype), labels, 5))
    assert moved == pytest.approx(base, rel=1e-3)


def test_what_rounding_decides_counts_as_an_error() -> None:
    labels = torch.arange(20) % 2
    for constant in (0.0, 0.1, 1e6):
        assert float(conditional_certificate(torch.full((20, 3), constant), labels, 5)) == 1
    apart = labels[:, None].float().expand(-1, 3)
    assert float(conditional_certificate(apart, labels, 1)) == 0


def test_what_is_not_known_is_nan() -> None:
    features, labels = samples((5, 1, 6), 3)
    assert math.isnan(conditional_certificate(features, labels, 2))
    features, labels = samples((5, 4, 6), 3)
    features[3, 1] = math.inf
    assert math.isnan(conditional_certificate(features, labels, 2))
    assert QueryMargins.of(features, labels).shots_needed(0.1) is None


def test_one_process_and_two_agree() -> None:
    features, labels = samples((8, 9, 7), 5)
    rows = [torch.arange(0, 5), torch.arange(5, 24)]

    def work(rank: int, reduce: Reduce) -> Tensor:
        own = rows[rank]
        shard = Shard(labels, own, reduce)
        return conditional_certificate(features[own], labels[own], 4, shard=shard)

    for found in run_sharded(work, 2):
        assert torch.equal(found, conditional_certificate(features, labels, 4))


def test_bad_arguments() -> None:
    features, labels = samples((5, 4), 3)
    with pytest.raises(ValueError, match="shots must be at least 1, got 0"):
        conditional_certificate(features, labels, 0)
    with pytest.raises(ValueError, match="ways must be between 2 and the 2 classes, got 3"):
        conditional_certificate(features, labels, 1, ways=3)


def test_it_bounds_the_measured_error_without_replacement_in_practice() -> None:
    features, labels = samples((60, 80), 20, seed=5)
    for m in (5, 20, 50):
        measured, _ = ncc_error(features, labels, shots=m)
        assert float(measured) <= float(conditional_certificate(features, labels, m))
