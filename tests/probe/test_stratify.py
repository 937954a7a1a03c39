from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dnc_lightning.probe.labels import Task, read_tasks
from dnc_lightning.probe.stratify import stratified


def make_task(labels: torch.Tensor) -> Task:
    return Task(labels, tuple(map(str, range(int(labels.max()) + 1))))


@given(seed=st.integers(0, 100), per_class=st.integers(1, 5), classes=st.integers(2, 6))
@settings(max_examples=40, deadline=None)
def test_one_task_gets_exactly_per_class(seed: int, per_class: int, classes: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.cat(
        [torch.arange(classes).repeat(5), torch.randint(classes, (40,), generator=generator)]
    )
    chosen = stratified({"label": make_task(labels)}, per_class, seed)
    assert torch.bincount(labels[chosen]).tolist() == [per_class] * classes
    assert len(chosen.unique()) == len(chosen)
    assert torch.equal(chosen, stratified({"label": make_task(labels)}, per_class, seed))


def test_another_seed_takes_other_samples() -> None:
    task = {"label": make_task(torch.arange(200) % 4)}
    first, second = (set(stratified(task, 10, seed).tolist()) for seed in (0, 1))
    assert first != second


def test_independent_factors_stay_exactly_independent() -> None:
    grid = torch.cartesian_prod(torch.arange(4), torch.arange(2), torch.arange(3)).repeat(30, 1)
    tasks = {name: make_task(grid[:, k]) for k, name in enumerate(("hue", "size", "style"))}
    chosen = stratified(tasks, 20, seed=0)
    counts = torch.zeros(4, 2, 3)
    for row in grid[chosen]:
        counts[tuple(row)] += 1
    assert counts.min() == counts.max()
    assert counts.sum((1, 2)).min() >= 20


def test_many_combinations_are_not_all_taken() -> None:
    generator = torch.Generator().manual_seed(0)
    attributes = torch.randint(2, (3000, 12), generator=generator)
    tasks = {f"a{k}": make_task(attributes[:, k]) for k in range(12)}
    chosen = stratified(tasks, 50, seed=0)
    assert len(chosen) < 200
    for k in range(12):
        assert torch.bincount(attributes[chosen, k]).min() >= 50


def test_too_few_samples_name_the_class_and_its_count() -> None:
    tasks = read_tasks([("image", "cat")] * 4 + [("image", "dog")] * 2)
    with pytest.raises(ValueError, match=r"per_class=3 .* task 'label' 'dog' has 2\. Lower"):
        stratified(tasks, 3, 0)
