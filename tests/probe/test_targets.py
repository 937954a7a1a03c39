"""Continuous targets follow the chosen samples, and what is no such target is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from dnc_lightning import ProbeSet
from dnc_lightning.probe.targets import read_targets

DATA = TensorDataset(torch.zeros(20, 3, 4, 4), torch.arange(20) % 2)


def test_targets_are_those_of_the_chosen_samples() -> None:
    values = torch.arange(20.0)
    probe = ProbeSet(DATA, per_class=4, targets={"age": values, "place": np.ones((20, 2))})
    found = probe.targets
    assert {name: list(v.shape) for name, v in found.items()} == {"age": [8, 1], "place": [8, 2]}
    assert torch.equal(found["age"][:, 0], values[probe.indices])
    one, two = probe.halves()
    assert torch.equal(one.targets["age"][:, 0], values[one.indices])
    assert not set(one.indices.tolist()) & set(two.indices.tolist())


def test_samples_that_are_left_out_take_their_targets_along() -> None:
    probe = ProbeSet(DATA, per_class=5, targets={"age": torch.arange(20.0)})
    lost = torch.zeros(10, dtype=torch.bool)
    lost[2] = True
    probe.leave_out(lost)
    assert torch.equal(probe.targets["age"][:, 0], probe.indices.float())


def test_float64_is_kept_where_it_says_more() -> None:
    found = read_targets({"a": [0.5, 1.0], "b": [0.1, 1e12 + 1]}, 2)
    assert (found["a"].dtype, found["b"].dtype) == (torch.float32, torch.float64)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"age": torch.zeros(19)}, r"must be \[20\]"),
        ({"age": torch.zeros(20, 2, 2)}, r"must be \[20\]"),
        ({"age": ["a"] * 20}, "must hold numbers"),
        ({"age": [1.0] * 19 + [float("nan")]}, "sample 19"),
        ({"a/b": torch.zeros(20)}, 'without "/"'),
    ],
)
def test_what_is_no_target_is_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ProbeSet(DATA, per_class=4, targets=given)


def test_another_choice_keeps_targets_and_everything_else() -> None:
    values = torch.arange(20.0)
    probe = ProbeSet(DATA, per_class=4, targets={"age": values}, num_workers=0, on_error="skip")
    before = probe.indices.clone()
    other = probe.rechosen(3, None, 7)
    assert len(other) == 6
    assert torch.equal(other.targets["age"][:, 0], values[other.indices])
    assert (other.num_workers, other.on_error, other.seed) == (0, "skip", 7)
    assert torch.equal(probe.indices, before)
    named = probe.rechosen(2, {"half": torch.arange(20) // 10}, 0)
    assert list(named.tasks) == ["half"]
