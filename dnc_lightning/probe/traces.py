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


@dataclass(frozen=True)
class Tokens:
    """Tokens [N, T, D], or the places of a map, that went into a layer or came out of it."""

    count: int  # T
    features: int  # D
    is_map: bool
    fixed: tuple[int, ...]  # positions of tokens that are the same for all images
    marks: Tensor  # [T], differ where the values differ


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
    tokens: list[Tokens] = field(default_factory=list)  # in the order in which they were seen
    # From the outermost module that was given the images to the innermost, before any has returned.
    entrances: list[Entrance] = field(default_factory=list)


@contextmanager
def traced(module: nn.Module, images: int) -> Iterator[Trace]:
    """Fill a trace from what runs below `module` inside, on a batch of `images` images."""
    trace, returned = Trace(), False

    def enter(submodule: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        trace.tokens.extend(_tokens((*args, *kwargs.values()), images))
        given = first_image(args, kwargs)
        if given is not None and not returned:
            # A copy: layers may work in place.
            trace.entrances.append(Entrance(submodule, given.detach().clone()))

    def leave(submodule: nn.Module, _args: Any, output: Any) -> None:
        nonlocal returned
        returned = True
        trace.tokens.extend(_tokens(output, images))
        if isinstance(output, Tensor) and output.ndim in (3, 4) and len(output) == images:
            last = _features_last(submodule, output)
            if last is not None:
                features = output.shape[-1 if last else 1]
                positions = math.prod(output.shape[1:]) // features
                trace.calls.append(Call(weakref.ref(output), last, positions, features))

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


def _tokens(value: Any, images: int) -> Iterator[Tokens]:
    """Tokens in what a layer takes or returns; those [T, N, D] of old transformers, too."""
    if isinstance(value, (tuple, list)):
        for part in value:
            yield from _tokens(part, images)
    if not isinstance(value, Tensor) or not value.is_floating_point() or not value.numel():
        return
    if value.ndim == 4 and len(value) == images and images > 1:
        count = math.prod(value.shape[2:])
        yield Tokens(count, value.shape[1], True, (), torch.empty(0))
    if value.ndim != 3 or images < 2 or images not in value.shape[:2]:
        return
    values = value.detach().float()
    values = values if len(values) == images else values.transpose(0, 1)
    spread = (values - values[:1]).abs().amax((0, 2))
    fixed = (spread <= 1e-6 * spread.max()).nonzero()[:, 0].tolist()
    marks = values.pow(3).sum((0, 2))
    yield Tokens(values.shape[1], values.shape[2], False, tuple(fixed), marks)


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
