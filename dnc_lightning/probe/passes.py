"""Further passes of one encoder over the probe's images, with gradients towards the images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from dnc_lightning.probe.bank import ImageBank
from dnc_lightning.probe.embed import Embedder
from dnc_lightning.probe.processes import Processes
from dnc_lightning.probe.replicas import state_of_rank_zero


@dataclass(frozen=True)
class Passes:
    """What an instrument needs that changes images, or asks how features change with them.

    Within `open`, modules are as during any probe: in evaluation mode, with random states put back,
    no parameter asks for a gradient, and nothing is left behind.
    """

    open: Callable[[], AbstractContextManager[object]]
    batches: Callable[[], Iterator[Tensor]]  # float images of this process, in their order
    encode: Callable[[Tensor], Tensor]  # images [B, ...] -> features [B, D], as they are measured


def passes_of(
    embedder: Embedder,
    bank: ImageBank,
    modules: Sequence[nn.Module],
    processes: Processes,
    replicated: bool,
    name: str,
    borrowed: bool,
) -> Passes | str:
    """The passes of one encoder of a probe, or why there can be none.

    Args:
        embedder: With the encoder.
        bank: This process's images.
        modules: Whose state of rank 0 is taken inside, as for embedding.
        processes: This one among the others.
        replicated: Every process holds all parameters.
        name: Of the encoder.
        borrowed: BatchNorm layers were given other statistics for this probe.
    """
    if processes.shards > 1 and not replicated:
        return "the module is sharded over processes"
    if borrowed:
        return "BatchNorm layers borrow their statistics for this probe"

    @contextmanager
    def opened() -> Iterator[None]:
        with (
            state_of_rank_zero(modules, processes, replicated=replicated),
            embedder.differentiable(),
        ):
            yield

    return Passes(opened, partial(embedder.images, bank), partial(embedder.encode, name))
