"""Sets of weights beside those in training that the encoders are run with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from dnc_lightning.probe.calibration import (
    batch_norms,
    holds_initial,
    is_initial,
    unsettled_batch_norms,
)
from dnc_lightning.probe.processes import Processes


@dataclass(frozen=True)
class Average:
    """An average of the weights that something else keeps."""

    name: str  # in keys and records
    source: str  # what keeps it, for people
    find: Callable[[], nn.Module | None]  # a module like the trained one; None before it has begun

    def names(self, encoders: tuple[str, ...]) -> dict[str, str]:
        """Encoder -> its name with these weights."""
        if len(encoders) == 1:
            return {encoders[0]: self.name}
        return {encoder: f"{encoder}-{self.name}" for encoder in encoders}


def unsettled_layers(
    modules: Iterable[nn.Module],
    module: nn.Module,
    trained: nn.Module,
    given: set[str],
    processes: Processes,
) -> list[_BatchNorm]:
    """BatchNorm layers that a probe runs and that still hold initial statistics.

    Args:
        modules: The parts of `module` that the encoders run.
        module: Holds the weights that are probed.
        trained: Holds the weights in training; `module` itself, or one of the same architecture.
        given: Names of layers that came with statistics; those that were reset since are removed.
        processes: Get the same answer though their statistics in training differ.

    Returns:
        Layers of `module`.
    """
    own, first = batch_norms(module), batch_norms(trained)
    given -= {name for name in given & first.keys() if is_initial(first[name])}
    found = set(unsettled_batch_norms([trained], [first[name] for name in given & first.keys()]))
    names = {
        name
        for name, layer in first.items()
        if layer in found
        or (module is not trained and layer.training and holds_initial(own[name], layer))
    }
    if module is not trained:
        names -= given
    chosen = torch.tensor([name in names for name in own], dtype=torch.uint8)
    if len(chosen):
        chosen = processes.of_rank_zero(chosen)
    running = {layer for part in modules for layer in part.modules()}
    layers = zip(own.values(), chosen.tolist(), strict=True)
    return [layer for layer, unsettled in layers if unsettled and layer in running]


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    """Whether two modules of one architecture hold the same parameters, bit for bit."""
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return all(torch.equal(a.detach(), b.detach().to(a.device)) for a, b in pairs)


@contextmanager
def lent_trainer(borrower: nn.Module, owner: nn.Module) -> Iterator[None]:
    """Give a copied LightningModule the Trainer of the original, which the copy has lost."""
    attributes, trainer = vars(borrower), vars(owner).get("_trainer")
    if trainer is None or attributes.get("_trainer") is not None:
        yield
        return
    attributes["_trainer"] = trainer
    try:
        yield
    finally:
        attributes["_trainer"] = None
