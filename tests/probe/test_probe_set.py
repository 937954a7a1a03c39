from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch

from dnc_lightning import ProbeSet
from dnc_lightning.probe import bank as bank_module
from dnc_lightning.probe.bank import ImageBank
from dnc_lightning.probe.images import as_tensor
from tests.callbacks.modules import Clean

CPU = torch.device("cpu")


def dataset(images: list[Any]) -> list[tuple[Any, int]]:
    return [(image, index % 2) for index, image in enumerate(images)]


def test_floats_are_kept_as_uint8_only_without_loss() -> None:
    image = torch.randint(256, (3, 6, 6), dtype=torch.uint8)
    scaled = image.float() / 255
    assert torch.equal(as_tensor(scaled), image)
    assert torch.equal(as_tensor((scaled - 0.5) / 0.2), (scaled - 0.5) / 0.2)
    assert torch.equal(as_tensor(scaled + 1e-6), scaled + 1e-6)


@pytest.mark.parametrize(
    ("kwargs", "match"),
    [
        ({"per_class": 0}, "at least 1, got 0"),
        ({"per_class": 2.5}, "integer of at least 1, got 2.5"),
        ({"dataset": iter([1])}, "must be map-style"),
    ],
)
def test_bad_arguments(kwargs: dict[str, Any], match: str) -> None:
    arguments = {"dataset": dataset([0] * 4)} | kwargs
    with pytest.raises(ValueError, match=match):
        ProbeSet(**arguments)


def test_a_random_transform_is_drawn_once_per_sample_and_leaves_the_rng_alone() -> None:
    def noisy(image: torch.Tensor) -> torch.Tensor:
        return image + torch.rand(1) + random.random() + np.random.rand()

    data = dataset([torch.zeros(1, 2, 2) + 1e-4 * i for i in range(10)])
    probe = ProbeSet(data, per_class=3, transform=noisy, seed=4)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    images = [probe.image(i) for i in range(len(probe))]
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1] == random.getstate()
    assert states[2] == np.random.get_state()[1].tolist()
    again = ProbeSet(data, per_class=3, transform=noisy, seed=4)
    assert all(torch.equal(again.image(i), images[i]) for i in reversed(range(len(probe))))
    other = ProbeSet(data, per_class=3, transform=noisy, seed=5)
    assert not any(torch.equal(other.image(0), image) for image in images)


def bank(images: list[torch.Tensor]) -> ImageBank:
    return ImageBank.build(lambda i: as_tensor(images[i]), range(len(images)), CPU, progress=False)


def test_a_bank_holds_uint8_and_gives_floats() -> None:
    images = [torch.randint(256, (3, 4, 4), dtype=torch.uint8) for _ in range(5)]
    held = bank(images)
    assert held.images is not None
    assert held.images.dtype == torch.uint8
    batches = list(held.batches(2, CPU))
    assert [len(b) for b in batches] == [2, 2, 1]
    assert torch.equal(torch.cat(batches), torch.stack(images).float() / 255)


def test_one_float_image_makes_the_bank_float() -> None:
    images = [torch.full((1, 2, 2), 51, dtype=torch.uint8), torch.rand(1, 2, 2) * 3]
    (batch,) = bank(images).batches(8, CPU)
    assert torch.equal(batch[0], torch.full((1, 2, 2), 51 / 255))
    assert torch.equal(batch[1], images[1])


def test_a_bank_that_does_not_fit_decodes_at_each_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    images = [torch.rand(1, 2, 2) for _ in range(5)]
    whole = torch.cat(list(bank(images).batches(2, CPU)))
    monkeypatch.setattr(bank_module, "free_host_memory", lambda: 10.0)
    streaming = bank(images)
    assert streaming.storage == "stream"
    assert torch.equal(torch.cat(list(streaming.batches(2, CPU))), whole)


def test_an_empty_shard_is_a_bank() -> None:
    assert list(bank([]).batches(2, CPU)) == []


def test_halves_share_no_sample_and_hold_half_of_every_class() -> None:
    data = Clean()
    probe = ProbeSet(data, per_class=9, seed=3)
    first, second = probe.halves()
    a, b = set(first.indices.tolist()), set(second.indices.tolist())
    assert not a & b
    assert a | b == set(probe.indices.tolist())
    assert torch.bincount(first.tasks["label"].labels).tolist() == [5, 5, 5]
    assert torch.bincount(second.tasks["label"].labels).tolist() == [4, 4, 4]
    assert len(probe) == 27  # as it was
    assert probe.halves()[0].indices.tolist() == first.indices.tolist()
    assert torch.equal(first.image(2), probe.image(probe.indices.tolist().index(first.indices[2])))
    turned = first.transformed(lambda image: image.flip(-1))
    assert turned.indices.tolist() == first.indices.tolist()
    assert torch.equal(turned.image(0), first.image(0).flip(-1))


def test_a_class_of_another_task_that_a_half_would_lack_is_named() -> None:
    labels = {"a": [0, 0, 1, 1], "b": [1, 0, 1, 0]}  # two ways of four have both ones together
    refused = 0
    for seed in range(20):
        try:
            ProbeSet(Clean(4), per_class=2, labels=labels, seed=seed).halves()
        except ValueError as error:
            refused += "no sample of class '1' of task 'b'" in str(error)
    assert 0 < refused < 20
