"""Random views: shape, range, randomness, and the same distribution from kornia and from PIL.

Known differences, within the tolerances here: PIL resamples bicubically and antialiases when it
shrinks, kornia does neither; PIL draws the order of the colour changes for every image, kornia for
every batch; at the border a blur repeats the edge in PIL and mirrors the image in kornia.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from recipes.augment import DeviceViews, Views, WorkerViews, to_unit_range
from recipes.data import FactorsDataset

STILL = Views(count=1, min_scale=1.0, flip=0.0, jitter=0.0)
DRAWS = 1000
Draw = Callable[[Tensor, Views], Tensor]


def on_device(image: Tensor, views: Views) -> Tensor:
    """Many views of a uint8 image [3, H, W], by kornia; in small batches, which share an order."""
    draw = DeviceViews([views])
    batch = image.expand(10, -1, -1, -1)
    return torch.cat([draw(batch)[0] for _ in range(DRAWS // 10)])


def in_workers(image: Tensor, views: Views) -> Tensor:
    """Many views of a uint8 image [3, H, W], by PIL."""
    draw = WorkerViews([views])
    picture = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
    return torch.stack([draw(picture)[0] for _ in range(DRAWS)])


WAYS = [on_device, in_workers]


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
    np.random.seed(0)


@pytest.fixture(scope="module")
def image() -> Tensor:
    """A picture with all colours, edges and shades."""
    pictures = FactorsDataset(96, seed=3).images
    return torch.cat(
        [torch.cat([pictures[0], pictures[1]], 1), torch.cat([pictures[2], pictures[3]], 1)], 2
    )[:, 16:48, 16:48]


def distance(a: Tensor, b: Tensor) -> float:
    """Largest difference between two empirical distribution functions (Kolmogorov-Smirnov)."""
    a, b = a.double().sort().values, b.double().sort().values
    grid = torch.cat([a, b])
    below = [torch.searchsorted(x, grid, right=True) / len(x) for x in (a, b)]
    return float((below[0] - below[1]).abs().max())


def assert_alike(a: Tensor, b: Tensor, limit: float = 0.09) -> None:
    """Two samples of 1,000 differ by 0.087 with probability 0.001 if they are of one kind."""
    assert distance(a, b) < limit


def test_samples_of_other_ranges_are_not_alike():
    a = torch.rand(DRAWS)
    assert_alike(a, torch.rand(DRAWS))
    for other in (torch.rand(DRAWS) * 0.87, torch.rand(DRAWS) + 0.13, 0.5 + 0.74 * (a - 0.5)):
        with pytest.raises(AssertionError):
            assert_alike(a, other)


def test_uint8_becomes_unit_floats():
    pixels = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1)
    assert to_unit_range(pixels).flatten().tolist() == pytest.approx([0, 0.2, 1])
    floats = torch.rand(1, 3, 2, 2)
    assert to_unit_range(floats) is floats


STRONG = Views(
    min_scale=0.3, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1,
    grayscale=0.2, blur=0.5, solarize=0.2,
)  # fmt: skip


def test_views_in_order_each_of_its_size_and_range(image):
    kinds = [STRONG, replace(STRONG, count=3, size=16), replace(STRONG, count=0)]
    device = [view[0] for view in DeviceViews(kinds)(image[None])]
    worker = WorkerViews(kinds)(Image.fromarray(image.permute(1, 2, 0).contiguous().numpy()))
    for views in (device, worker):
        assert [tuple(view.shape) for view in views] == 2 * [(3, 32, 32)] + 3 * [(3, 16, 16)]
        assert all(view.min() >= 0 and view.max() <= 1 for view in views)
        assert (views[0] - views[1]).abs().max() > 0.01
        assert (views[2] - views[3]).abs().max() > 0.01


def test_each_image_of_a_batch_draws_its_own(image):
    view, _ = DeviceViews([STRONG])(image.expand(6, -1, -1, -1))
    assert len(view.flatten(1).unique(dim=0)) == 6


def test_views_of_a_batch_belong_to_its_images():
    shades = torch.tensor([0, 90, 180], dtype=torch.uint8).view(3, 1, 1, 1).expand(3, 3, 32, 32)
    for view in DeviceViews([replace(STILL, count=2), replace(STILL, count=2, size=16)])(shades):
        assert view.mean((1, 2, 3)).tolist() == pytest.approx([0, 90 / 255, 180 / 255])


@pytest.mark.parametrize("way", WAYS)
def test_a_seed_fixes_the_views(way, image, monkeypatch):
    monkeypatch.setattr("tests.recipes.test_augment.DRAWS", 10)
    drawn = []
    for _ in range(2):
        torch.manual_seed(5)
        np.random.seed(5)
        drawn.append(way(image, STRONG))
    assert torch.equal(*drawn)


def test_autocast_does_not_reach_the_views(image):
    draw = DeviceViews([replace(STILL, brightness=0.4, jitter=1.0)])
    with torch.autocast("cpu", torch.bfloat16):
        (view,) = draw(image[None])
    assert view.dtype == torch.float32


@pytest.mark.parametrize("way", WAYS)
def test_a_still_view_is_the_image(way, image, monkeypatch):
    monkeypatch.setattr("tests.recipes.test_augment.DRAWS", 10)
    views = way(image, STILL)
    torch.testing.assert_close(views, (image / 255).expand_as(views), atol=1e-4, rtol=0)


RAMP = torch.stack(
    [
        torch.arange(128).expand(128, 128),
        torch.arange(128)[:, None].expand(128, 128),
        torch.zeros(128, 128, dtype=torch.int64),
    ]
).to(torch.uint8)


def crop_box(views: Tensor) -> dict[str, Tensor]:
    """Area, logarithm of width / height, and centre of crops of the ramp; the image is 1 x 1."""
    pixels = views * 255
    width, height = (
        (along[..., 24] - along[..., 8]).mean(1) / 16 * 32 / 128
        for along in (pixels[:, 0], pixels[:, 1].transpose(1, 2))
    )
    x, y = (pixels[:, c, 15:17, 15:17].mean((1, 2)) / 128 + 0.5 / 128 for c in (0, 1))
    return {"area": width * height, "shape": (width / height).log(), "x": x, "y": y}


def test_crops_have_the_same_areas_shapes_and_places():
    views = replace(STILL, min_scale=0.1, max_scale=0.5)
    device, worker = (crop_box(way(RAMP, views)) for way in WAYS)
    for key in device:
        assert_alike(device[key], worker[key])
    uniform = torch.linspace(0, 1, DRAWS)
    for boxes in (device, worker):
        assert_alike(boxes["area"], 0.1 + 0.4 * uniform)
        assert_alike(boxes["shape"], math.log(4 / 3) * (2 * uniform - 1))
        assert boxes["x"].mean() == pytest.approx(0.5, abs=0.02)
        assert boxes["y"].mean() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("way", WAYS)
def test_flips_have_their_frequency(way):
    views = way(RAMP[:, ::4, ::4], replace(STILL, flip=0.3))
    mirrored = views[:, 0, :, 0] > views[:, 0, :, -1]
    assert float(mirrored.all(1).float().mean()) == pytest.approx(0.3, abs=0.04)
    assert (mirrored.all(1) | ~mirrored.any(1)).all()
    assert (views[:, 1, 0] < views[:, 1, -1]).all()  # never upside down


def looks(views: Tensor) -> dict[str, Tensor]:
    """Statistics of a picture's colours that each kind of change moves."""
    grey = torch.einsum("nchw,c->nhw", views, torch.tensor([0.299, 0.587, 0.114]))
    opponent = views - grey[:, None]
    red_green, blue = views[:, 0] - views[:, 1], views[:, 2] - grey
    return {
        "mean": grey.mean((1, 2)),
        "spread": grey.std((1, 2)),
        "colourfulness": opponent.square().mean((1, 2, 3)).sqrt(),
        "red-green": red_green.mean((1, 2)),
        "blue": blue.mean((1, 2)),
    }


