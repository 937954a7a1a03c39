"""The instrument of the guarantee: the functions' numbers, at thorough probes."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dnc_lightning.functional import few_shot_guarantee, labels_needed
from dnc_lightning.functional.guarantee import block_errors
from dnc_lightning.instruments import Guarantee
from dnc_lightning.probe.labels import Task
from tests.instruments.test_keys import SETTINGS, measured


def features_and_task(per_class: int, apart: float) -> tuple[Tensor, Task]:
    generator = torch.Generator().manual_seed(per_class)
    labels = torch.arange(3 * per_class) % 3
    features = torch.randn(len(labels), 6, generator=generator)
    return features + apart * torch.eye(6)[labels], Task(labels, ("a", "b", "c"))


def test_the_numbers_are_those_of_the_functions() -> None:
    features, task = features_and_task(60, 2.5)
    found = measured(features, {"label": task}, ["guarantee"], thorough=True)[0]["label"]
    for m in SETTINGS.shots:
        bound = few_shot_guarantee(features, task.labels, m)
        assert found.scalars[f"guarantee/{m}"] == float(bound)
    blocks = block_errors(features, task.labels, shots=SETTINGS.shots)
    needed = labels_needed(dict(zip(SETTINGS.shots, blocks, strict=True)), 0.1, samples=60)
    assert found.scalars["labels_needed/measured"] == needed.measured
    assert found.scalars["labels_needed/measured_low"] == needed.measured_low
    assert needed.guaranteed is None
    assert math.isnan(found.scalars["labels_needed/guaranteed"])
    assert found.scalars["labels_needed/more_samples"] == needed.more_samples
    assert f"about {needed.more_samples} more samples per class" in found.notes[0]


def test_enough_samples_guarantee_without_advice() -> None:
    features, task = features_and_task(500, 6.0)
    found = measured(features, {"label": task}, ["guarantee"], thorough=True)[0]["label"]
    assert found.scalars["guarantee/1"] < 0.1
    assert found.scalars["labels_needed/guaranteed"] == 1
    assert found.scalars["labels_needed/more_samples"] == 0
    assert (found.notes, found.warnings) == ([], [])


def test_shots_without_a_query_have_no_guarantee_and_cheap_probes_none() -> None:
    features, task = features_and_task(5, 3.0)
    found, keys = measured(features, {"label": task}, ["guarantee"], thorough=True)
    assert {key for key in keys["label"] if key.startswith("guarantee")} == {
        "guarantee/1",
        "guarantee/4",
    }
    assert set(found["label"].scalars) == set(keys["label"])
    cheap, declared = measured(features, {"label": task}, ["guarantee"], thorough=False)
    assert (cheap["label"].scalars, declared["label"]) == ({}, [])


def test_a_simultaneous_guarantee_shares_its_five_percent() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(120) % 3
    features = torch.randn(120, 5, generator=generator) + 2 * torch.eye(5)[labels]
    task = {"label": Task(labels, ("a", "b", "c"))}
    plain = measured(features, task, ["guarantee"], thorough=True)[0]["label"].scalars
    both = measured(features, task, [Guarantee(simultaneous=True)], thorough=True)[0][
        "label"
    ].scalars
    shots = [int(key.rpartition("/")[2]) for key in plain if key.startswith("guarantee/")]
    assert len(shots) > 1
    for m in shots:
        expected = few_shot_guarantee(features, labels, m, 1 - 0.05 / 2 / len(shots))
        assert both[f"guarantee/{m}"] == float(expected)
        assert both[f"guarantee/{m}"] > plain[f"guarantee/{m}"]
    told = Guarantee(simultaneous=True).series[0].meaning
    assert "at all shots and both probes together" in told
    assert "at all shots" not in Guarantee().series[0].meaning
