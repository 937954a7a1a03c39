"""The probes of a Trainer, for callbacks that show what these record."""

from __future__ import annotations

from typing import Any


def probes_of(trainer: Any) -> list[Any]:
    """Return the Trainer's probe callbacks, in its order."""
    # By their attributes: a ProbeCallback may be a subclass or a wrapper of the other Lightning.
    return [
        c for c in trainer.callbacks if hasattr(c, "run_dir_") and hasattr(c, "records_written_")
    ]


def require_probes(trainer: Any, name: str) -> None:
    """Check that there is something to show.

    Raises:
        ValueError: If the Trainer has no `ProbeCallback`; the message begins with `name`.
    """
    if not probes_of(trainer):
        raise ValueError(
            f"{name} shows what a ProbeCallback records, but the Trainer has none: add "
            "ProbeCallback(...) to the Trainer's callbacks"
        )
