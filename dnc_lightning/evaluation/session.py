"""Probing without a Trainer: the machine, and the engine of one encoder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Any

import torch
import torch.distributed as dist
from lightning.fabric import Fabric
from torch import Tensor, nn
from torchmetrics import Metric
from tqdm import tqdm

from dnc_lightning.callbacks.arguments import check_arguments, check_preprocess, check_ways
from dnc_lightning.callbacks.header import header_of
from dnc_lightning.evaluation.loaded import LoadedEncoder
from dnc_lightning.instruments import Instrument, Settings, find_instruments
from dnc_lightning.probe.encoders import EncoderLike
from dnc_lightning.probe.engine import ProbeEngine
from dnc_lightning.probe.pooling import Pooling
from dnc_lightning.probe.probe_set import ProbeSet
from dnc_lightning.probe.processes import DEADLINE, Processes, gloo
from dnc_lightning.probe.runtime import Runtime


@dataclass(frozen=True)
class Options:
    """What is measured of every encoder, and how; names and meaning are those of ProbeCallback."""

    encoder: EncoderLike | Mapping[str, EncoderLike] | None = None  # None: the encoder's own
    pooling: Pooling | None = None  # None: the encoder's own
    preprocess: Callable[[Any, Tensor], Tensor] | None = None
    normalize: bool = False
    metrics: Sequence[str | Instrument | Metric] | None = None
    shots: Sequence[int] = (1, 5, 10, 50, 100)
    ways: int | None = None
    name: str = "probe"
    accelerator: str = "auto"
    precision: str = "32-true"

    def check(self, probe: ProbeSet) -> None:
        """Refuse what cannot work before anything is loaded.

        Raises:
            ValueError: an argument out of range.
        """
        check_arguments(probe, self.pooling or "auto", self.shots, self.ways, None, self.name)
        check_preprocess(self.preprocess)
        find_instruments(self.metrics)
        check_ways(self.ways, probe)

    def of(self, loaded: LoadedEncoder) -> Options:
        """With the encoder's own layer and pooling where none was chosen."""
        encoder = loaded.encoder if self.encoder is None else self.encoder
        return replace(self, encoder=encoder, pooling=self.pooling or loaded.pooling)


@dataclass(frozen=True)
class Machine:
    """One device, and the processes that torchrun may have started, each with its own."""

    fabric: Fabric
    processes: Processes
    neighbours: int = 1  # processes of this computer, this one included

    @property
    def leads(self) -> bool:
        """Whether this process writes and speaks."""
        return self.processes.rank == 0


@contextmanager
def machine(options: Options) -> Iterator[Machine]:
    """Take a device; under torchrun let the processes meet.

    Raises:
        RuntimeError: the processes cannot meet.
    """
    size = int(os.environ["WORLD_SIZE"]) if dist.is_torchelastic_launched() else 1
    here = int(os.environ.get("LOCAL_WORLD_SIZE", size))
    fabric = Fabric(
        accelerator=options.accelerator,
        devices=here,
        num_nodes=size // here,
        strategy="ddp" if size > 1 else "auto",
        precision=options.precision,  # type: ignore[arg-type]
    )
    fabric.launch()
    processes = Processes()
    if size > 1:
        exchange, group = gloo(DEADLINE)
        rank = fabric.global_rank
        processes = Processes.join(rank, size, exchange, rank, size, group)
    try:
        yield Machine(fabric, processes, here)
    finally:
        processes.close()


@contextmanager
def lent(module: nn.Module, device: torch.device) -> Iterator[None]:
    """Have a module on a device, and put it back where it was."""
    tensor = next(chain(module.parameters(), module.buffers()), None)
    home = device if tensor is None else tensor.device
    module.to(device)
    try:
        yield
    finally:
        module.to(home)


def build_engine(
    loaded: LoadedEncoder, probe: ProbeSet, options: Options, machine: Machine
) -> ProbeEngine:
    """Find the encoder, decode the images and try both on a few of them.

    Args:
        loaded: On the machine's device.
        probe: The images and labels; `images_of` gives those of the encoder.
        options: With the encoder's own in place, see `Options.of`.
        machine: Where.

    Raises:
        ValueError: an encoder or images that cannot work, on every process.
    """
    fabric = machine.fabric
    runtime = Runtime(
        device=fabric.device,
        precision=fabric.autocast,
        convert=fabric._precision.convert_input,
        processes=machine.processes,
        replicated=True,  # so that every process has the first one's weights
        neighbours=machine.neighbours,
    )
    engine = machine.processes.attempt(
        lambda: ProbeEngine.build(
            probe,
            loaded.module,
            encoder=options.encoder,
            pooling=options.pooling or "auto",
            instruments=find_instruments(options.metrics),
            settings=Settings(options.normalize, tuple(options.shots), options.ways),
            prefix=options.name,
            runtime=runtime,
            preprocess=options.preprocess,
        )
    )
    if machine.leads:
        engine.embedder.watch = partial(_watched, loaded.name)
    return engine


def header(
    engine: ProbeEngine, loaded: LoadedEncoder, probe: ProbeSet, options: Options, machine: Machine
) -> dict[str, Any]:
    """Describe what was measured, as a training run does."""
    return header_of(
        engine,
        probe,
        pooling=options.pooling or "auto",
        precision=options.precision,
        steps="optimizer steps",
        model=loaded.name,
        world_size=machine.fabric.world_size,
    )


def images_of(loaded: LoadedEncoder, probe: ProbeSet) -> tuple[ProbeSet, str]:
    """The probe set with the encoder's own preprocessing, and words where it has not."""
    if loaded.transform is None:
        return probe, ""
    if probe.transform is not None:
        return probe, (
            "The probe set's own transform makes the images, not the preprocessing of "
            f"{loaded.name}."
        )
    return probe.transformed(loaded.transform), ""


def _watched(name: str, batches: Iterable[Tensor], total: int) -> Iterable[Tensor]:
    bar: Iterable[Tensor] = tqdm(batches, f"{name}: embedding", total, unit="batch", leave=False)
    return bar
