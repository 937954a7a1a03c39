"""Whole parameters of what `fully_shard` has split, so that a forward pass waits for nobody."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from dnc_lightning.probe.processes import Processes


@contextmanager
def gathered(
    module: nn.Module, used: Iterable[nn.Module], device: torch.device, processes: Processes
) -> Iterator[None]:
    """Let the `used` parts of `module` hold whole parameters inside, and run as plain modules.

    The hooks of `fully_shard` gather the parameters of a layer when it runs. A probe must not use
    them: the first module that runs becomes the root for good, where training's may be one that
    contains it; and each forward pass must be met by one on every process, which shards of other
    sizes, or one process that fails, do not give. So what is needed is gathered first, by every
    process in the same order, and inside the hooks only cast, as the mixed precision policy says.

    Raises:
        MemoryError: on every process, where one has no room for the whole parameters.
    """
    parts = _sharded_parts(module, used)
    split = [part for part in parts if not all(group.is_unsharded for group in _groups(part))]
    if not parts:
        yield
        return
    processes.attempt(lambda: _check_room(split, device))
    with ExitStack() as stack:
        for part in split:
            stack.callback(part.reshard)
            part.unshard()
        for part in parts:
            stack.enter_context(_only_casting(part))
        yield


def _sharded_parts(module: nn.Module, used: Iterable[nn.Module]) -> list[Any]:
    """The modules of `fully_shard` whose groups of parameters may hold some of `used`."""
    # Looked up, not imported: without it nothing is sharded. The second is for torch before 2.6.
    places = ("torch.distributed.fsdp", "torch.distributed._composable.fsdp")
    kinds = [getattr(sys.modules.get(place), "FSDPModule", None) for place in places]
    kind = next((found for found in kinds if found is not None), None)
    if kind is None:
        return []
    below = {part for one in used for part in one.modules()}
    found = {
        id(part._get_fsdp_state()): part  # modules that were sharded together have one state
        for part in module.modules()
        if isinstance(part, kind) and not below.isdisjoint(part.modules())
    }
    return list(found.values())


def _groups(part: Any) -> list[Any]:
    """The parameters that a module gathers together: several groups from torch 2.12 on."""
    state = part._get_fsdp_state()
    groups = getattr(state, "_fsdp_param_groups", None)
    if groups is None:
        groups = [group for group in [state._fsdp_param_group] if group is not None]
    return list(groups)


def _check_room(split: list[Any], device: torch.device) -> None:
    if device.type != "cuda":
        return
    needed = 0
    for part in split:
        policy = part._get_fsdp_state()._mp_policy
        for group in _groups(part):
            for one in group.fsdp_params:
                kind = policy.param_dtype or one.sharded_param.dtype
                needed += one.sharded_param.numel() * kind.itemsize
    cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    free = torch.cuda.mem_get_info(device)[0] + cached
    if needed > free:
        raise MemoryError(
            f"the probe needs the encoder's parameters whole, {needed / 1e9:.1f} GB on each "
            f"device, where {free / 1e9:.1f} GB are free. Probe a smaller encoder, or lower the "
            "batch size of training"
        )


@contextmanager
def _only_casting(part: Any) -> Iterator[None]:
    """Let hooks before and after a forward pass, and methods that run as one, cast alone."""
    state = part._get_fsdp_state()
    policy = state._mp_policy

    def before(_module: nn.Module, args: Any, kwargs: Mapping[str, Any]) -> tuple[Any, Any]:
        kind = policy.param_dtype if policy.cast_forward_inputs else None
        return _cast(args, kind), _cast(kwargs, kind)

    def after(_module: nn.Module, _args: Any, output: Any) -> Any:
        return _cast(output, policy.output_dtype)

    handles = (state._pre_forward_hook_handle, state._post_forward_hook_handle)
    # A group of modules has one handle for the hooks of all of them.
    ids = {h.id for handle in handles for h in getattr(handle, "handles", [handle])}
    changed: list[tuple[dict[int, Any], int, Any]] = []
    for module in _modules_of(state, part):
        for hooks, instead in (
            (module._forward_pre_hooks, before),
            (module._forward_hooks, after),
        ):
            for key in ids & hooks.keys():
                changed.append((hooks, key, hooks[key]))
                hooks[key] = instead
    # `register_fsdp_forward_method` looks the hooks up here.
    vars(state).update(_pre_forward=before, _post_forward=after)
    try:
        yield
    finally:
        for name in ("_pre_forward", "_post_forward"):
            vars(state).pop(name, None)
        for hooks, key, hook in changed:
            hooks[key] = hook


def _modules_of(state: Any, part: nn.Module) -> list[nn.Module]:
    return list(getattr(state, "_modules", [part]))


def _cast(values: Any, kind: torch.dtype | None) -> Any:
    if kind is None:
        return values
    return tree_map(partial(_cast_one, kind), values)


def _cast_one(kind: torch.dtype, value: Any) -> Any:
    return value.to(kind) if isinstance(value, Tensor) and value.is_floating_point() else value
