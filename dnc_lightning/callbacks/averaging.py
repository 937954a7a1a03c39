"""Averages of the weights that other callbacks keep, and the order in which callbacks must act."""

from __future__ import annotations

from functools import partial
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import nn

from dnc_lightning.callbacks.run_state import RunState
from dnc_lightning.probe.weights import Average, same_weights


def averagers(trainer: Trainer) -> list[Any]:
    """The callbacks that keep an average: WeightAveraging, its subclasses, and SWA."""
    return [c for c in trainer.callbacks if hasattr(c, "_average_model")]  # type: ignore[attr-defined]


def averages_of(probe: RunState, trainer: Trainer, module: nn.Module) -> tuple[Average, ...]:
    """Name the averages of a Trainer: "averaged", or "averaged-1", ... where there are several."""
    found = averagers(trainer)
    names = ["averaged"] if len(found) == 1 else [f"averaged-{k + 1}" for k in range(len(found))]
    return tuple(
        Average(name, type(callback).__name__, partial(_current, callback, probe, module))
        for name, callback in zip(names, found, strict=True)
    )


def _current(callback: Any, probe: RunState, module: nn.Module) -> nn.Module | None:
    """The average as it is now, None before the first update, which may be late.

    An average that has not begun is a copy of some weights: those in hand at the start, and later
    ones that nobody would use.
    """
    if probe.replaced_ is not None:
        return module  # the callback has put the average there, with statistics of its own
    average = callback._average_model
    if average is None:
        return None
    # SWA counts on itself and keeps a bare module; the others keep torch's AveragedModel.
    count = getattr(average, "n_averaged", getattr(callback, "n_averaged", None))
    average = average.module if hasattr(average, "n_averaged") else average
    begun = count is not None and int(count) > 0
    return average if begun or same_weights(average, module) else None


class ActsFirst(Callback):
    """Stands before all other callbacks, to see trained weights before an average replaces them.

    WeightAveraging does so when training ends, StochasticWeightAveraging before an epoch without
    steps that takes statistics for BatchNorm.
    """

    def __init__(self, probe: RunState) -> None:
        self.probe = probe

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take down what the trained weights give, if they are about to be replaced."""
        if any(_about_to_replace(callback, trainer) for callback in averagers(trainer)):
            with self.probe.meter_:
                self.probe.replaced_ = self.probe.engine_.probe_trained(thorough=True)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the last probe, and let checkpoints that go by probes save its weights."""
        self.probe.on_train_end(trainer, pl_module)
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if hasattr(callback, "on_last_probe"):
                callback.on_last_probe(trainer, pl_module)


def put_in_order(probe: RunState, trainer: Trainer) -> None:
    """Let `probe` act after all averages were updated, but before they replace the weights.

    Where no callback keeps an average the order stays as the user chose it.
    """
    callbacks: list[Any] = [
        c
        for c in trainer.callbacks  # type: ignore[attr-defined]
        if not (isinstance(c, ActsFirst) and c.probe is probe)
    ]
    found = averagers(trainer)
    if not found:
        return
    place = max(callbacks.index(c) for c in (probe, found[-1]))
    before = [c for c in callbacks[: place + 1] if c is not probe]
    # A new list: Lightning is going through the old one.
    trainer.callbacks = [ActsFirst(probe), *before, probe, *callbacks[place + 1 :]]  # type: ignore[attr-defined]


def _about_to_replace(callback: Any, trainer: Trainer) -> bool:
    """Whether SWA puts its average into the module when the coming epoch starts."""
    last = getattr(callback, "_max_epochs", -1)
    return last != -1 and trainer.current_epoch == last
