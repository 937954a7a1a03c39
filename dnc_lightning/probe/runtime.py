"""Where and how a trainer runs the module: what a probe of any kind has to go by."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from dnc_lightning.probe.processes import Processes


@dataclass(frozen=True)
class Runtime:
    """The device, the precision and the other processes."""

    device: torch.device  # where images are embedded and features measured
    precision: Callable[[], AbstractContextManager[object]]  # of a forward pass
    convert: Callable[[Tensor], Tensor]  # images to the type that the precision takes
    processes: Processes  # this one among those that train together
    replicated: bool  # every process holds all parameters, as under DistributedDataParallel
    neighbours: int = 1  # processes on this machine, this one included
    loader_workers: int | None = None  # of the training loader; None where it is not known yet
