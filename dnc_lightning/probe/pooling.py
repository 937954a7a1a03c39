"""Reduce what an encoder returns to [N, D], by a layout that was fixed on a trial."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

Pooling = Literal["auto", "cls", "mean"]


@dataclass(frozen=True)
class Layout:
    """Where the features of an output are, and what becomes of the rest."""

    ndim: int  # of the output: 2 [N, D], 3 tokens, 4 maps
    features: int  # D
    last: bool = True  # D is the last axis, not the second
    prefix: int = 0  # class and register tokens, which come before those of patches
    take_first: bool = False  # the feature is the first token, not the mean

    def __str__(self) -> str:
        """Say it in a few words for messages and records."""
        if self.ndim == 2:
            return "[N, D]"
        if self.ndim == 4:
            return f"maps {'[N, H, W, D]' if self.last else '[N, D, H, W]'}, mean"
        tokens = f"tokens {'[N, T, D]' if self.last else '[N, D, T]'}"
        if self.take_first:
            return f"{tokens}, class token"
        left_out = f" without the first {self.prefix}" if self.prefix else ""
        return f"{tokens}, mean{left_out}"


def check_output(output: Any, images: int, source: str) -> Tensor:
    """Return the output if it is features, tokens or maps of every image.

    Raises:
        ValueError: it is not; names the encoder and the remedy.
    """
    if not isinstance(output, Tensor) or not output.is_floating_point():
        got = f"a tensor of {output.dtype}" if isinstance(output, Tensor) else type(output).__name__
        raise ValueError(
            f"encoder {source!r} must return a floating point tensor [N, D], tokens [N, T, D] or "
            f"maps [N, D, H, W] or [N, H, W, D], got {got}. Pass encoder=lambda module, images: "
            "... that picks the features out of it."
        )
    if output.ndim not in (2, 3, 4) or output.shape[0] != images:
        raise ValueError(
            f"encoder {source!r} must return [N, D], tokens [N, T, D] or maps [N, D, H, W] or "
            f"[N, H, W, D] for N={images} images, got {list(output.shape)}. Pass "
            "encoder=lambda module, images: ... that returns one feature vector an image."
        )
    return output


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
    features: Tensor = output
    if layout.ndim == 4:
        features = output.mean((1, 2) if layout.last else (2, 3))
    elif layout.ndim == 3:
        tokens = output if layout.last else output.transpose(1, 2)
        features = tokens[:, 0] if layout.take_first else tokens[:, layout.prefix :].mean(1)
    return features
