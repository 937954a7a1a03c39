"""The instrument of health: the functions' numbers, and the reason where there is none."""

from __future__ import annotations

import math

import pytest
import torch

from dnc_lightning.functional import (
    alpha_req,
    effective_rank,
    feature_spectrum,
    noise_eigenvalues,
    rankme,
)
from dnc_lightning.probe.labels import Task
from tests.instruments.test_keys import measured

TASK = Task(torch.arange(240) % 3, ("a", "b", "c"))


def found(features: torch.Tensor) -> tuple[dict[str, float], list[str], list[str]]:
    here, keys = measured(features, {"label": TASK}, ["health"])
    assert set(here["features"].scalars) == set(keys["features"])
    return here["features"].scalars, here["features"].notes, here["features"].warnings


def test_the_numbers_are_those_of_the_functions() -> None:
    features = torch.randn(240, 110, generator=torch.Generator().manual_seed(0)) + 1
    scalars, notes, warnings = found(features)
    spectrum, noise = feature_spectrum(features), noise_eigenvalues(240, 110)
    assert scalars["rankme"] == float(rankme(spectrum.uncentred))
    assert scalars["rankme_centred"] == float(rankme(spectrum.centred))
    assert scalars["effective_rank"] == float(effective_rank(spectrum.centred))
    assert scalars["alpha_req"] == float(alpha_req(spectrum.centred))
    assert scalars["rankme_noise"] == float(rankme(noise))
    assert scalars["rankme"] < scalars["rankme_centred"]
    assert scalars["rankme_centred"] == pytest.approx(scalars["rankme_noise"], rel=0.01)
    assert scalars["uniformity"] > scalars["uniformity_noise"]
    assert scalars["norm"] == pytest.approx(float(features.norm(dim=1).mean()))
    assert (notes, warnings) == ([], [])


def test_what_is_nan_has_its_reason() -> None:
    scalars, notes, warnings = found(torch.randn(240, 12))
    assert math.isnan(scalars["alpha_req"])  # as its declaration says
    assert (notes, warnings) == ([], [])
    scalars, notes, _ = found(torch.ones(240, 200))
    assert math.isnan(scalars["rankme_centred"])
    assert scalars["dead_units"] == 1
    assert scalars["uniformity"] == pytest.approx(0, abs=1e-5)
    assert "all features are the same" in notes[0]


def test_they_are_measured_once_whatever_the_tasks() -> None:
    features = torch.randn(240, 12)
    other = Task(torch.arange(240) % 5, tuple("vwxyz"))
    several, _ = measured(features, {"one": TASK, "two": other}, ["collapse", "health"])
    assert list(several) == ["one", "two", "features"]
    alone, _ = measured(features, {"two": other}, ["health"])
    assert several["features"].scalars == pytest.approx(alone["features"].scalars, nan_ok=True)
    assert not any("rank" in key for key in several["one"].scalars)


def test_wide_features_are_thinned_to_what_a_probe_can_afford() -> None:
    features = torch.randn(600, 530, generator=torch.Generator().manual_seed(1))
    task = Task(torch.arange(600) % 3, ("a", "b", "c"))
    here, _ = measured(features, {"label": task}, ["health"])
    kept = features[torch.arange(512) * 600 // 512]
    scalars = here["features"].scalars
    assert scalars["rankme"] == float(rankme(feature_spectrum(kept).uncentred))
    assert scalars["rankme_noise"] == float(rankme(noise_eigenvalues(512, 530)))
