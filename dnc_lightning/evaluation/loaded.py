"""A frozen encoder with all that running it as its authors do takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from lightning.pytorch import LightningModule
from torch import Tensor, nn

from dnc_lightning.probe.encoders import EncoderLike
from dnc_lightning.probe.pooling import Pooling

OWN_FORWARD: Mapping[str, EncoderLike] = {"encoder": ""}
"""What a plain module is embedded with: what it returns itself."""


@dataclass(frozen=True)
class LoadedEncoder:
    """An encoder, how its images are made, and which of its outputs are its features."""

    name: str  # of the run's folder and the lines of a comparison
    module: nn.Module
    transform: Callable[[Any], Tensor] | None = None  # of an image of the data set; None: as it is
    encoder: EncoderLike | Mapping[str, EncoderLike] | None = None  # as of ProbeCallback
    pooling: Pooling = "auto"
    statement: str = ""  # what was loaded, its layer, pooling and preprocessing, for the record


def as_loaded(encoder: Any, name: str | None = None) -> LoadedEncoder:
    """Make a LoadedEncoder of what a user gives.

    Args:
        encoder: A LoadedEncoder, a LightningModule (its encoder is found as ProbeCallback does), a
            module (what it returns itself), or a callable `images [N, C, H, W] -> features`.
        name: Of the result; default its own.

    Raises:
        ValueError: something else.
    """
    if isinstance(encoder, LoadedEncoder):
        return encoder if name is None else replace(encoder, name=name)
    if isinstance(encoder, LightningModule):
        return LoadedEncoder(name or type(encoder).__name__, encoder)
    if isinstance(encoder, nn.Module):
        return LoadedEncoder(name or type(encoder).__name__, encoder, encoder=OWN_FORWARD)
    if callable(encoder) and not isinstance(encoder, type):
        own = getattr(encoder, "__name__", type(encoder).__name__)
        return LoadedEncoder(name or own, _Called(encoder), encoder=OWN_FORWARD)
    raise ValueError(
        "an encoder must be a module, a callable that takes images [N, C, H, W], or what "
        f"load_encoder gives, got {encoder!r}."
    )


class _Called(nn.Module):
    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, images: Tensor) -> Any:
        return self.function(images)
