"""Reduce what an encoder returns to [N, D], by a layout that was fixed on a trial."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

Pooling = Literal["auto", "cls", "mean"]


@dataclass(frozen=True)
class Layout:
    """Where the features of an output are, and what becomes of the rest."""

    ndim: int  # of the output: 2 [N, D], 3 tokens, 4 maps
    features: int  # D
    last: bool = True  # D is the last axis, not the second
    others: tuple[int, ...] = ()  # positions of class and register tokens
    take: int | None = None  # position of the token that is the feature, in place of the mean

    def __str__(self) -> str:
        """Say it in a few words for messages and records."""
        if self.ndim == 2:
            return "[N, D]"
        if self.ndim == 4:
            return f"maps {'[N, H, W, D]' if self.last else '[N, D, H, W]'}, mean"
        tokens = f"tokens {'[N, T, D]' if self.last else '[N, D, T]'}"
        if self.take is not None:
            return f"{tokens}, class token" + (f" at {self.take}" if self.take else "")
        if self.is_prefix:
            return f"{tokens}, mean without the first {len(self.others)}"
        left_out = f" without those at {', '.join(map(str, self.others))}" if self.others else ""
        return f"{tokens}, mean{left_out}"

    @property
    def is_prefix(self) -> bool:
        """Whether class and register tokens stand before the patches."""
        return bool(self.others) and self.others == tuple(range(len(self.others)))


def check_output(output: Any, images: int, source: str, expression: str = "") -> Tensor:
    """Return the output if it is features, tokens or maps of every image.

    Args:
        output: Of the encoder.
        images: Number N of images that it was given.
        source: The encoder's name in messages.
        expression: Python that calls it, for the remedy.

    Raises:
        ValueError: it is not; names the encoder and the remedy.
    """
    call = "encoder=lambda module, images: "
    if not isinstance(output, Tensor) or not output.is_floating_point():
        got = f"a tensor of {output.dtype}" if isinstance(output, Tensor) else type(output).__name__
        parts = _parts(output, images) if expression else {}
        remedy = f"{call}... that picks the features out of it."
        if parts:
            held = ", ".join(f"{key} {list(part.shape)}" for key, part in parts.items())
            remedy = f"{call}{expression}{list(parts)[-1]}; it holds {held}."
        raise ValueError(
            f"encoder {source!r} must return a floating point tensor [N, D], tokens [N, T, D] or "
            f"maps [N, D, H, W] or [N, H, W, D], got {got}. Pass {remedy}"
        )
    if output.ndim not in (2, 3, 4) or output.shape[0] != images:
        remedy = f"{call}... that returns one feature vector an image."
        if output.ndim == 3 and output.shape[1] == images and expression:
            remedy = f"{call}{expression}.transpose(0, 1), if that is one row an image."
        elif output.ndim > 4 and len(output) == images and expression:
            remedy = f"{call}{expression}.flatten(2).mean(2), if the second axis holds features."
        raise ValueError(
            f"encoder {source!r} must return [N, D], tokens [N, T, D] or maps [N, D, H, W] or "
            f"[N, H, W, D] for N={images} images, got {list(output.shape)}. Pass {remedy}"
        )
    return output


def _parts(output: Any, images: int) -> dict[str, Tensor]:
    """What of a collection may be features, by the Python that picks it."""
    if isinstance(output, Mapping):
        found = {f"[{key!r}]": value for key, value in output.items()}
    elif isinstance(output, (tuple, list)):
        found = {f"[{place}]": value for place, value in enumerate(output)}
    else:
        found = {f".{key}": value for key, value in getattr(output, "__dict__", {}).items()}
    return {
        key: value
        for key, value in found.items()
        if isinstance(value, Tensor)
        and value.is_floating_point()
        and value.ndim in (2, 3, 4)
        and len(value) == images
    }


def pool(output: Any, images: int, layout: Layout, source: str) -> Tensor:
    """Reduce an output to features [N, D].

    Raises:
        ValueError: the output is not what the trial before training gave.
    """
    output = check_output(output, images, source)
    if output.ndim != layout.ndim or output.shape[-1 if layout.last else 1] != layout.features:
        raise ValueError(
            f"encoder {source!r} returned {layout} with D={layout.features} when it was tried "
            f"before training, and now {list(output.shape)}."
        )
    # A mean of halves would be rounded to one.
    accurate = torch.float32 if output.dtype in (torch.float16, torch.bfloat16) else output.dtype
    features: Tensor = output
    if layout.ndim == 4:
        features = output.mean((1, 2) if layout.last else (2, 3), dtype=accurate)
    elif layout.ndim == 3:
        tokens: Tensor = output if layout.last else output.transpose(1, 2)
        if layout.take is not None:
            return tokens[:, layout.take]
        if layout.is_prefix:
            return tokens[:, len(layout.others) :].mean(1, dtype=accurate)
        patches = [i for i in range(tokens.shape[1]) if i not in layout.others]
        features = (tokens[:, patches] if layout.others else tokens).mean(1, dtype=accurate)
    return features
