"""Where and how a trainer runs the module: what a probe of any kind has to go by."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from dnc_lightning.functional import Reduce
from dnc_lightning.probe.replicas import Ranks


@dataclass(frozen=True)
class Runtime:
    """This process, among those that train together."""

    device: torch.device  # where images are embedded and features measured
    precision: Callable[[], AbstractContextManager[object]]  # of a forward pass
    convert: Callable[[Tensor], Tensor]  # images to the type that the precision takes
    rank: int
    world_size: int
    reduce: Reduce | None  # sums over the processes; None for one
    replicated: bool  # every process holds all parameters, as under DistributedDataParallel
    neighbours: int = 1  # processes on this machine, this one included
    loader_workers: int | None = None  # of the training loader; None where it is not known yet

    @property
    def ranks(self) -> Ranks | None:
        """This process among the others; None where there are none."""
        if self.reduce is None:
            return None
        return Ranks(self.rank, self.reduce, self.device, self.replicated)

    @property
    def own(self) -> slice:
        """This process's part of the samples."""
        return slice(self.rank, None, self.world_size)
