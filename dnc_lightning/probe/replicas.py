"""One state for all processes: that of rank 0, which a checkpoint would hold."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from dnc_lightning.probe.processes import OtherRankError, Processes

ROW = 1024
"""Numbers in a row of the checksum of a tensor."""


@contextmanager
def state_of_rank_zero(
    modules: Iterable[nn.Module], processes: Processes, *, replicated: bool
) -> Iterator[int]:
    """Let every rank hold rank 0's buffers, and parameters of replicas; its own again after.

    Under DistributedDataParallel each rank takes BatchNorm statistics of its own batches, and a
    checkpoint holds those of rank 0. Only what differs is sent. Tensors that are sharded over
    processes stay as they are.

    Args:
        modules: Whose state is used inside.
        processes: This one among the others.
        replicated: Every process holds all parameters, as under DistributedDataParallel.

    Yields:
        How many tensors were taken from rank 0.

    Raises:
        RuntimeError: on every rank, if one of them holds other tensors than rank 0.
    """
    own = [] if processes.size == 1 else _take_over(modules, processes, replicated)
    try:
        yield len(own)
    finally:
        for tensor, values in own:
            tensor.data = values


def _take_over(
    modules: Iterable[nn.Module], processes: Processes, replicated: bool
) -> list[tuple[Tensor, Tensor]]:
    """Give the tensors of this rank the values of rank 0; return them with their own values."""
    named = _state(modules, parameters=replicated)
    tensors, outline = list(named.values()), _outline(named)
    sums = torch.tensor([int(_checksum(tensor)) for tensor in tensors], dtype=torch.int64)
    first = processes.of_rank_zero(outline)
    try:
        processes.attempt(lambda: _check_same(first, outline))
    except OtherRankError as error:
        raise RuntimeError(f"another rank could not take the state of rank 0: {error}") from error
    if not tensors:
        return []
    other = processes.of_rank_zero(sums) != sums
    different = processes.any(other)
    chosen = [t for t, differs in zip(tensors, different.tolist(), strict=True) if differs]
    if not chosen:
        return []
    sent = processes.of_rank_zero(torch.cat([_bits(t).cpu() for t in chosen]))
    received = torch.split(sent, [t.nbytes for t in chosen])
    values = [_with_bits(t, part) for t, part in zip(chosen, received, strict=True)]
    own = [(tensor, tensor.data) for tensor in chosen]
    for tensor, value in zip(chosen, values, strict=True):
        # Other data under the same object: whoever refers to the tensor sees the same state.
        tensor.data = value
    return own


def _state(modules: Iterable[nn.Module], *, parameters: bool) -> dict[str, Tensor]:
    """Buffers, and parameters if wanted, that this process holds as a whole; each once."""
    found: dict[str, Tensor] = {}
    seen: set[int] = set()
    for place, module in enumerate(modules):
        named = [*module.named_buffers(), *(module.named_parameters() if parameters else ())]
        for name, tensor in named:
            whole = not (is_lazy(tensor) or tensor.is_meta or hasattr(tensor, "device_mesh"))
            plain = whole and tensor.layout == torch.strided and not tensor.is_inference()
            if plain and tensor.numel() and id(tensor) not in seen:
                seen.add(id(tensor))
                found[f"{place}.{name}"] = tensor
    return found


def _outline(named: dict[str, Tensor]) -> Tensor:
    """Digest of names, shapes and types: [4] integers."""
    text = repr([(name, tuple(t.shape), str(t.dtype)) for name, t in named.items()])
    digest = hashlib.sha256(text.encode()).digest()
    return torch.frombuffer(bytearray(digest), dtype=torch.int64)


def _check_same(first: Tensor, outline: Tensor) -> None:
    if not torch.equal(first, outline):
        raise RuntimeError(
            "every rank must hold buffers and parameters of the names, shapes and types of those "
            "on rank 0, but one holds others. Register them alike on every rank, or pass an "
            "encoder= that does without them"
        )


def _bits(tensor: Tensor) -> Tensor:
    return tensor.detach().contiguous().flatten().view(torch.uint8)


def _with_bits(tensor: Tensor, bits: Tensor) -> Tensor:
    """Return a tensor laid out in memory like `tensor`, with the values of `bits` [nbytes]."""
    values = bits.clone().view(tensor.dtype).view(tensor.shape)
    return torch.empty_like(tensor).detach().copy_(values)


def _checksum(tensor: Tensor) -> Tensor:
    """Sums of the bits of all numbers, weighted by their places, modulo 2^64."""
    integers = {1: torch.uint8, 2: torch.int16, 4: torch.int32}
    flat = tensor.detach().contiguous().flatten()
    numbers = flat.view(integers.get(tensor.element_size(), torch.int64))
    whole = len(numbers) // ROW * ROW
    rows = numbers[:whole].view(-1, ROW)
    # Row and column sums read the tensor twice, and need no copy of it.
    sums = [rows.sum(1, dtype=torch.int64), rows.sum(0, dtype=torch.int64), numbers[whole:].long()]
    parts = [(s * (2 * torch.arange(len(s), device=s.device) + 1)).sum() for s in sums]
    return parts[0] + 3 * parts[1] + 5 * parts[2]
