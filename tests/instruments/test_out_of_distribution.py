"""Known against unknown: slow references, known geometries, a real fit, two processes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.distance import mahalanobis
from sklearn.metrics import roc_auc_score
from torch import Tensor

from dnc_lightning.functional.out_of_distribution import PENALTY, known_classes, known_scores
from dnc_lightning.instruments import OutOfDistribution
from dnc_lightning.probe.bench import Bench, Settings
from dnc_lightning.probe.labels import Task
from tests.functional.shards import run_sharded
from tests.instruments.test_duality import Classifier, fit


def example(k: int = 3, d: int = 7, n: int = 40) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    y = torch.arange(k * n) % k
    means = 3 * torch.randn(k, d, generator=generator, dtype=torch.float64)
    spread = torch.linspace(0.3, 1.5, d)
    x = means[y] + spread * torch.randn(k * n, d, generator=generator, dtype=torch.float64) + 4
    return x, y


def test_scores_match_their_definitions() -> None:
    x, y = example()
    found = known_scores(x, known_classes(x, y, 3))
    a, labels = x.numpy(), y.numpy()
    means = np.stack([a[labels == j].mean(0) for j in range(3)])
    centre = means.mean(0)
    within = sum(np.cov(a[labels == j].T, bias=True) for j in range(3)) / 3
    between = (means - centre).T @ (means - centre) / 3
    axes = np.linalg.eigh(within + between)[1][:, -2:]
    inverse = np.linalg.inv(within + PENALTY * np.trace(within) / 7 * np.eye(7))
    for i in (0, 1, 50, 119):
        h = a[i] - centre
        on = np.linalg.norm(axes.T @ h)
        assert float(found.neco[i]) == pytest.approx(on / np.linalg.norm(h), rel=1e-9)
        off = np.linalg.norm(h - axes @ axes.T @ h)
        assert float(found.residual[i]) == pytest.approx(-off, rel=1e-7)
        near = min(mahalanobis(a[i], mean, inverse) for mean in means)
        assert float(found.mahalanobis[i]) == pytest.approx(-near, rel=1e-6)
        assert float(found.norm[i]) == pytest.approx(np.linalg.norm(a[i]), rel=1e-9)


def test_what_lies_off_the_means_is_found_and_its_length_says_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(300) % 3
    known = 5 * torch.eye(3, 12)[y] + 0.3 * torch.randn(300, 12, generator=generator)
    other = 5 * torch.eye(12)[6] + 0.3 * torch.randn(200, 12, generator=generator)
    model = known_classes(known, y, 3)
    for name, least in (("neco", 0.99), ("residual", 0.99), ("mahalanobis", 0.99), ("norm", None)):
        scores = [getattr(known_scores(z, model), name) for z in (known, other)]
        truth = [1] * 300 + [0] * 200
        area = roc_auc_score(truth, torch.cat(scores).numpy())
        assert area >= least if least else abs(area - 0.5) < 0.1


def test_offset_scale_and_rotation_change_no_score_but_the_length() -> None:
    x, y = example()
    turn = torch.linalg.qr(torch.randn(7, 7, dtype=torch.float64))[0]
    moved = 3 * x @ turn - 11
    one, two = (known_scores(z, known_classes(z, y, 3)) for z in (x, moved))
    torch.testing.assert_close(two.neco, one.neco, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(two.residual, 3 * one.residual, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(two.mahalanobis, one.mahalanobis, rtol=1e-6, atol=1e-9)


def test_shards_fit_what_one_process_fits() -> None:
    x, y = example()
    whole = known_classes(x, y, 3)
    parts = [slice(0, 20), slice(20, 20), slice(20, None)]

    def work(rank: int, reduce: Any) -> Tensor:
        own = parts[rank]
        model = known_classes(x[own], y[own], 3, reduce=reduce)
        return known_scores(x, model).mahalanobis

    for found in run_sharded(work, 3):
        torch.testing.assert_close(found, known_scores(x, whole).mahalanobis)


@pytest.mark.parametrize(
    ("x", "y", "k", "words"),
    [
        (torch.randn(6, 2), torch.arange(6) % 3, 3, "at most as many classes"),
        (torch.randn(6, 4), torch.zeros(6).long(), 2, "class 1 has no samples"),
    ],
)
def test_what_cannot_be_fitted_is_refused(x: Tensor, y: Tensor, k: int, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        known_classes(x, y, k)


def test_the_instrument_scores_what_it_did_not_fit() -> None:
    x, y = example(k=4, n=60)
    task = Task(y, ("cat", "dog", "noise", "owl"))
    bench = Bench(x, {"label": task}, Settings(), thorough=True)
    found = OutOfDistribution(["noise"]).measure(bench).scalars
    # Labels of noise: nothing is known of anything, and scores of unseen samples are at chance.
    torch.manual_seed(0)
    blind = Bench(torch.randn(400, 50), {"label": Task(torch.arange(400) % 4, task.classes)},
                  Settings(), thorough=True)  # fmt: skip
    chance = OutOfDistribution(["noise"]).measure(blind).scalars
    for name in ("neco", "residual", "mahalanobis"):
        assert 0.5 < float(found[f"ood/{name}"]) <= 1
        assert float(chance[f"ood/{name}"]) == pytest.approx(0.5, abs=0.12)


def test_in_a_fit_at_the_first_and_last_probe(tmp_path: Path) -> None:
    run, _ = fit(Classifier(), tmp_path, OutOfDistribution(["3"]))
    keys = [f"probe/label/ood/{name}" for name in ("neco", "residual", "mahalanobis", "norm")]
    assert all(math.isfinite(run.records[at].scalars[key]) for at in (0, -1) for key in keys)
    assert not set(keys) & set(run.records[1].scalars)


@pytest.mark.parametrize(
    ("instrument", "reason"),
    [
        (OutOfDistribution(), "no class is named"),
        (OutOfDistribution(["owl"]), "label has no class 'owl'"),
        (OutOfDistribution(["0", "1", "2"]), "needs 2 to 8 known classes, here are 1"),
    ],
)
def test_what_cannot_be_measured_is_nan_with_the_reason(
    instrument: OutOfDistribution, reason: str, tmp_path: Path
) -> None:
    run, _ = fit(Classifier(), tmp_path, instrument)
    assert any(reason in note for note in run.records[-1].notes)


def test_two_processes_give_the_numbers_of_one(tmp_path: Path) -> None:
    from tests.instruments.test_sensitivity import fit as fit_again

    metrics = [OutOfDistribution(["3"]), "simplex"]
    one, _, _ = fit_again(tmp_path / "one", *metrics, steps=1)
    two, _, _ = fit_again(tmp_path / "two", *metrics, steps=1, devices=2, strategy="ddp_fork")
    a, b = (run.records[0].scalars for run in (one, two))
    keys = [key for key in a if "/ood/" in key or "nc1" in key]
    assert len(keys) >= 7
    assert {k: b[k] for k in keys} == pytest.approx({k: a[k] for k in keys}, rel=1e-5)
