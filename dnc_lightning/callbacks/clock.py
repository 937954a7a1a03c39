"""The step that everything here is counted in: that of the Trainer's loggers."""

from __future__ import annotations

from typing import Any, Literal

from lightning.pytorch import Trainer

Unit = Literal["optimizer steps", "batches"]


def counted_in(trainer: Trainer) -> Unit:
    """What `step_of` counts: optimizer steps, or batches where the module steps for itself."""
    if trainer.lightning_module.automatic_optimization or _batches(trainer) is None:
        return "optimizer steps"
    return "batches"


def step_of(trainer: Trainer) -> int:
    """The step of the weights as they are now, on the axis that the Trainer's loggers use.

    That is `trainer.global_step`, except under manual optimization: it then counts the `step()` of
    each of several optimizers, and none of an optimizer that is not Lightning's wrapper, while the
    loggers' axis counts batches.

    Args:
        trainer: In `fit`, in a hook of a callback.

    Returns:
        0 before the first step.
    """
    batches = None if counted_in(trainer) == "optimizer steps" else _batches(trainer)
    return trainer.global_step if batches is None else batches


def drift(trainer: Trainer) -> list[str]:
    """Say so, in words, where `step_of` is not `trainer.global_step`."""
    step = step_of(trainer)
    if step == trainer.global_step:
        return []
    return [
        f"Steps are batches, the axis of the loggers: {step} so far, where trainer.global_step is "
        f"{trainer.global_step}. In manual optimization that counts the step() of Lightning's "
        "optimizers: each of several, and none of a raw one (use_pl_optimizer=False). max_steps "
        "and ModelCheckpoint(every_n_train_steps=...) go by it."
    ]


def other_axis(trainer: Trainer, last_step: int) -> str | None:
    """Say so, in words, where a checkpoint's last probe was counted otherwise than this run."""
    # One step earlier is possible: of a checkpoint saved during validation, Lightning counts the
    # last batch later.
    if last_step <= step_of(trainer) + 1:
        return None
    return (
        f"The checkpoint's last probe, of step {last_step}, is not on the axis of this run, which "
        f"stands at {step_of(trainer)}: an earlier version counted trainer.global_step. Starting "
        "anew."
    )


def _batches(trainer: Trainer) -> int | None:
    """Batches after which no gradients were left over; None where this Lightning does not tell."""
    try:
        loop: Any = trainer.fit_loop.epoch_loop
        counted, now = loop._batches_that_stepped, loop.batch_progress.current
        # Lightning counts a batch after the hooks that follow it; a resumed run starts there too.
        # (A batch that `on_train_batch_start` refuses is processed, but never started.)
        pending = min(now.started, now.processed) > now.completed
        return int(counted) + (pending or (trainer.validating and not trainer.sanity_checking))
    except AttributeError:
        return None
