"""What a ProbeCallback refuses before it has seen a Trainer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dnc_lightning.probe.probe_set import ProbeSet


def check_arguments(
    probe: ProbeSet,
    pooling: str,
    shots: Sequence[int],
    ways: int | None,
    max_overhead: float | None,
    name: str,
) -> None:
    """Refuse arguments of a ProbeCallback that no run could use.

    Raises:
        ValueError: An argument of the wrong type or out of range.
    """
    if not isinstance(probe, ProbeSet):
        raise ValueError(
            f"probe must be a ProbeSet, got {type(probe).__name__}: ProbeSet(dataset)."
        )
    if pooling not in ("auto", "cls", "mean"):
        raise ValueError(f'pooling must be "auto", "cls" or "mean", got {pooling!r}.')
    if any(not isinstance(m, int) or m < 1 for m in shots):
        raise ValueError(f"shots must be integers of at least 1, got {tuple(shots)}.")
    if ways is not None and ways < 2:
        raise ValueError(f"ways must be at least 2, got {ways}.")
    if max_overhead is not None and not 0 < max_overhead < 1:
        raise ValueError(
            f"max_overhead must be in (0, 1), got {max_overhead}: 0.01 is one percent."
        )
    if not name or "/" in name:
        raise ValueError(f"name must be a folder name, got {name!r}.")


def check_preprocess(preprocess: Any) -> None:
    """Refuse a `preprocess` that cannot be called.

    Raises:
        ValueError: It is neither None nor callable.
    """
    if preprocess is not None and not callable(preprocess):
        raise ValueError(
            "preprocess must be a callable (module, images) -> images, got "
            f"{type(preprocess).__name__}."
        )


def check_ways(ways: int | None, probe: ProbeSet) -> None:
    """Refuse episodes of more classes than a task has.

    Raises:
        ValueError: naming the task.
    """
    for task, labelling in probe.tasks.items():
        if ways is not None and ways > len(labelling.classes):
            raise ValueError(
                f"ways={ways}, but task {task!r} has {len(labelling.classes)} classes. Lower ways."
            )
