"""Find out which tokens of an output are patches, and which are class or register tokens.

A token that is a parameter is the same for every image until layers mix it with patches. So the
encoder is run on noise, and the first tensor inside it that has as many tokens as the output is
looked at: those that are equal over all images are no patches, wherever they stand and whatever
they are called. Only whether one of them is a class token or a register is read off the name of the
parameter that it is made of, and asked for where that tells nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from dnc_lightning.probe.traces import Tokens, Trace

Run = Callable[[Tensor], Trace]

_CLASS = re.compile(r"cls|class")
_OTHER = re.compile(r"reg|dist|storage|prompt|mask|memory|pad|sink")

_WEIGHTED = (nn.Linear, _ConvNd, _NormBase, nn.LayerNorm, nn.GroupNorm, nn.MultiheadAttention)
"""Layers whose parameters are no tokens."""


@dataclass(frozen=True)
class Roles:
    """What the tokens of an output are."""

    others: tuple[int, ...] = ()  # positions of those that are no patches
    first_class: int | None = None  # position of the class token
    unnamed: tuple[int, ...] = ()  # those of which it is not known whether they are class tokens
    sure: bool = True  # False: tokens that are no patches were mixed in, and where they are is lost


def find_roles(images: Tensor, count: int, run: Run, module: nn.Module) -> Roles:
    """Tell the roles of the `count` tokens that an encoder returns.

    Args:
        images: Some that it takes, [N, C, H, W].
        count: Number of tokens T of its output.
        run: Runs and traces the encoder on images like these.
        module: What runs; its parameters are changed while it is tried, and restored bitwise.
    """
    noise = torch.rand(images.shape, generator=torch.Generator().manual_seed(0)).to(images)
    low, high = torch.aminmax(images.detach())
    noise = low + noise * ((high - low) if high > low else torch.ones_like(low))
    seen = run(noise).tokens
    mixed = [place for place, tokens in enumerate(seen) if 0 < len(tokens.fixed) < tokens.count]
    same = [place for place, tokens in enumerate(seen) if tokens.count == count]
    fixed = next((place for place in same if seen[place].fixed), None)
    if fixed is not None:
        return _named(noise, fixed, seen[fixed], run, module)
    if not mixed or (same and (seen[same[0]].is_map or same[0] < mixed[0])):
        return Roles()
    stated = getattr(module, "num_prefix_tokens", None)
    first = seen[mixed[0]]
    if same and stated == len(first.fixed) and first.fixed == tuple(range(stated)):
        return _named(noise, mixed[0], first, run, module)  # tokens of patches were merged since
    return Roles(sure=False)


def _named(noise: Tensor, place: int, tokens: Tokens, run: Run, module: nn.Module) -> Roles:
    """Find the parameters that the fixed tokens are made of."""
    fixed, names = set(tokens.fixed), dict[int, str]()
    for name, value in _candidates(module, tokens):
        with _changed(value):
            other = run(noise).tokens
        if len(other) <= place or other[place].count != tokens.count:
            continue
        moved = set((other[place].marks != tokens.marks).nonzero()[:, 0].tolist())
        if moved and moved <= fixed:
            names = dict.fromkeys(moved, name) | names
        if names.keys() == fixed:
            break
    classes = [position for position in sorted(names) if _CLASS.search(names[position])]
    unnamed = [p for p in tokens.fixed if p not in names or not _OTHER.search(names[p])]
    return Roles(tokens.fixed, classes[0] if classes else None, () if classes else tuple(unnamed))


def _candidates(module: nn.Module, tokens: Tokens) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers that may be these tokens, those with telling names first."""
    found = []
    for owner in module.modules():
        if isinstance(owner, _WEIGHTED):
            continue
        values = chain(owner.named_parameters(recurse=False), owner.named_buffers(recurse=False))
        for name, value in values:
            fits = value.ndim and value.is_floating_point() and value.shape[-1] == tokens.features
            if fits and value.numel() <= len(tokens.fixed) * tokens.features:
                found.append((name, value))
    embedded = {
        id(owner.weight): name.rpartition(".")[2]
        for name, owner in module.named_modules()
        if isinstance(owner, nn.Embedding)
    }
    found = [(embedded.get(id(value), name), value) for name, value in found]
    telling = [bool(_CLASS.search(name) or _OTHER.search(name)) for name, _ in found]
    order = sorted(range(len(found)), key=lambda place: not telling[place])
    return (found[place] for place in order)


@contextmanager
def _changed(value: Tensor) -> Iterator[None]:
    """Another value inside, the same bits after; a constant would vanish in a LayerNorm."""
    saved = value.detach().clone()
    change = torch.linspace(-1, 1, saved.numel(), device=saved.device).to(saved.dtype)
    with torch.no_grad():
        try:
            value.data.add_(change.view(saved.shape))
            yield
        finally:
            value.data.copy_(saved)
