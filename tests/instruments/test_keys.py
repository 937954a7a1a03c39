"""The keys that are declared are those that are measured."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from dnc_lightning.instruments import Settings, find_instruments
from dnc_lightning.probe.instrument import expected
from dnc_lightning.probe.labels import Task
from dnc_lightning.probe.measure import Measurement, measure

ALONE = ("collapse", "few_shot", "variance")  # what one task is enough for
CHOICES = [list(names) for k in (1, 2, 3) for names in itertools.combinations(ALONE, k)]
SETTINGS = Settings(shots=(1, 4, 9))


def measured(
    features: Tensor, tasks: dict[str, Task], names: list[Any], thorough: bool = False
) -> tuple[dict[str, Measurement], dict[str, list[str]]]:
    """What was found and what is declared, place by place."""
    counts = {name: torch.bincount(task.labels).tolist() for name, task in tasks.items()}
    places = expected(find_instruments(names), counts, SETTINGS.shots, thorough=thorough)
    found = measure(features, tasks, places, SETTINGS, thorough=thorough)
    assert found.keys() == places.keys()
    return found, {
        place: [key for one in here for key in one.numbers] for place, here in places.items()
    }


@pytest.mark.parametrize("thorough", [False, True])
@pytest.mark.parametrize("names", CHOICES, ids="-".join)
@pytest.mark.parametrize(("classes", "per_class"), [(2, 5), (3, 12), (33, 3)])
def test_of_a_task(names: list[str], classes: int, per_class: int, thorough: bool) -> None:
    labels = torch.arange(classes * per_class) % classes
    generator = torch.Generator().manual_seed(classes)
    features = (
        torch.randn(len(labels), 6, generator=generator)
        + 3 * torch.randn(classes, 6, generator=generator)[labels]
    )
    tasks = {"label": Task(labels=labels, classes=tuple(map(str, range(classes))))}
    found, keys = measured(features, tasks, names, thorough)
    assert set(found["label"].scalars) == set(keys["label"])
    assert len(keys["label"]) == len(set(keys["label"]))
    assert found["label"].warnings == []
    held = {key for key, value in found["label"].scalars.items() if not math.isnan(value)}
    shots = [m for m in SETTINGS.shots if m < per_class]
    if "few_shot" in names:
        assert held >= {f"few_shot_error/{m}" for m in shots} | {"certificate/9"}
        assert ("joint/4" in held) == (thorough and classes <= 32)
    if "collapse" in names:
        assert held >= {"cdnv", "directional_cdnv_median", "resolved_pairs"}
        assert ("cdnv_low" in keys["label"]) == thorough
    # Where a feature is not finite they are there too, and where no pair is resolved.
    broken, _ = measured(features * torch.nan, tasks, names, thorough)
    constant, _ = measured(torch.ones_like(features), tasks, names, thorough)
    for other in (broken["label"], constant["label"]):
        assert set(other.scalars) == set(keys["label"])
    assert all(math.isnan(value) for value in broken["label"].scalars.values())


@pytest.mark.parametrize("names", [("a",), ("a", "b"), ("shape", "colour", "size")])
def test_between_tasks(names: tuple[str, ...]) -> None:
    tasks = {
        name: Task(labels=(torch.arange(24) // (k + 1)) % 2, classes=("0", "1"))
        for k, name in enumerate(names)
    }
    found, keys = measured(torch.randn(24, 5), tasks, ["orthogonality"])
    assert found.keys() == ({*names} if len(names) == 1 else {*names, "orthogonality"})
    if len(names) > 1:
        assert set(found["orthogonality"].scalars) == set(keys["orthogonality"])
        assert len(keys["orthogonality"]) == 4 * math.comb(len(names), 2) + 1
