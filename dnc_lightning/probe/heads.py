"""Linear heads of the module that is probed, as they are at the probe."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Head:
    """A linear classifier that stands on the features."""

    weight: Tensor  # [K, D]
    bias: Tensor  # [K], zeros where it has none


Heads = Mapping[str, Head | str]
"""Heads by their names; of one that cannot be read, why."""


def head_modules(module: nn.Module, names: Iterable[str]) -> dict[str, nn.Module]:
    """The submodules of these names, "classifier" or "model.fc", as far as there are any."""
    found = {}
    for name in names:
        try:
            found[name] = module.get_submodule(name)
        except AttributeError:
            continue  # `read_heads` says so
    return found


def read_heads(
    module: nn.Module, names: Iterable[str], device: torch.device
) -> dict[str, Head | str]:
    """Copy heads where parameters are whole; of one that cannot be read, why."""
    there = head_modules(module, names)
    return {name: _read(name, there.get(name), device) for name in names}


def _read(name: str, head: nn.Module | None, device: torch.device) -> Head | str:
    if head is None:
        return f"the module has no {name!r}"
    head = getattr(head, "_orig_mod", head)  # what torch.compile has wrapped
    weight, bias = getattr(head, "weight", None), getattr(head, "bias", None)
    if not isinstance(weight, Tensor) or weight.ndim != 2:
        return f"{name!r} is a {type(head).__name__}, which is no linear layer"
    if hasattr(weight, "full_tensor"):
        return f"{name!r} is split over processes"
    weight = weight.detach().to(device, copy=True)
    constant = weight.new_zeros(len(weight)) if bias is None else bias.detach().to(device)
    return Head(weight, constant.clone())
