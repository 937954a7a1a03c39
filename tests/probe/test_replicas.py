"""Two ranks, as two threads that sum over a barrier."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import torch
from torch import Tensor, nn

from dnc_lightning.probe.processes import Processes
from dnc_lightning.probe.replicas import state_of_rank_zero


class Wire:
    """Sums the tensors of two threads."""

    def __init__(self) -> None:
        self.barrier, self.sent = Barrier(2, timeout=20), [torch.zeros(())] * 2
        self.volume = [0, 0]  # bytes that each rank has sent

    def rank(self, rank: int) -> Processes:
        def reduce(tensor: Tensor) -> Tensor:
            self.sent[rank] = tensor
            self.volume[rank] += tensor.nbytes
            self.barrier.wait()
            assert self.sent[0].shape == self.sent[1].shape
            assert self.sent[0].dtype == self.sent[1].dtype
            total = self.sent[0] + self.sent[1]
            self.barrier.wait()
            return total

        return Processes(rank, 2, reduce, shard=rank, shards=2)


class Everything(nn.Module):
    """Buffers of every kind, and a parameter, that depend on the rank."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        g = torch.Generator().manual_seed(seed)
        wild = torch.randint(-(2**60), 2**60, (40,), generator=g)
        self.register_buffer("bits", wild.view(torch.float64))  # nan and subnormal values too
        self.register_buffer("brain", torch.randn(3, 5, generator=g).bfloat16())
        self.register_buffer("flags", torch.rand(7, generator=g) > 0.5)
        self.register_buffer("count", torch.tensor(seed))
        self.register_buffer("small", torch.full((3,), -0.0 if seed else 0.0))
        self.register_buffer("same", torch.ones(2000))
        self.register_buffer("order", torch.arange(3000.0).roll(seed), persistent=False)
        self.register_buffer("none", torch.zeros(0))
        layout = torch.randn(2, 3, 4, 4, generator=g).to(memory_format=torch.channels_last)
        self.weight = nn.Parameter(layout)
        self.alias = self.weight


def bits(module: nn.Module) -> list[tuple[str, list[int], tuple[int, ...]]]:
    tensors = [*module.named_buffers(), *module.named_parameters()]
    return [
        (name, t.detach().contiguous().flatten().view(torch.uint8).tolist(), t.stride())
        for name, t in tensors
        if t.numel()
    ]


def on_two_ranks(modules: list[nn.Module], *, replicated: bool = True) -> list[Any]:
    wire = Wire()

    def act(rank: int) -> Any:
        try:
            processes = wire.rank(rank)
            with state_of_rank_zero([modules[rank]], processes, replicated=replicated) as n:
                return n, bits(modules[rank]), wire.volume[rank]
        except RuntimeError as error:
            return str(error)

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(act, range(2)))


def test_every_type_is_taken_bit_by_bit_and_given_back() -> None:
    modules: list[nn.Module] = [Everything(0), Everything(1)]
    before = [bits(m) for m in modules]
    objects = [id(t) for t in modules[1].state_dict(keep_vars=True).values()]
    (_, zero, _), (taken, one, _) = on_two_ranks(modules)
    assert zero == before[0]
    assert one == before[0]
    assert taken == 7  # all but "same" and "none"
    assert [bits(m) for m in modules] == before
    assert [id(t) for t in modules[1].state_dict(keep_vars=True).values()] == objects


def test_what_is_the_same_is_not_sent() -> None:
    modules: list[nn.Module] = [nn.BatchNorm1d(50_000), nn.BatchNorm1d(50_000)]
    for taken, _, volume in on_two_ranks(modules):
        assert taken == 0
        assert volume < 200


def test_parameters_of_shards_stay() -> None:
    modules: list[nn.Module] = [Everything(0), Everything(1)]
    weight = bits(modules[1])[-1]
    _, (taken, one, _) = on_two_ranks(modules, replicated=False)
    assert taken == 6
    assert one[-1] == weight


def test_one_process_sends_nothing() -> None:
    with state_of_rank_zero([Everything(0)], Processes(), replicated=True) as taken:
        assert taken == 0


def test_other_buffers_on_another_rank_are_refused_on_both() -> None:
    modules: list[nn.Module] = [nn.BatchNorm1d(3), nn.BatchNorm1d(4)]
    zero, one = on_two_ranks(modules)
    assert "another rank" in zero
    assert "names, shapes and types" in one
