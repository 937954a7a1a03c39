"""Images of every mode and type: scaled by the range of their type, or refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from dnc_lightning import ProbeSet
from dnc_lightning.probe.bank import as_float
from dnc_lightning.probe.images import as_tensor

PIXELS = np.arange(5 * 6 * 3, dtype=np.uint8).reshape(5, 6, 3) * 2 + 30
GRAY = PIXELS[..., 1]
DEEP = (GRAY.astype(np.uint16) * 257) + np.arange(30, dtype=np.uint16).reshape(5, 6)


def read(image: Any, transform: Any = None) -> np.ndarray:
    """What an encoder gets of one image, [H, W, C]."""
    probe = ProbeSet([(image, i) for i in range(2)], 1, transform=transform)
    batch: torch.Tensor = as_float(probe.image(0))
    assert batch.dtype == torch.float32
    assert torch.equal(batch, as_float(probe.image(1)))
    return batch.permute(1, 2, 0).double().numpy()


def close(got: np.ndarray, wanted: np.ndarray, atol: float = 1e-6) -> None:
    wanted = wanted if wanted.ndim == 3 else wanted[..., None]
    assert got.shape == wanted.shape
    np.testing.assert_allclose(got, wanted, atol=atol)


def picture(mode: str) -> Image.Image:
    """`PIXELS` in another mode."""
    image = Image.fromarray(PIXELS)
    if mode in ("RGBa", "La"):
        return image.convert(mode[:-1] + "A").convert(mode)
    if mode == "P":
        return image.quantize(30)
    return image.convert(mode)


@pytest.mark.parametrize("mode", ["RGB", "RGBX", "RGBA", "RGBa", "CMYK", "YCbCr", "HSV", "P"])
def test_colour_modes_become_rgb(mode: str) -> None:
    # Pillow's own rounding on the way to the mode and back.
    atol = {"YCbCr": 4, "HSV": 6, "P": 12}.get(mode, 0) / 255
    close(read(picture(mode)), PIXELS / 255, atol + 1e-6)


def test_lab_is_converted_by_its_meaning() -> None:
    # L* = 100 x 200 / 255 of a gray, a = b = 0: (((L* + 16) / 116)^3 in linear light).
    image = Image.new("LAB", (6, 5), (200, 128, 128))
    linear = ((100 * 200 / 255 + 16) / 116) ** 3
    close(read(image), np.full((5, 6, 3), 1.055 * linear ** (1 / 2.4) - 0.055), 2 / 255)


@pytest.mark.parametrize("mode", ["LA", "La", "PA"])
def test_gray_modes_with_transparency_become_rgb(mode: str) -> None:
    image = Image.fromarray(GRAY)
    image = image.convert("P").convert("PA") if mode == "PA" else image.convert("LA").convert(mode)
    close(read(image), GRAY[..., None].repeat(3, 2) / 255)


def test_gray_and_binary_modes() -> None:
    close(read(Image.fromarray(GRAY)), GRAY / 255)
    black_and_white = Image.fromarray(GRAY > 90)
    assert black_and_white.mode == "1"
    close(read(black_and_white), (GRAY > 90)[..., None].repeat(3, 2).astype(float))


@pytest.mark.parametrize("mode", ["I;16", "I;16L", "I;16B", "I;16N"])
def test_16_bit_pictures_are_scaled_by_their_range(mode: str) -> None:
    order = ">u2" if mode == "I;16B" else "=u2" if mode == "I;16N" else "<u2"
    image = Image.frombytes(mode, (6, 5), DEEP.astype(order).tobytes())
    close(read(image), DEEP / 65535)


def test_16_bit_files_are_scaled_by_their_range(tmp_path: Any) -> None:
    path = tmp_path / "deep.png"
    Image.fromarray(DEEP).save(path)
    with Image.open(path) as image:
        if image.mode == "I;16":  # I in older versions of Pillow
            close(read(image), DEEP / 65535)


def test_float_pictures_are_taken_in_their_range_alone() -> None:
    values = (GRAY / 255).astype(np.float32)
    close(read(Image.fromarray(values)), values)
    for image in (
        Image.fromarray(values * 255),
        Image.fromarray(values - 0.5),
        Image.fromarray(GRAY.astype(np.int32)),
        Image.fromarray(DEEP.astype(np.int32)),
        Image.fromarray(values * np.nan),
    ):
        with pytest.raises(ValueError, match=r"sample \d of .*mode [IF] has no range .*Divide by"):
            read(image)


def test_the_remedy_for_pictures_without_a_range_works() -> None:
    with pytest.raises(ValueError) as caught:
        read(Image.fromarray(DEEP.astype(np.int32)))
    code = str(caught.value).split("transform=")[1].removesuffix(").")
    close(read(Image.fromarray(DEEP.astype(np.int32)), eval(code)), DEEP / 65535)


def test_transparency_is_dropped() -> None:
    alpha = np.arange(30, dtype=np.uint8).reshape(5, 6, 1) * 8
    close(read(Image.fromarray(np.concatenate([PIXELS, alpha], 2))), PIXELS / 255)
    gray = np.concatenate([GRAY[..., None], alpha], 2)
    close(read(Image.fromarray(gray)), GRAY[..., None].repeat(3, 2) / 255)
    palette = Image.fromarray(GRAY).convert("P")
    palette.info["transparency"] = bytes(range(256))
    close(read(palette), GRAY[..., None].repeat(3, 2) / 255)
    palette.info["transparency"] = 40
    close(read(palette), GRAY[..., None].repeat(3, 2) / 255)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("level", [0, 255])
def test_a_picture_in_its_transparency_alone_is_refused_with_a_remedy(
    mode: str, level: int
) -> None:
    alpha = np.arange(30, dtype=np.uint8).reshape(5, 6) * 8
    image = Image.new(mode, (6, 5), (level,) * (len(mode)))
    image.putalpha(Image.fromarray(alpha))
    with pytest.raises(ValueError, match=r"sample . .* drawn in its transparency alone") as caught:
        read(image)
    code = str(caught.value).split("transform=")[1].removesuffix(").")
    shown = read(image, eval(code))
    wanted = 1 - alpha / 255 if level == 0 else alpha / 255
    close(shown, wanted[..., None].repeat(3, 2), 1 / 255)


def test_arrays_and_tensors_of_every_type() -> None:
    chw = torch.as_tensor(PIXELS).permute(2, 0, 1)
    deep = np.stack([DEEP] * 3, 2)
    for image, wanted in (
        (PIXELS, PIXELS / 255),
        (chw, PIXELS / 255),
        (chw.numpy(), PIXELS / 255),
        (GRAY, GRAY / 255),
        (GRAY[..., None], GRAY / 255),
        (GRAY > 90, (GRAY > 90).astype(float)),
        (chw > 90, (PIXELS > 90).astype(float)),
        (deep, deep / 65535),
        (deep.astype(">u2"), deep / 65535),
        (torch.as_tensor(deep).permute(2, 0, 1), deep / 65535),
        ((PIXELS / 255).astype(np.float32), PIXELS / 255),
        ((PIXELS / 255).astype(">f8"), PIXELS / 255),
        ((PIXELS / 255).transpose(2, 0, 1), PIXELS / 255),
        ((chw.double() / 255 - 0.5) / 0.2, (PIXELS / 255 - 0.5) / 0.2),
        (chw.float(), PIXELS.astype(float)),
    ):
        close(read(image), wanted)
    close(read((PIXELS / 255).astype(np.float16)), PIXELS / 255, 1e-3)


@given(
    array=hnp.arrays(
        st.sampled_from([np.uint8, np.uint16, np.float32, np.float64, np.bool_]),
        st.tuples(st.integers(5, 9), st.integers(5, 9), st.integers(1, 4)),
        elements=st.integers(0, 1),
    ),
    seed=st.integers(0, 1000),
    chw=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_either_layout_and_any_type_give_the_fraction_of_its_range(
    array: Any, seed: int, chw: bool
) -> None:
    rng = np.random.default_rng(seed)
    largest = {np.uint8: 255, np.uint16: 65535}.get(array.dtype.type, 1)
    fraction = rng.random(array.shape)
    image = (fraction * largest).round() if largest > 1 else fraction
    image = image.astype(array.dtype) if array.dtype != bool else fraction > 0.5
    wanted = image.astype(np.float64) / largest
    close(read(image.transpose(2, 0, 1) if chw else image), wanted)


def test_a_uint16_image_of_whole_bytes_is_kept_as_bytes() -> None:
    probe = ProbeSet([(np.array(GRAY, np.uint16) * 257, i) for i in range(2)], 1)
    assert probe.image(0).dtype == torch.uint8
    assert np.array_equal(probe.image(0)[0].numpy(), GRAY)


@pytest.mark.parametrize(
    ("image", "match"),
    [
        ([torch.zeros(3, 2, 2)] * 2, "must be one PIL image.*got list.*one view"),
        (torch.zeros(2, 3, 4, 4), r"got shape \[2, 3, 4, 4\]"),
        (None, "got NoneType"),
        (torch.zeros(3, 4, 4).long(), "uint8, uint16, bool or floating point, got torch.int64"),
        (np.zeros((4, 4, 3), np.int16), r"got torch.int16.*v2.PILToTensor\(\).*scale=True"),
        (np.zeros((4, 4, 3), np.uint32), "got torch.uint32"),
        (np.zeros((9, 9, 7), np.uint8), r"1 to 4 channels, got \[9, 9, 7\]"),
        (torch.full((1, 2, 2), torch.nan), "4 of 4 values .* nan or infinite"),
        (torch.full((1, 2, 2), 1e300, dtype=torch.float64), "4 of 4 values .* nan or infinite"),
    ],
)
def test_bad_images_name_the_sample(image: Any, match: str) -> None:
    probe = ProbeSet([(torch.zeros(3, 4, 4), 0), (image, 1)], 1)
    position = probe.indices.tolist().index(1)
    with pytest.raises(ValueError, match=f"sample 1 of the probe's data set: .*{match}"):
        probe.image(position)
    probe = ProbeSet([(0, 0), (1, 1)], 1, transform=[torch.zeros(3, 4, 4), image].__getitem__)
    with pytest.raises(ValueError, match=f"sample 1 of the probe's data set: .*{match}"):
        probe.image(position)


def test_the_remedy_for_16_bit_pictures_works() -> None:
    v2 = pytest.importorskip("torchvision.transforms.v2")
    compose = v2.Compose([v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True)])
    close(read(Image.fromarray(DEEP), compose), DEEP / 65535)
    with pytest.raises(ValueError, match=r"got torch\.int16"):
        read(Image.fromarray(DEEP), __import__("torchvision").transforms.ToTensor())


def test_images_of_different_shape_name_both_samples() -> None:
    modes = ["RGB", "RGB", "L", "RGB"]
    data = [(Image.new(mode, (4, 4)), i % 2) for i, mode in enumerate(modes)]
    probe = ProbeSet(data, per_class=2)
    match = r"one shape, got \[[13], 4, 4\] of sample \d and \[[13], 4, 4\] of sample \d.*RGB"
    with pytest.raises(ValueError, match=match) as caught:
        [probe.image(position) for position in range(4)]
    assert "[1, 4, 4] of sample 2" in str(caught.value)
    whole = ProbeSet(data, per_class=2, transform=lambda image: image.convert("RGB"))
    assert all(whole.image(position).shape == (3, 4, 4) for position in range(4))


def test_an_image_without_pixels_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must have pixels, got shape \[3, 0, 7\]"):
        as_tensor(np.zeros((0, 7, 3), np.uint8))
