"""The probes of a Trainer, for the callbacks that show or keep what they find."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from dnc_lightning.callbacks.cost import Meter
from dnc_lightning.callbacks.run_state import RunState
from dnc_lightning.instruments import declared, find_instruments, pattern
from dnc_lightning.series import Series


def probes_of(trainer: Any) -> list[RunState]:
    """The ProbeCallbacks of a Trainer, in its order."""
    # By their attributes: a ProbeCallback may be a subclass or a wrapper of the other Lightning.
    return [
        c for c in trainer.callbacks if hasattr(c, "run_dir_") and hasattr(c, "records_written_")
    ]


def series_of(probes: Iterable[Any], key: str) -> Series | None:
    """The declaration of a logged key, by the instruments of the probe that it begins with."""
    for probe in probes:
        if key.startswith(f"{probe.name}/"):
            told = (one for one in declared(find_instruments(probe.metrics)) if not one.axes)
            found = [one for one in told if re.fullmatch(f".+/{pattern(one).pattern}", key)]
            if found:  # "a/b" is closer than "b"
                return max(found, key=lambda one: len(one.key))
    return None


def meters_of(probes: Iterable[Any]) -> list[Meter]:
    """The clocks of what some ProbeCallbacks cost."""
    return [probe.meter_ for probe in probes if hasattr(probe, "meter_")]


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
