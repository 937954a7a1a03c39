"""The overhead of a whole run, which is known when all else is over."""

from __future__ import annotations

from lightning.pytorch import Trainer

from dnc_lightning.callbacks.loggers import log_scalars
from dnc_lightning.callbacks.publish import show_to_callbacks
from dnc_lightning.callbacks.run_state import RunState


def close_records(callback: RunState, trainer: Trainer) -> list[str]:
    """Give the last probe the overhead of all, its own writing and pages included.

    Args:
        callback: After its last probe, which loggers were not told the overhead of.
        trainer: At the end of a fit.

    Returns:
        Problems.
    """
    overhead = {f"{callback.name}/overhead": callback.meter_.cost().overhead}
    callback.scores_ |= overhead
    show_to_callbacks(trainer, callback.engine_, callback.scores_)
    if not trainer.is_global_zero:
        return []
    failures = log_scalars(trainer, overhead, callback.last_step_)
    return [*failures, *callback._recorder_.amend(overhead)]