def muted(image: Tensor) -> Tensor:
    """Colours that stay inside 0..1 whatever the change, so that no clipping hides one."""
    return (image.float() * 0.35 + 60).to(torch.uint8)


CHANGES = [
    ({"brightness": 0.4}, "mean"),
    ({"contrast": 0.6}, "spread"),
    ({"saturation": 0.8}, "colourfulness"),
    ({"hue": 0.1}, None),
    ({"brightness": 0.3, "contrast": 0.3, "saturation": 0.3, "hue": 0.05}, None),
]


@pytest.mark.parametrize(("change", "linear"), CHANGES, ids=str)
def test_colours_change_alike_and_as_much_as_told(change, linear, image):
    """A factor is uniform around 1, by the definition of what it scales."""
    drawn = [way(muted(image), replace(STILL, jitter=1.0, **change)) for way in WAYS]
    device, worker = (looks(views) for views in drawn)
    rounding = 4e-3 * torch.rand(2, DRAWS)  # PIL knows 256 levels: blur them on both sides
    moved = [key for key in device if device[key].std() > 5e-3]
    assert moved
    for key in device:
        a, b = device[key], worker[key]
        if key in moved:
            assert_alike(a + rounding[0], b + rounding[1])
        error = math.sqrt(float(a.var() + b.var()) / DRAWS)
        assert abs(float(a.mean() - b.mean())) < 4 * error + 3e-3
    if linear:
        (size,) = change.values()
        still = looks(muted(image)[None] / 255)[linear]
        expected = still * (1 + size * torch.linspace(-1, 1, DRAWS))
        for found in (device, worker):
            assert_alike(found[linear], expected)


