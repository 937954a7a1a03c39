"""What the modules of a tree hold besides parameters: taken down, and put back."""

from __future__ import annotations

import random
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from operator import is_
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

LARGEST_TENSOR = 2**26
"""Bytes of a plain tensor or array attribute that is still copied; of buffers any number."""

LONGEST_CONTAINER = 1024
"""Entries of a container whose own entries are still looked at."""

_ABSENT = object()
_CONSTANTS = {bool, int, float, str, type(None)}

Tensors = dict[int, tuple[Tensor, Tensor]]  # id -> tensor and a copy of its values
States = dict[int, Callable[[], Any]]  # id of a generator or array -> what puts it back
Containers = dict[int, tuple[Any, list[Any]]]  # id -> container and what it held


def attributes_of(module: nn.Module) -> Callable[[], None]:
    """Take down what every submodule of `module` holds, and return what puts it back.

    Put back are the attributes of every submodule (bound anew: the old object; new: removed), the
    values of buffers, other tensors and arrays, the states of random generators, and what lists,
    dicts, sets and deques hold, with all those inside them and inside tuples. Not covered are
    other objects that an attribute refers to, and modules of FSDP, whose attributes follow the
    place of their shards; for the values of parameters see `parameters_kept`. A lazy module that
    has found its class meanwhile keeps what it has become.
    """
    shards = _sharding_classes()
    owners = [owner for owner in module.modules() if not isinstance(owner, shards)]
    sharded = any(isinstance(owner, shards) for owner in module.modules())
    kept = [(owner, type(owner), dict(vars(owner)), Containers()) for owner in owners]
    tensors: Tensors = {}
    states: States = {}
    for owner in module.modules():
        for buffer in owner._buffers.values():
            _keep_tensor(buffer, tensors)
    for _, _, attributes, containers in kept:
        for name, value in attributes.items():
            if name in ("_modules", "_parameters"):
                # TorchScript has a mapping of its own, whose entries are fixed.
                if isinstance(value, dict) and not (sharded and name == "_parameters"):
                    containers[id(value)] = (value, _entries(value))
            elif type(value) not in _CONSTANTS:
                _keep(value, tensors, states, containers)

    def put_back() -> None:
        for owner, kind, attributes, containers in kept:
            if type(owner) is kind:
                _rebind(vars(owner), attributes, tensors=not sharded)
                for container, entries in containers.values():
                    _refill(container, entries)
        for tensor, copy in tensors.values():
            # Past the version counter: a graph that is alive has lost nothing that it saved.
            tensor.data.copy_(copy)
        for restore in states.values():
            restore()

    return put_back


@contextmanager
def parameters_kept(module: nn.Module) -> Iterator[list[nn.Parameter]]:
    """Put back the values of parameters on the way out, and list those that were written to.

    Some encoders write to parameters in their forward pass: prototypes are put on the sphere, a
    teacher follows its student. Parameters of sharded modules are left alone.
    """
    written: list[nn.Parameter] = []
    if any(isinstance(m, _sharding_classes()) for m in module.modules()):
        yield written
        return
    kept = [
        (parameter, parameter._version, parameter.detach().clone())
        for parameter in module.parameters()
        if not is_lazy(parameter) and _is_writable(parameter)
    ]
    try:
        yield written
    finally:
        for parameter, version, copy in kept:
            # Writing to `.data` does not count, and writing the same value does not show.
            if parameter._version != version or not torch.equal(parameter, copy):
                parameter.data.copy_(copy)
                written.append(parameter)


def _keep(value: Any, tensors: Tensors, states: States, containers: Containers) -> None:
    if isinstance(value, Tensor):
        if value.layout == torch.strided and value.nbytes <= LARGEST_TENSOR:
            _keep_tensor(value, tensors)
    elif isinstance(value, tuple | list | dict | set | deque):
        if id(value) in containers:
            return
        if not isinstance(value, tuple):
            containers[id(value)] = (value, _entries(value))
        if len(value) <= LONGEST_CONTAINER:
            for entry in value.values() if isinstance(value, dict) else value:
                if type(entry) not in _CONSTANTS:  # which a container may hold a million of
                    _keep(entry, tensors, states, containers)
    elif id(value) not in states and (restore := _restorer(value)) is not None:
        states[id(value)] = restore


def _restorer(value: Any) -> Callable[[], Any] | None:
    """Return what gives a random generator or an array its present state again."""
    if isinstance(value, torch.Generator):
        return partial(value.set_state, value.get_state())
    if isinstance(value, random.Random) and not isinstance(value, random.SystemRandom):
        return partial(value.setstate, value.getstate())
    if isinstance(value, np.random.RandomState):
        return partial(value.set_state, value.get_state())
    if isinstance(value, np.random.Generator):
        return partial(setattr, value.bit_generator, "state", value.bit_generator.state)
    if isinstance(value, np.ndarray) and value.nbytes <= LARGEST_TENSOR and value.flags.writeable:
        return partial(np.copyto, value, value.copy())
    return None


def _keep_tensor(tensor: Tensor | None, tensors: Tensors) -> None:
    if tensor is None or id(tensor) in tensors or isinstance(tensor, nn.Parameter):
        return
    if not is_lazy(tensor) and tensor.layout == torch.strided and _is_writable(tensor):
        tensors[id(tensor)] = (tensor, tensor.detach().clone())


def _is_writable(tensor: Tensor) -> bool:
    """Whether a forward pass without gradients can change the values of a tensor in place."""
    expanded = any(
        step == 0 and size > 1 for size, step in zip(tensor.shape, tensor.stride(), strict=True)
    )
    return not (expanded or tensor.is_meta or tensor.is_inference())


def _rebind(now: dict[str, Any], before: dict[str, Any], *, tensors: bool) -> None:
    if list(now) == list(before) and all(map(is_, now.values(), before.values())):
        return
    for name in before.keys() | now.keys():
        value, old = now.get(name, _ABSENT), before.get(name, _ABSENT)
        if value is old or (isinstance(value, Tensor) and not tensors):
            continue
        if old is _ABSENT:
            del now[name]
        else:
            now[name] = old


def _entries(container: Any) -> list[Any]:
    if not container:  # as most are, of hooks
        return []
    if isinstance(container, dict):
        return [*container.keys(), *container.values()]
    return list(container)


def _refill(container: Any, entries: list[Any]) -> None:
    if not container and not entries:
        return
    now = _entries(container)
    if len(now) == len(entries) and all(map(is_, now, entries)):
        return
    container.clear()
    if isinstance(container, dict):
        half = len(entries) // 2
        for key, value in zip(entries[:half], entries[half:], strict=True):
            container[key] = value
    elif isinstance(container, set):
        container.update(entries)
    else:
        container.extend(entries)


def _sharding_classes() -> tuple[type, ...]:
    fsdp = sys.modules.get("torch.distributed.fsdp")
    names = ("FullyShardedDataParallel", "FSDPModule")  # the second from torch 2.6 on
    return tuple(getattr(fsdp, name) for name in names if hasattr(fsdp, name))
