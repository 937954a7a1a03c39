from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from dnc_lightning import LogSpaced
from dnc_lightning.callbacks.schedules import (
    Cost,
    EveryNSteps,
    Never,
    earliest_step,
    epoch_due,
    next_step,
    step_schedule,
)


def steps(schedule: Any, until: int) -> list[int]:
    found = [0]
    while (due := schedule.next_after(found[-1])) <= until:
        found.append(due)
    return found


@pytest.mark.parametrize("per_octave", [1, 2, 3, 8])
def test_log_spaced_holds_every_power_of_two_and_grows_evenly(per_octave: int) -> None:
    due = steps(LogSpaced(per_octave), 2**14)
    assert {2**k for k in range(15)} <= set(due)
    assert due == sorted(set(due))
    late = [d for d in due if d >= 2**9]
    assert all(1 < b / a < 2 ** (1 / per_octave) * 1.01 for a, b in pairwise(late))


def test_the_next_step_depends_on_the_step_alone() -> None:
    due = steps(LogSpaced(), 5_000)
    for step in range(5_000):
        assert (
            LogSpaced().next_after(step) == next((d for d in due if d > step), 5120)
            or step >= due[-1]
        )


def test_intervals() -> None:
    assert steps(EveryNSteps(7), 30) == [0, 7, 14, 21, 28]
    assert EveryNSteps(7).next_after(9) == 14
    assert isinstance(step_schedule(None, None, 2, None), Never)
    assert step_schedule(None, None, None, None) == LogSpaced()


@pytest.mark.parametrize("schedule", [LogSpaced(), EveryNSteps(7), Never()])
def test_the_next_step_is_due_and_late_enough(schedule: Any) -> None:
    for step in range(40):
        for not_before in range(80):
            due = (s for s in range(step + 1, 200) if schedule.next_after(s - 1) == s)
            expected = next((s for s in due if s >= not_before), 2**62)
            assert next_step(schedule, step, not_before) == expected


def test_epochs_are_counted_from_one() -> None:
    assert [epoch for epoch in range(9) if epoch_due(epoch, 3)] == [2, 5, 8]
    assert all(epoch_due(epoch, 1) for epoch in range(3))
    assert not any(epoch_due(epoch, None) for epoch in range(9))


@pytest.mark.parametrize("probing", [0.5, 4.0, 30.0])
@pytest.mark.parametrize("last", [0.25, 2.0])
@pytest.mark.parametrize("max_overhead", [0.01, 0.1, 0.6])
def test_the_earliest_step_is_the_first_whose_probe_stays_below_the_share(
    probing: float, last: float, max_overhead: float
) -> None:
    step, per_step = 40, 0.3
    cost = Cost(elapsed=probing + per_step * step, probing=probing, last=last)
    assert cost.overhead == pytest.approx(probing / (probing + 12.0))

    def share(due: int) -> float:
        """Walk there, and probe once more."""
        elapsed = cost.elapsed
        for _ in range(step, due):
            elapsed += per_step
        # The probe itself is left out of the time: it has to fit even before it is over.
        return (probing + last) / elapsed

    earliest = earliest_step(cost, step, max_overhead)
    assert earliest >= step
    # Steps are whole: the last fraction of one is forgiven.
    assert share(earliest + 1) < max_overhead
    assert earliest == step or share(earliest - 1) > max_overhead


def test_the_step_before_training_has_no_pace_to_wait_by() -> None:
    assert earliest_step(Cost(elapsed=3.0, probing=3.0, last=3.0), 0, 0.01) == 0


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ((LogSpaced(), 5, None, None), "schedule and every_n_train_steps"),
        ((None, 5, 1, None), "every_n_train_steps and every_n_epochs. Drop"),
        ((None, None, 1, timedelta(1)), "every_n_epochs and train_time_interval"),
        ((None, 0, None, None), "every_n_train_steps must be an integer of at least 1, got 0"),
        ((None, None, 1.5, None), "every_n_epochs must be an integer"),
        ((None, None, None, timedelta(0)), "train_time_interval must be positive"),
    ],
)
def test_bad_schedules(arguments: tuple[Any, ...], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        step_schedule(*arguments)
    with pytest.raises(ValueError, match="per_octave must be at least 1"):
        LogSpaced(0)
