"""The probes of a Trainer, for the callbacks that show or keep what they find."""

from __future__ import annotations

from typing import Any

from dnc_lightning.callbacks.run_state import RunState


def probes_of(trainer: Any) -> list[RunState]:
    """The ProbeCallbacks of a Trainer, in its order."""
    # By their attributes: a ProbeCallback may be a subclass or a wrapper of the other Lightning.
    return [
        c for c in trainer.callbacks if hasattr(c, "run_dir_") and hasattr(c, "records_written_")
    ]


def require_probes(trainer: Any, purpose: str) -> list[RunState]:
    """The same, for a callback that has nothing to do without one.

    Args:
        trainer: With the callbacks.
        purpose: The callback and what it does: "HtmlReport shows what a ProbeCallback records".

    Raises:
        ValueError: the Trainer has no ProbeCallback.
    """
    if not (found := probes_of(trainer)):
        raise ValueError(
            f"{purpose}, but the Trainer has none: add ProbeCallback(...) to the Trainer's "
            "callbacks."
        )
    return found
