"""When to probe."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol


class Schedule(Protocol):
    """Names the optimizer steps after which to act, as a pure function of the step."""

    def next_after(self, step: int) -> int:
        """The first due step that is larger than `step`."""
        ...


@dataclass(frozen=True)
class LogSpaced:
    """Steps 0, 1, 2, ... that spread out geometrically: most of a collapse is early.

    Args:
        per_octave: Probes per doubling of the step, at least 1; 3 makes about 40 probes in 10,000
            steps and 50 in 100,000.

    Raises:
        ValueError: per_octave < 1.

    Example:
        >>> schedule, step, steps = LogSpaced(), 0, [0]
        >>> while step < 40:
        ...     step = schedule.next_after(step)
        ...     steps.append(step)
        >>> steps
        [0, 1, 2, 3, 4, 5, 6, 8, 10, 13, 16, 20, 25, 32, 40]
    """

    per_octave: int = 3

    def __post_init__(self) -> None:
        if self.per_octave < 1:
            raise ValueError(f"per_octave must be at least 1, got {self.per_octave}.")

    def next_after(self, step: int) -> int:
        """The first due step that is larger than `step`."""
        if step < 1:
            return step + 1
        index = math.floor(math.log2(step) * self.per_octave)
        while (due := round(2 ** (index / self.per_octave))) <= step:
            index += 1
        return due


@dataclass(frozen=True)
class EveryNSteps:
    """Every n-th optimizer step."""

    n: int

    def next_after(self, step: int) -> int:
        """The first due step that is larger than `step`."""
        return (step // self.n + 1) * self.n


@dataclass(frozen=True)
class Never:
    """No step: the epoch or the clock decides."""

    def next_after(self, step: int) -> int:
        """A step that no training reaches."""
        return 2**62


def step_schedule(
    schedule: Schedule | None,
    every_n_train_steps: int | None,
    every_n_epochs: int | None,
    train_time_interval: timedelta | None,
) -> Schedule:
    """Choose the schedule in steps from arguments of which at most one may be given.

    Raises:
        ValueError: two of them at once, or an interval that is not positive.
    """
    given = {
        "schedule": schedule,
        "every_n_train_steps": every_n_train_steps,
        "every_n_epochs": every_n_epochs,
        "train_time_interval": train_time_interval,
    }
    named = [name for name, value in given.items() if value is not None]
    if len(named) > 1:
        raise ValueError(f"give one schedule at most, got {' and '.join(named)}. Drop all but one.")
    for name in ("every_n_train_steps", "every_n_epochs"):
        value = given[name]
        if value is not None and (not isinstance(value, int) or value < 1):
            raise ValueError(f"{name} must be an integer of at least 1, got {value!r}.")
    if train_time_interval is not None and train_time_interval <= timedelta(0):
        raise ValueError(f"train_time_interval must be positive, got {train_time_interval}.")
    if schedule is not None:
        return schedule
    if every_n_train_steps is not None:
        return EveryNSteps(every_n_train_steps)
    return LogSpaced() if not named else Never()


def steps_to_wait(
    step: int, elapsed: float, probing: float, seconds: float, max_overhead: float
) -> int:
    """How many steps the next probe must wait so that probing stays below its share of the time.

    Args:
        step: Steps so far, at least 1.
        elapsed: Seconds so far, probing included.
        probing: Seconds of all probes so far.
        seconds: Of the last probe; the next one is taken to last as long.
        max_overhead: The share, in (0, 1).

    Returns:
        At least 0.
    """
    per_step = (elapsed - probing) / step
    # One more probe as long as this one must fit under the limit when it is over.
    wait = ((probing + seconds) / max_overhead - elapsed) / max(per_step, 1e-9)
    return max(0, int(wait))
