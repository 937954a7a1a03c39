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

    Examples:
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


def next_step(schedule: Schedule, step: int, not_before: int) -> int:
    """The first due step after `step` that is not earlier than `not_before` either."""
    return schedule.next_after(max(step, not_before - 1))


def epoch_due(epoch: int, every_n_epochs: int | None) -> bool:
    """Whether to probe at the end of an epoch, counted from 0; never for None."""
    return every_n_epochs is not None and (epoch + 1) % every_n_epochs == 0


@dataclass(frozen=True)
class Cost:
    """What probing has cost, in seconds of wall time."""

    elapsed: float  # since the setup of the run began, probing included
    probing: float  # all that the package did
    last: float  # what one more probe is taken to last, and the one at the end of the run

    @property
    def overhead(self) -> float:
        """The share of the time that went into probing."""
        return self.probing / self.elapsed


def earliest_step(cost: Cost, step: int, max_overhead: float) -> int:
    """The step from which on one more probe keeps probing below its share of the time.

    Args:
        cost: So far, and ahead.
        step: Steps so far; 0 has no pace yet, so the next probe need not wait.
        max_overhead: The share, in (0, 1).

    Returns:
        At least `step`.
    """
    if step == 0:
        return 0
    per_step = (cost.elapsed - cost.probing) / step
    # What is ahead must fit under the limit when it is over.
    wait = (cost.probing + cost.last) / max_overhead - cost.elapsed
    return step + max(0, int(wait / max(per_step, 1e-9)))
