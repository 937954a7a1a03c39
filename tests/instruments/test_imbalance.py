"""Rare classes in a real fit, in what order counts come, and why numbers are nan where they are."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch.utils.data import TensorDataset

from dnc_lightning.functional import class_geometry
from dnc_lightning.functional.imbalance import minority_means, minority_rows
from dnc_lightning.instruments import Imbalance
from tests.instruments.test_duality import Classifier, fit

COUNTS = [400, 100, 20, 4]
MEANS = ("minority_distance", "minority_unresolved", "unresolved_excess", "mean_growth")
HEAD = ("head_cosine", "head_length", "head_growth")


def test_a_fit_records_what_the_functions_give(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Classifier()
    run, probe = fit(module, tmp_path, Imbalance(COUNTS, "classifier"))
    last = run.records[-1].scalars
    pixels = torch.stack([probe.image(i) for i in range(len(probe))]).float()
    with torch.no_grad():
        features = module.eval().backbone(pixels)
    geometry = class_geometry(features, probe.tasks["label"].labels, unbiased=True)
    means = minority_means(geometry, torch.tensor(COUNTS))
    rows = minority_rows(module.classifier.weight.detach(), torch.tensor(COUNTS))
    probed = {name: last[f"probe/label/imbalance/{name}"] for name in (*MEANS, *HEAD)}
    assert probed["head_growth"] == pytest.approx(float(rows.growth), rel=1e-5)
    assert probed["head_cosine"] == pytest.approx(float(rows.cosine), rel=1e-5)
    assert probed["minority_distance"] == pytest.approx(float(means.distance), rel=1e-4)


def test_counts_by_name_are_those_in_the_order_of_the_classes(tmp_path: Path) -> None:
    named = {str(k): n for k, n in reversed(list(enumerate(COUNTS)))}
    torch.manual_seed(0)
    one, _ = fit(Classifier(), tmp_path / "a", Imbalance(COUNTS))
    torch.manual_seed(0)
    two, _ = fit(Classifier(), tmp_path / "b", Imbalance(named))
    key = "probe/label/imbalance/mean_growth"
    assert one.records[0].scalars[key] == two.records[0].scalars[key]


def test_counts_are_read_from_a_training_set() -> None:
    labels = torch.repeat_interleave(torch.arange(3), torch.tensor([5, 2, 9]))
    found = Imbalance.of(TensorDataset(torch.zeros(16, 3, 2, 2), labels), head="fc")
    assert found.counts == {"0": 5, "1": 2, "2": 9}
    assert found.heads == ("fc",)
    with pytest.raises(ValueError, match="no task 'kind', but 'label'"):
        Imbalance.of(TensorDataset(torch.zeros(16, 3, 2, 2), labels), task="kind")


@pytest.mark.parametrize(
    ("instrument", "reason"),
    [
        (Imbalance(), "are not known"),
        (Imbalance([3, 2]), "counts has 2 classes, the task 4"),
        (Imbalance({"0": 3, "1": 2, "2": 1}), "counts has no class '3'"),
        (Imbalance(COUNTS, "nothing"), "head's imbalance is nan"),
        (Imbalance(COUNTS, "backbone.1"), "has 12 rows, here are 4 classes"),
    ],
)
def test_what_cannot_be_known_is_nan_with_the_reason(
    instrument: Imbalance, reason: str, tmp_path: Path
) -> None:
    run, _ = fit(Classifier(), tmp_path, instrument)
    last = run.records[-1]
    assert any(reason in note for note in last.notes)
    name = "head_cosine" if instrument.head else "minority_distance"
    assert math.isnan(last.scalars[f"probe/label/imbalance/{name}"])


def test_counts_below_1_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Imbalance({"cat": 3, "dog": 0})


def test_it_measures_its_task_alone_and_refuses_one_that_is_not_there(tmp_path: Path) -> None:
    labels = {"kind": torch.arange(320) % 4, "place": torch.arange(320) // 80}
    metrics = ["collapse", Imbalance(COUNTS, task="kind")]
    run, _ = fit(Classifier(), tmp_path, *metrics, labels=labels)
    found = {key for key in run.records[-1].scalars if "imbalance" in key}
    assert found
    assert all(key.startswith("probe/kind/") for key in found)
    with pytest.raises(ValueError, match="measures task 'age', the probe set has 'kind', 'place'"):
        fit(Classifier(), tmp_path / "other", Imbalance(COUNTS, task="age"), labels=labels)
