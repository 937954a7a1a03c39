"""The keys that are promised are those that are measured."""

from __future__ import annotations

import itertools

import pytest
import torch

from dnc_lightning.probe.across import measure_across
from dnc_lightning.probe.keys import across_keys, task_keys
from dnc_lightning.probe.labels import Task
from dnc_lightning.probe.measure import Plan, measure

ALONE = ("collapse", "few_shot", "variance")  # what one task is enough for
PLANS = [list(names) for k in (1, 2, 3) for names in itertools.combinations(ALONE, k)]


@pytest.mark.parametrize("thorough", [False, True])
@pytest.mark.parametrize("names", PLANS, ids="-".join)
@pytest.mark.parametrize(("classes", "per_class"), [(2, 5), (3, 12), (33, 3)])
def test_of_a_task(names: list[str], classes: int, per_class: int, thorough: bool) -> None:
    labels = torch.arange(classes * per_class) % classes
    generator = torch.Generator().manual_seed(classes)
    features = (
        torch.randn(len(labels), 6, generator=generator)
        + 3 * torch.randn(classes, 6, generator=generator)[labels]
    )
    plan = Plan.build(names, False, (1, 4, 9), None)
    task = Task(labels=labels, classes=tuple(map(str, range(classes))))
    found = measure(features, labels, task, plan, None, thorough=thorough)
    counts = [per_class] * classes
    keys = task_keys(plan, counts, thorough=thorough)
    assert set(found.scalars) == set(keys)
    assert len(keys) == len(set(keys))
    # Where a feature is not finite they are there too, and where no pair is resolved.
    broken = measure(features * torch.nan, labels, task, plan, None, thorough=thorough)
    constant = measure(torch.ones_like(features), labels, task, plan, None, thorough=thorough)
    assert set(broken.scalars) == set(constant.scalars) == set(keys)
    assert all(value != value for value in broken.scalars.values())


@pytest.mark.parametrize("names", [("a",), ("a", "b"), ("shape", "colour", "size")])
def test_between_tasks(names: tuple[str, ...]) -> None:
    tasks = {
        name: Task(labels=(torch.arange(24) // (k + 1)) % 2, classes=("0", "1"))
        for k, name in enumerate(names)
    }
    keys = across_keys(tasks)
    if len(names) == 1:
        assert keys == []
    else:
        found = measure_across(torch.randn(24, 5), tasks, None)
        assert list(found.scalars) == keys
