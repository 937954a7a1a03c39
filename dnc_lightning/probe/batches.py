"""Encoders whose features of an image depend on the other images of its batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dnc_lightning.probe.bank import ImageBank
from dnc_lightning.probe.embed import Embedder
from dnc_lightning.probe.encoders import Encoder, encoder_modules

ROUNDING = 1e-4
"""Difference, relative to the largest feature, up to which two results are the same."""


def depends_on_batch(
    embedder: Embedder, read: Callable[[int], Tensor], size: int
) -> tuple[str, ...]:
    """Embed the first image beside two others in turn, and say which encoders tell them apart.

    Both batches are of two images and run the same arithmetic with the same random numbers, so
    that an image's features are the same unless they depend on the other image.

    Args:
        embedder: With the encoders.
        read: Position in the probe set -> image [C, H, W].
        size: Images in the probe set, at least 1.

    Returns:
        A sentence for each encoder whose values depend on how a probe is batched.
    """
    companies = ((0, min(1, size - 1)), (0, size - 1 if size > 2 else 0))
    one, other = (
        embedder.embed(ImageBank.build(read, places, torch.device("cpu"), progress=False))
        for places in companies
    )
    return tuple(
        _sentence(embedder.module, encoder)
        for encoder in embedder.encoders
        if _differ(one[encoder.name][0], other[encoder.name][0])
    )


def _differ(one: Tensor, other: Tensor) -> bool:
    tolerance = max(ROUNDING, 8 * torch.finfo(one.dtype).eps)
    one, other = one.double(), other.double()
    largest = float(torch.nan_to_num(one, nan=0.0, posinf=0.0, neginf=0.0).abs().max())
    return not torch.allclose(one, other, rtol=0.0, atol=tolerance * largest, equal_nan=True)


def _sentence(module: nn.Module, encoder: Encoder) -> str:
    (root,) = encoder_modules(module, (encoder,))
    layers = [
        name.replace("_orig_mod.", "")
        for name, layer in root.named_modules()
        if isinstance(layer, _BatchNorm) and layer.running_mean is None
    ]
    found = f" (BatchNorm without running statistics: {', '.join(layers[:3])})" if layers else ""
    return (
        f"encoder {encoder.source!r}: in evaluation mode the features of an image depend on the "
        f"other images of its batch{found}. The values therefore depend on how the probe is "
        "batched, by its order, the batch size and the number of processes. Give such layers "
        "running statistics (track_running_stats=True), or normalise each image by itself "
        "(GroupNorm, LayerNorm)."
    )
