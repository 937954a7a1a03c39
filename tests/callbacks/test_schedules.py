from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from dnc_lightning import LogSpaced
from dnc_lightning.callbacks.schedules import EveryNSteps, Never, step_schedule


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
