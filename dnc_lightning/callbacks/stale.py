"""Checkpoints that would be saved with the score of other weights."""

from __future__ import annotations

import math
from typing import Any

from lightning.pytorch import Trainer

from dnc_lightning.callbacks.run_state import RunState

HORIZON = 1000
"""Saves that are compared with the schedule of the probes."""


def stale_monitors(callback: RunState, trainer: Trainer) -> list[str]:
    """Name the ModelCheckpoints that monitor a key of a probe and save at steps without one.

    Args:
        callback: After its engine was built.
        trainer: About to start.

    Returns:
        A sentence for each, with the remedy.
    """
    keys = callback.engine_.keys(thorough=True)
    return [
        f"ModelCheckpoint(monitor={other.monitor!r}) also saves at steps that are not probed, with "
        "the score of the probe before, which is not that of the weights it saves. "
        f"BestProbeCheckpoint(monitor={other.monitor!r}, mode={other.mode!r}) saves the probed "
        "weights themselves."
        for other in trainer.callbacks  # type: ignore[attr-defined]
        # By its attributes: it may be of the other flavour. Ours has `judged_`.
        if hasattr(other, "best_k_models") and not hasattr(other, "judged_")
        if other.monitor in keys and not _always_probed(callback, trainer, other)
    ]


def _always_probed(callback: RunState, trainer: Trainer, checkpoint: Any) -> bool:
    """Whether a checkpoint saves at probed steps alone; True if there is no telling."""
    try:
        every, epochs = checkpoint._every_n_train_steps, checkpoint._every_n_epochs
        in_epoch_end = checkpoint._should_save_on_train_epoch_end(trainer)
    except AttributeError:
        return True
    if callback.max_overhead is not None or callback.train_time_interval is not None:
        return False
    if callback.every_n_epochs is not None:
        return bool(epochs and in_epoch_end and epochs % callback.every_n_epochs == 0)
    epoch = _epoch_steps(trainer)
    if not every:
        # Where nobody knows the step, only a probe of every one is safe.
        every = int(epoch * epochs) if epochs and math.isfinite(epoch) else 1
    last = trainer.max_steps if trainer.max_steps > 0 else math.inf
    if trainer.max_epochs is not None and trainer.max_epochs > 0:
        last = min(last, epoch * trainer.max_epochs)
    steps = callback._steps
    saves = (every * k for k in range(1, HORIZON + 1) if every * k <= last)
    return all(steps.next_after(step - 1) == step for step in saves)


def _epoch_steps(trainer: Trainer) -> float:
    batches = trainer.num_training_batches / trainer.accumulate_grad_batches
    return math.ceil(batches) if math.isfinite(batches) else math.inf
