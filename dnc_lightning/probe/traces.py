"""Watch an encoder run once: what its layers return, and where the images go in."""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.modules.pooling import (
    _AdaptiveAvgPoolNd,
    _AdaptiveMaxPoolNd,
    _AvgPoolNd,
    _MaxPoolNd,
)

_CHANNELS_SECOND = (
    _ConvNd,
    _BatchNorm,
    _InstanceNorm,
    nn.GroupNorm,
    _AvgPoolNd,
    _MaxPoolNd,
    _AdaptiveAvgPoolNd,
    _AdaptiveMaxPoolNd,
)
"""Layers whose arithmetic makes the second axis that of the features."""


@dataclass(frozen=True)
class Call:
    """What a layer whose arithmetic tells its features from its positions has returned."""

    tensor: weakref.ref[Tensor]
    last: bool  # its features are on the last axis, not on the second
    positions: int  # tokens, or places of a map
    features: int
    mark: float  # differs where the values differ


@dataclass(frozen=True)
class Entrance:
    """A module that was given images, and these."""

    module: nn.Module
    images: Tensor  # [N, C, H, W]


@dataclass
class Trace:
    """One run of an encoder."""

    output: Any = None
    calls: list[Call] = field(default_factory=list)
    # From the outermost module that was given the images to the innermost, before any has returned.
    entrances: list[Entrance] = field(default_factory=list)


@contextmanager
def traced(module: nn.Module, images: int) -> Iterator[Trace]:
    """Fill a trace from what runs below `module` inside, on a batch of `images` images."""
    trace, returned = Trace(), False

    def enter(submodule: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = first_image(args, kwargs)
        if given is not None and not returned:
            # A copy: layers may work in place.
            trace.entrances.append(Entrance(submodule, given.detach().clone()))

    def leave(submodule: nn.Module, _args: Any, output: Any) -> None:
        nonlocal returned
        returned = True
        if isinstance(output, Tensor) and output.ndim in (3, 4) and len(output) == images:
            last = _features_last(submodule, output)
            if last is not None:
                features = output.shape[-1 if last else 1]
                positions = math.prod(output.shape[1:]) // features
                mark = float(output.detach().float().pow(3).sum())
                trace.calls.append(Call(weakref.ref(output), last, positions, features, mark))

    watched = [m for m in module.modules() if takes_hooks(m)]
    hooks = [m.register_forward_pre_hook(enter, with_kwargs=True) for m in watched]
    hooks += [m.register_forward_hook(leave) for m in watched]
    try:
        yield trace
    finally:
        for hook in hooks:
            hook.remove()


def takes_hooks(module: nn.Module) -> bool:
    """Whether hooks can be added: not to what runs as TorchScript."""
    return not isinstance(module, torch.jit.ScriptModule)


def first_image(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """Return the first argument of a forward pass if it is a batch of images [N, C, H, W]."""
    given = next(iter((*args, *kwargs.values())), None)
    return given if isinstance(given, Tensor) and given.ndim == 4 else None


def _features_last(layer: nn.Module, output: Tensor) -> bool | None:
    if isinstance(layer, _CHANNELS_SECOND):
        return False
    if isinstance(layer, nn.Linear):
        return True
    # Some norms of one axis move it to the end and back, such as LayerNorm2d of timm: what they
    # are told to normalise must then be found among the axes.
    normalised = getattr(layer, "normalized_shape", None)
    if not isinstance(normalised, (tuple, list)) or len(normalised) != 1:
        return None
    fits = [normalised[0] == size for size in (output.shape[1], output.shape[-1])]
    if all(fits):
        return True if type(layer) is nn.LayerNorm else None
    return fits[1] if any(fits) else None