@pytest.mark.parametrize("way", WAYS)
def test_a_change_of_colour_has_its_frequency(way, image):
    views = way(image, replace(STILL, jitter=0.6, brightness=0.4))
    changed = (views - image / 255).abs().amax((1, 2, 3)) > 1e-2
    assert float(changed.float().mean()) == pytest.approx(0.6, abs=0.06)


def test_colour_survives_a_small_change_of_hue():
    """Red, green and blue stay the brightest channel."""
    colours = torch.eye(3)[:, :, None, None].expand(3, 3, 32, 32) * 0.8 + 0.1
    views = replace(STILL, jitter=1.0, hue=0.03, saturation=0.4, brightness=0.4)
    (view,) = DeviceViews([views])(colours.contiguous())
    assert view.mean((2, 3)).argmax(1).tolist() == [0, 1, 2]


@pytest.mark.parametrize("way", WAYS)
def test_grey_views_have_their_frequency_and_weights(way, image):
    views = way(image, replace(STILL, grayscale=0.2))
    grey = (views.amax(1) - views.amin(1)).amax((1, 2)) < 1e-3
    assert float(grey.float().mean()) == pytest.approx(0.2, abs=0.035)
    weights = torch.tensor([0.299, 0.587, 0.114])
    expected = torch.einsum("chw,c->hw", image / 255, weights).expand_as(views[grey])
    torch.testing.assert_close(views[grey], expected, atol=6e-3, rtol=0)


def sharpness(views: Tensor) -> Tensor:
    """Variance of the Laplacian, away from the border."""
    inner = views[:, :, 6:-6, 6:-6]
    laplacian = 4 * inner - sum(
        views[:, :, 6 + dy : 26 + dy, 6 + dx : 26 + dx]
        for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0))
    )
    return laplacian.var((1, 2, 3))


def test_blurs_are_as_strong_and_as_frequent(image):
    noise = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8)
    views = replace(STILL, blur=0.5)
    device, worker = (sharpness(way(noise, views)).log() for way in WAYS)
    untouched = sharpness(noise[None] / 255).log() - 0.02
    for found in (device, worker):
        # A blur of less than 0.3 pixels changes nothing that can be seen.
        assert float((found < untouched).float().mean()) == pytest.approx(0.46, abs=0.05)
    for part in (0.1, 0.2, 0.3, 0.4):
        quantiles = device.quantile(part), worker.quantile(part)
        assert float(quantiles[0]) == pytest.approx(float(quantiles[1]), abs=0.6), part


@pytest.mark.parametrize("way", WAYS)
def test_solarized_views_have_their_frequency_and_threshold(way, image):
    views = way(image, replace(STILL, solarize=0.2))
    values = image / 255
    solarized = torch.where(image < 128, values, 1 - values)
    is_solarized = (views - solarized).abs().amax((1, 2, 3)) < 1e-2
    assert float(is_solarized.float().mean()) == pytest.approx(0.2, abs=0.035)
    torch.testing.assert_close(
        views[~is_solarized], values.expand_as(views[~is_solarized]), atol=1e-2, rtol=0
    )


def test_shrinking_keeps_what_is_large(monkeypatch):
    """The one real difference: where PIL averages pixels, kornia picks some of them."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randint(0, 256, (3, 8, 8), dtype=torch.uint8, generator=generator)
    large = coarse.repeat_interleave(16, 1).repeat_interleave(16, 2)
    monkeypatch.setattr("tests.recipes.test_augment.DRAWS", 10)
    device, worker = (way(large, STILL)[0] for way in WAYS)
    assert (device - worker).abs().mean() < 0.05
