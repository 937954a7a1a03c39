"""The fixed head is a simplex, rotated uniformly, and trains nothing."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dnc_lightning.losses import FixedETFHead, simplex_directions


@settings(max_examples=40, deadline=None)
@given(classes=st.integers(2, 12), spare=st.integers(0, 9))
def test_rows_are_a_simplex_in_as_few_dimensions_as_one_needs(classes: int, spare: int) -> None:
    rows = simplex_directions(classes, classes - 1 + spare).double()
    wanted = torch.full((classes, classes), -1 / (classes - 1), dtype=torch.float64)
    torch.testing.assert_close(rows @ rows.T, wanted.fill_diagonal_(1), rtol=0, atol=1e-6)
    torch.testing.assert_close(rows.sum(0), torch.zeros_like(rows[0]), rtol=0, atol=1e-6)


def test_the_rotation_favours_no_direction() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.stack([simplex_directions(3, 4, generator)[0] for _ in range(4000)])
    assert float(rows.mean(0).abs().max()) < 4 * 0.5 / math.sqrt(4000)
    torch.testing.assert_close(rows.T @ rows / 4000, torch.eye(4) / 4, rtol=0, atol=0.02)


def test_a_generator_decides_it() -> None:
    one, two = (simplex_directions(4, 9, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(one, two)
    assert not torch.equal(one, simplex_directions(4, 9))


def test_logits_are_cosines_over_the_temperature() -> None:
    head = FixedETFHead(6, 4, temperature=0.5)
    x = 7 * torch.randn(5, 6)
    expected = nn.functional.cosine_similarity(x[:, None], head.weight, dim=2) / 0.5
    torch.testing.assert_close(head(x), expected)
    torch.testing.assert_close(head(head.weight).argmax(1), torch.arange(4))


def test_nothing_is_trained_and_a_checkpoint_keeps_the_rotation() -> None:
    head, other = FixedETFHead(6, 4), FixedETFHead(6, 4)
    assert not list(head.parameters())
    other.load_state_dict(head.state_dict())
    assert torch.equal(head.weight, other.weight)
    assert (head.in_features, head.out_features) == (6, 4)


@pytest.mark.parametrize(("classes", "dim"), [(1, 4), (6, 4), (0, 0)])
def test_more_vertices_than_there_is_room_for_are_refused(classes: int, dim: int) -> None:
    with pytest.raises(ValueError, match="vertices"):
        FixedETFHead(dim, classes)


def test_a_temperature_must_be_positive() -> None:
    with pytest.raises(ValueError, match="temperature"):
        FixedETFHead(4, 3, temperature=0)
