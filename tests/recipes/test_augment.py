"""The random views: shape, range, randomness, and what must survive."""

from __future__ import annotations

import pytest
import torch

from recipes.augment import TwoViews, Views, to_unit_range


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_uint8_becomes_unit_floats():
    pixels = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1)
    assert to_unit_range(pixels).flatten().tolist() == pytest.approx([0, 0.2, 1])
    floats = torch.rand(1, 3, 2, 2)
    assert to_unit_range(floats) is floats


def test_two_different_views_of_the_same_shape_and_range(images):
    first, second = TwoViews(Views(), 32)(images)
    for view in (first, second):
        assert view.shape == images.shape
        assert view.min() >= 0
        assert view.max() <= 1
    assert ((first - second).abs().amax(dim=(1, 2, 3)) > 0.01).all()


def test_each_image_draws_its_own(images):
    view, _ = TwoViews(Views(), 32)(images[:1].expand(4, -1, -1, -1))
    assert len(view.flatten(1).unique(dim=0)) == 4


def test_a_seed_fixes_the_views(images):
    torch.manual_seed(5)
    first = TwoViews(Views(), 32)(images)
    torch.manual_seed(5)
    again = TwoViews(Views(), 32)(images)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def only(images: torch.Tensor, **strengths: float) -> torch.Tensor:
    """A view in which nothing varies but what is named."""
    still = {"min_scale": 1.0, "flip": 0.0, "brightness": 0.0, "contrast": 0.0}
    view: torch.Tensor = TwoViews(Views(**(still | strengths)), images.shape[-1])(images)[0]
    return view


def test_a_certain_flip_mirrors_left_and_right(images):
    mirrored = only(images, flip=1.0).flip(3)
    assert (mirrored - only(images)).abs().mean() < 0.02


def test_a_crop_stays_inside_the_image():
    """A linear ramp shows where each crop begins and ends."""
    ramp = torch.linspace(0, 1, 32).expand(200, 3, 32, 32).contiguous()
    crops = only(ramp, min_scale=0.25)
    left, right = crops[:, 0, 16, 1], crops[:, 0, 16, -2]
    assert (right > left).all()
    assert left.std() > 0.05


def test_colour_survives_a_small_hue_jitter():
    """Red, green and blue stay the brightest channel."""
    colours = torch.eye(3)[:, :, None, None].expand(3, 3, 32, 32) * 0.8 + 0.1
    view = only(colours.contiguous(), hue=0.03, saturation=0.4, brightness=0.4)
    assert view.mean((2, 3)).argmax(1).tolist() == [0, 1, 2]
