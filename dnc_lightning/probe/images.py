"""One image of any usual kind as a tensor, scaled by the range of its type, or refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dnc_lightning.probe.items import SampleError

CHANNELS = (1, 2, 3, 4)
"""Sizes by which the axis of the channels of an array is told."""

ALPHA_MODES = ("LA", "PA", "RGBA", "RGBa")


def as_tensor(image: Any) -> Tensor:
    """Turn an image into uint8 or float32 [C, H, W].

    - uint8 stays; bool becomes 0 and 255; uint16 becomes float, divided by 65,535; floats are
      taken as they are, and kept as uint8 where they are multiples of 1/255. Integers of other
      types are refused: their range says nothing about that of the image.
    - PIL images: L, I;16 and F are gray, [1, H, W]; every other mode becomes RGB, [3, H, W]. I;16
      is uint16. Of F the range is not known, so values outside [0, 1] are refused, and so is I.
      Transparency is dropped, as `Image.convert("RGB")` does; an image of one colour that is
      drawn in its transparency alone is refused.
    - Arrays are [H, W], [H, W, C] or, where only the first axis has 1 to 4 entries, [C, H, W].

    Raises:
        ValueError: what came is not one image, or its range is not known, or a pixel is nan.
    """
    if hasattr(image, "getbands"):
        image = _pixels(image)
    if isinstance(image, np.ndarray):
        image = _channels_first(image)
    if not isinstance(image, Tensor) or image.ndim != 3:
        got = f"shape {list(image.shape)}" if isinstance(image, Tensor) else type(image).__name__
        raise SampleError(
            f"a probe image must be one PIL image, array or tensor [C, H, W], got {got}. A probe "
            "takes a test transform that returns one view, such as Compose([Resize, ToTensor])."
        )
    if not image.numel():
        raise SampleError(
            f"a probe image must have pixels, got shape {list(image.shape)}. Leave it out, or "
            "check the crop."
        )
    return _scaled(image)


def _pixels(image: Any) -> NDArray[Any]:
    """The values of a PIL image, [H, W] or [H, W, 3]."""
    mode: str = image.mode
    if mode in ("L", "RGB") or mode.startswith("I;16"):
        return np.asarray(image)
    if mode in ("I", "F"):
        values = np.asarray(image)
        if mode == "F" and values.min() >= 0 and values.max() <= 1:
            return values
        raise SampleError(
            f"a PIL image of mode {mode} has no range of its own, got values of {values.min():g} "
            f"to {values.max():g}. Divide by the largest value that your images can hold: "
            "ProbeSet(transform=lambda image: torch.tensor(np.array(image, np.float32))[None] / "
            "65535)."
        )
    if mode == "La":
        image = image.convert("LA")
    if image.mode not in ALPHA_MODES and "transparency" not in image.info:
        return np.asarray(image.convert("RGB"))
    pixels = np.asarray(image.convert("RGBA"))
    colour, alpha = pixels[..., :3], pixels[..., 3]
    if alpha.min() < alpha.max() and (colour == colour[0, 0]).all():
        background = "white" if colour.mean() < 128 else "black"
        raise SampleError(
            f"a PIL image of mode {mode} is drawn in its transparency alone, which probe images do "
            "not have. Put it on a background: ProbeSet(transform=lambda image: "
            f'Image.alpha_composite(Image.new("RGBA", image.size, {background!r}), '
            'image.convert("RGBA"))).'
        )
    return colour


def _channels_first(image: NDArray[Any]) -> Tensor:
    pixels = torch.tensor(image.astype(image.dtype.newbyteorder("=")))
    if pixels.ndim == 2:
        return pixels[None]
    if pixels.ndim != 3 or not {pixels.shape[0], pixels.shape[2]} & set(CHANNELS):
        raise SampleError(
            "a probe image that is an array must have shape [H, W], [H, W, C] or [C, H, W] with 1 "
            f"to 4 channels, got {list(pixels.shape)}. Pass ProbeSet(transform=...) that returns a "
            "tensor [C, H, W]."
        )
    return pixels.permute(2, 0, 1) if pixels.shape[2] in CHANNELS else pixels


def _scaled(image: Tensor) -> Tensor:
    if image.dtype == torch.uint8:
        return image
    if image.dtype == torch.bool:
        return image.to(torch.uint8) * 255
    if image.dtype == torch.uint16:
        scaled = image.to(torch.float32) / 65535
    elif image.is_floating_point():
        scaled = image.to(torch.float32)
    else:
        raise SampleError(
            f"a probe image must be uint8, uint16, bool or floating point, got {image.dtype}, "
            "whose range says nothing about that of the image. Pass ProbeSet(transform=...) that "
            "returns floats as the encoder expects them; of a 16-bit picture Compose(["
            "v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True)]), which ToTensor does not "
            "scale."
        )
    if not scaled.isfinite().all():
        raise SampleError(
            f"{int((~scaled.isfinite()).sum())} of {scaled.numel()} values of the probe image are "
            "nan or infinite in float32. Replace them in ProbeSet(transform=...), such as by "
            "torch.nan_to_num, or leave the image out."
        )
    rounded = (scaled * 255).round().clamp(0, 255).to(torch.uint8)
    return rounded if torch.equal(rounded.float() / 255, scaled) else scaled
