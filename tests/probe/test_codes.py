"""Images are kept in few bytes only where they come back bit by bit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from dnc_lightning.probe import bank as bank_module
from dnc_lightning.probe.bank import ImageBank
from dnc_lightning.probe.codes import Coded, DoesNotFitError, Shelf, as_float, decode
from dnc_lightning.probe.images import as_tensor

v1 = pytest.importorskip("torchvision.transforms")
v2 = pytest.importorskip("torchvision.transforms.v2")
timm_data = pytest.importorskip("timm.data")

CPU = torch.device("cpu")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def pictures(n: int = 9, size: int = 40) -> list[Image.Image]:
    draw = np.random.default_rng(1)
    coarse = draw.integers(0, 256, (n, 6, 6, 3), dtype=np.uint8)
    return [Image.fromarray(c).resize((size, size + 8), Image.Resampling.BICUBIC) for c in coarse]


def shelved(images: Sequence[Tensor], limit: float = 1e9) -> Shelf:
    shelf = Shelf(len(images), limit)
    for image in images:
        shelf.put(image)
    return shelf


def given_back(shelf: Shelf) -> Tensor:
    assert shelf.images is not None
    return as_float(shelf.images) if shelf.table is None else decode(shelf.images, shelf.table)


def same_bits(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one.view(torch.int32), other.view(torch.int32))


POINTWISE: dict[str, Callable[[], Any]] = {
    "torchvision v1": lambda: v1.Compose([v1.Resize(32), v1.ToTensor(), v1.Normalize(MEAN, STD)]),
    "torchvision v2": lambda: v2.Compose(
        [
            v2.ToImage(),
            v2.Resize(32),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    ),
    "torchvision v2, half": lambda: v2.Compose(
        [v2.ToImage(), v2.ToDtype(torch.float16, scale=True), v2.Normalize(MEAN, STD)]
    ),
    "torchvision v2, bfloat16": lambda: v2.Compose(
        [v2.ToImage(), v2.ToDtype(torch.bfloat16, scale=True), v2.Normalize(MEAN, STD)]
    ),
    "timm": lambda: timm_data.create_transform(32, mean=MEAN, std=STD),
    "no affine map": lambda: v1.Compose([v1.ToTensor(), v1.Lambda(lambda x: x.log())]),
    "negative zeros": lambda: v1.Compose([v1.ToTensor(), v1.Lambda(lambda x: (x > 0.5) * -x)]),
    "one minus": lambda: v1.Compose([v1.ToTensor(), v1.Lambda(lambda x: 1e-8 - x)]),
}


@pytest.mark.parametrize("name", POINTWISE)
def test_pixels_after_a_transform_of_single_pixels_take_a_byte(name: str) -> None:
    transform = POINTWISE[name]()
    if name == "no affine map":
        images = [transform(p.point(lambda v: max(v, 1))) for p in pictures()]
    else:
        images = [transform(p) for p in pictures()]
    came = [as_tensor(image) for image in images]
    shelf = shelved(came)
    assert shelf.images is not None
    assert shelf.images.dtype == torch.uint8
    assert shelf.table is not None
    assert shelf.table.shape == (3, 256)
    expected = torch.stack([image.float() for image in images])
    assert same_bits(given_back(shelf), expected)
    bank = ImageBank.build(came.__getitem__, range(len(came)), CPU, progress=False)
    assert bank.dtype == torch.float32
    assert same_bits(torch.cat(list(bank.batches(4, CPU))), expected)
    assert all(same_bits(bank.image(i), expected[i]) for i in (0, 5))
    for half in (torch.float16, torch.bfloat16):
        batch = torch.cat(list(bank.batches(4, CPU))).to(half)
        assert torch.equal(batch, expected.to(half))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("share", [1.0, 0.0])
def test_a_gpu_gives_the_same_bits(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bank_module, "DEVICE_SHARE", share)
    device = torch.device("cuda", 0)
    for name in ("torchvision v1", "torchvision v2, half"):
        images = [POINTWISE[name]()(picture).float() for picture in pictures()]
        bank = ImageBank.build(images.__getitem__, range(len(images)), device, progress=False)
        assert bank.storage == ("device" if share else "pinned")
        assert same_bits(torch.cat(list(bank.batches(4, device))).cpu(), torch.stack(images))
        assert same_bits(bank.image(5), images[5])
    every = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(as_float(every.to(device)).cpu(), every / 255)


@pytest.mark.parametrize("odd", [0, 1, 6])
def test_one_image_of_many_values_makes_all_floats(odd: int) -> None:
    normalize = v1.Compose([v1.ToTensor(), v1.Normalize(MEAN, STD)])
    images = [as_tensor(normalize(picture)) for picture in pictures()]
    images[odd] = torch.nn.functional.avg_pool2d(images[odd], 3, 1, 1)
    assert min(len(channel.unique()) for channel in images[odd]) > 256
    shelf = shelved(images)
    assert shelf.table is None
    assert shelf.images is not None
    assert shelf.images.dtype == torch.float32
    assert same_bits(given_back(shelf), torch.stack(images))


def test_one_channel_of_many_values_is_enough() -> None:
    images = [torch.randint(9, (2, 20, 20)) / 7 for _ in range(3)]
    images[1][1] = torch.rand(20, 20)
    assert shelved(images[:1]).table is not None
    assert same_bits(given_back(shelved(images)), torch.stack(images))
    assert shelved(images).table is None


@pytest.mark.parametrize("blank", [0, 4])
def test_a_blank_image_that_looks_like_bytes_is_one_among_the_others(blank: int) -> None:
    """White after Normalize(0.5, 0.5) is 1.0, as white is without."""
    normalize = v1.Compose([v1.ToTensor(), v1.Normalize([0.5] * 3, [0.5] * 3)])
    images = [as_tensor(normalize(picture)) for picture in pictures()]
    images[blank] = as_tensor(torch.ones_like(images[0]))
    assert images[blank].dtype == torch.uint8
    shelf = shelved(images)
    assert shelf.table is not None
    assert same_bits(given_back(shelf), torch.stack([as_float(image) for image in images]))


def test_bytes_stay_bytes() -> None:
    images = [torch.randint(256, (3, 9, 7), dtype=torch.uint8) for _ in range(5)]
    shelf = shelved(images)
    assert shelf.table is None
    assert torch.equal(given_back(shelf), torch.stack(images).float() / 255)
    images.append(torch.rand(3, 9, 7) - 1)
    shelf = shelved(images)  # 63 values each and 63 others fit, as codes
    assert same_bits(given_back(shelf)[:5], torch.stack(images[:5]).float() / 255)
    images.append(torch.rand(3, 9, 7))
    assert same_bits(given_back(shelved(images))[5:], torch.stack(images[5:]))


def test_the_limit_is_in_bytes() -> None:
    normalized = [(torch.randint(256, (3, 20, 20)) / 255 - 0.4) / 0.3 for _ in range(4)]
    pixels = 4 * 3 * 20 * 20
    shelved(normalized, pixels)
    with pytest.raises(DoesNotFitError) as caught:
        shelved(normalized, pixels - 1)
    assert caught.value.nbytes == pixels
    floats = [torch.rand(3, 20, 20) for _ in range(4)]
    shelved(floats, 4 * pixels)
    with pytest.raises(DoesNotFitError) as caught:
        shelved([*normalized[:3], floats[0]], 4 * pixels - 1)
    assert caught.value.nbytes == 4 * pixels


@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)])
@pytest.mark.parametrize("began", [True, False])
def test_codes_of_another_table_are_taken_over(order: slice, began: bool) -> None:
    """As workers send them, who know some images, all or none of those that came before."""
    normalize = v1.Compose([v1.ToTensor(), v1.Normalize(MEAN, STD)])
    images = [as_tensor(normalize(picture)) for picture in pictures()]
    after = images[2:][order]
    known = shelved(images[:2] if began else images[5:6])
    shelf = Shelf(len(images) + 2, 1e9)
    other = Shelf(7, float("inf"), known.palette)
    for image in after:
        other.put(image)
    assert other.images is not None
    assert other.table is not None
    for image in images[:2]:
        shelf.put(image)
    for codes in other.images:
        shelf.put(Coded(codes, other.table))
    assert same_bits(given_back(shelf)[:9], torch.stack([*images[:2], *after]))
    shelf.put(torch.rand_like(images[0]))
    shelf.put(Coded(other.images[0], other.table))
    assert shelf.table is None
    assert same_bits(given_back(shelf)[:9], torch.stack([*images[:2], *after]))
    assert shelf.images is not None
    assert same_bits(shelf.images[10], after[0])
