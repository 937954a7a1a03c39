"""Run a sharded computation in one process: threads in lockstep, a barrier that sums."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from torch import Tensor

T = TypeVar("T")


def run_sharded(work: Callable[[int, Callable[[Tensor], Tensor]], T], world: int) -> list[T]:
    """`work(rank, reduce)` of every rank; `reduce` sums over the ranks."""
    barrier, parts = threading.Barrier(world, timeout=30), [None] * world

    def run(rank: int) -> T:
        def reduce(tensor: Tensor) -> Tensor:
            parts[rank] = tensor.clone()
            barrier.wait()
            total = sum(parts[1:], start=parts[0])
            barrier.wait()
            return total

        return work(rank, reduce)

    with ThreadPoolExecutor(world) as pool:
        return list(pool.map(run, range(world)))
