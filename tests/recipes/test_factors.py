"""Factors: balanced, independent, reproducible, and every factor visible."""

from __future__ import annotations

import itertools

import pytest
import torch

from recipes.data import Factors, FactorsDataset
from recipes.data.factors import CELLS, FACTORS, render, split_cells


@pytest.fixture(scope="module")
def dataset() -> FactorsDataset:
    return FactorsDataset(4 * CELLS, seed=3)


def test_items_and_labelings(dataset):
    image, labels = dataset[5]
    assert image.shape == (3, 32, 32)
    assert image.dtype == torch.uint8
    assert labels == {task: int(y[5]) for task, y in dataset.targets.items()}
    assert dataset.classes.keys() == dataset.targets.keys()
    assert len(dataset) == 4 * CELLS


def test_every_combination_is_equally_frequent(dataset):
    combinations = torch.stack(list(dataset.targets.values()), dim=1)
    found, counts = combinations.unique(dim=0, return_counts=True)
    assert len(found) == 4 * 4 * 2 * 3
    assert (counts == 4).all()


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(FACTORS, 2)))
def test_factors_are_exactly_independent(dataset, one, other):
    joint = torch.zeros(len(FACTORS[one]), len(FACTORS[other]))
    for a, b in zip(dataset.targets[one], dataset.targets[other], strict=True):
        joint[a, b] += 1
    assert (joint == joint[0, 0]).all()


def test_the_order_is_shuffled(dataset):
    for labels in dataset.targets.values():
        assert len(labels[:48].unique()) == int(labels.max()) + 1


def test_the_seed_decides_everything():
    first, again = FactorsDataset(CELLS, seed=1), FactorsDataset(CELLS, seed=1)
    other = FactorsDataset(CELLS, seed=2)
    assert torch.equal(first.images, again.images)
    assert all(torch.equal(first.targets[task], again.targets[task]) for task in FACTORS)
    assert not torch.equal(first.images, other.images)


def test_making_the_data_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    FactorsDataset(CELLS, seed=1)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("task", list(FACTORS))
def test_each_factor_changes_the_picture(task):
    """Two classes differ by more than the noise, with every nuisance held fixed."""
    labels = {name: torch.zeros(1, dtype=torch.long) for name in FACTORS}
    labels["size"] += 1
    pictures = [
        render(labels | {task: torch.tensor([y])}, torch.Generator().manual_seed(0)).images.float()
        for y in range(len(FACTORS[task]))
    ]
    for one, other in itertools.combinations(pictures, 2):
        changed = ((one - other).abs().amax(dim=1) > 60).float().mean()
        assert changed > 0.01


def test_split_cells_enumerates_the_combinations():
    labels = split_cells(torch.arange(CELLS))
    assert len(torch.stack(list(labels.values()), dim=1).unique(dim=0)) == CELLS


@pytest.mark.parametrize("count", [0, 100, -96])
def test_an_unbalanced_number_is_refused(count):
    with pytest.raises(ValueError, match=r"positive multiple of 96.*got.*Use 96"):
        FactorsDataset(count)


def test_training_and_probe_images_are_disjoint():
    module = Factors(batch_size=32, num_images=2 * CELLS, num_probe_images=CELLS)
    held_out = module.probe_set.dataset  # before setup, as the command line reads it
    module.setup("fit")
    pairs = (module.train_set_.images[:, None] == held_out.images[None]).flatten(2).all(dim=2)
    assert not pairs.any()


def test_training_batches_are_whole_and_shuffled():
    module = Factors(batch_size=50, num_images=2 * CELLS, num_probe_images=CELLS)
    module.setup("fit")
    batches = list(module.train_dataloader())
    assert [images.shape for images, _ in batches] == [(50, 3, 32, 32)] * 3
    assert batches[0][0].dtype == torch.uint8
    assert batches[0][1]["style"].shape == (50,)
    assert not torch.equal(batches[0][0], module.train_set_.images[:50])


def test_too_large_a_batch_is_refused():
    module = Factors(batch_size=CELLS + 1, num_images=CELLS)
    module.setup("fit")
    with pytest.raises(ValueError, match="between 1 and the number of training images, 96; got 97"):
        module.train_dataloader()
