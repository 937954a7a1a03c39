"""The plane figure of the class means, among the numbers of a probe."""

from __future__ import annotations

import math

import pytest
import torch

from dnc_lightning.instruments import Settings, find_instruments
from dnc_lightning.probe.instrument import expected
from dnc_lightning.probe.labels import Task
from dnc_lightning.probe.measure import Measurement, measure


def measured(classes: int, n: int = 30) -> Measurement:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(classes).repeat(n)
    angle = 2 * math.pi * 2 * labels / classes
    x = torch.randn(len(labels), 6, generator=generator) * 0.1
    x[:, 0] += angle.cos()
    x[:, 1] += angle.sin()
    task = {"month": Task(labels, tuple(map(str, range(classes))))}
    places = expected(find_instruments(["cyclic"]), {"month": [n] * classes}, (), thorough=False)
    return measure(x, task, places, Settings())["month"]


def test_a_circle_is_noted_with_its_frequency() -> None:
    found = measured(7)
    assert found.scalars["cyclic/plane"] > 0.95
    assert found.notes == ["The class means of month are drawn up as a circle, frequency 2."]


@pytest.mark.parametrize(("classes", "n", "why"), [(4, 30, "needs 5 to"), (7, 3, "need 4 samples")])
def test_what_it_needs_is_told(classes: int, n: int, why: str) -> None:
    found = measured(classes, n)
    assert all(math.isnan(value) for value in found.scalars.values())
    assert why in found.notes[0]
