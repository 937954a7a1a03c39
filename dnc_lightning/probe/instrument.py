"""What measures a probe: the protocol, and the keys that follow from its declarations."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar, runtime_checkable

from torch import Tensor

from dnc_lightning.probe.bench import Bench
from dnc_lightning.probe.labels import ACROSS, FEATURES
from dnc_lightning.series import Scope, Series


@dataclass(frozen=True)
class Found:
    """What an instrument gives, under the keys that it declares."""

    scalars: Mapping[str, Tensor | float] = field(default_factory=dict)
    arrays: Mapping[str, Tensor] = field(default_factory=dict)  # as many dimensions as axes
    notes: Sequence[str] = ()  # advice, recorded
    warnings: Sequence[str] = ()  # what was wrong, recorded and said once
    instead: Mapping[str, float] | None = None  # for its keys: others, which nobody could know


@runtime_checkable
class Instrument(Protocol):
    """Measures something of every probe.

    All its series have one scope: "task", and it measures each task on its own; "features", and it
    measures once, whatever the tasks; or "tasks", and it measures all tasks at once, where there
    are at least two.

    An instrument with an attribute `heads`, names of linear layers of the module, finds them in
    `bench.heads`, with the weights that were embedded with; one with an attribute `tasks`, if any
    are named, measures those tasks alone.
    """

    @property
    def name(self) -> str:
        """For `ProbeCallback(metrics=[name])` and in messages."""

    @property
    def series(self) -> Sequence[Series]:
        """All that it gives: numbers, and arrays, which are recorded beside them."""

    def measure(self, bench: Bench) -> Found:
        """Measure features; the same on every process, which `bench.total` sums over.

        What is declared and missing here becomes nan, all of it if this raises.
        """


@dataclass(frozen=True)
class Expected:
    """What one instrument gives at one place of keys."""

    instrument: Instrument
    numbers: tuple[str, ...]  # keys below the prefix of the place
    arrays: Mapping[str, tuple[str, ...]]  # key -> names of its axes


def expected(
    instruments: Sequence[Instrument],
    counts: Mapping[str, Sequence[int]],
    shots: Sequence[int],
    *,
    thorough: bool,
) -> dict[str, list[Expected]]:
    """What a probe gives of one encoder, whatever its features are.

    Args:
        instruments: In the order that they measure in.
        counts: Task -> [C] samples of each class, in the whole probe set.
        shots: Numbers of labelled samples per class.
        thorough: At the first or last probe.

    Returns:
        Place -> what comes there: every task, `FEATURES` for what needs no labels, and `ACROSS` for
        what several tasks say together.
    """
    scopes = {_scope(instrument) for instrument in instruments}
    places = list(counts)
    places += [FEATURES] if "features" in scopes else []
    places += [ACROSS] if "tasks" in scopes and len(counts) > 1 else []
    return {
        place: [
            _expected(instrument, at(place, counts), shots, thorough)
            for instrument in instruments
            if _scope(instrument) == _SCOPES.get(place, "task")
            and (place not in counts or place in (_chosen(instrument) or counts))
        ]
        for place in places
    }


def check_tasks(instruments: Sequence[Instrument], tasks: Collection[str]) -> None:
    """Refuse instruments that name a task that the probe set does not have.

    Raises:
        ValueError: names both.
    """
    for instrument in instruments:
        for name in _chosen(instrument):
            if name not in tasks:
                raise ValueError(
                    f"instrument {instrument.name!r} measures task {name!r}, the probe set has "
                    f"{', '.join(map(repr, tasks))}. Name one of these."
                )


def _chosen(instrument: Instrument) -> Collection[str]:
    """Names of the tasks that it measures; empty for all."""
    found: Collection[str] = getattr(instrument, "tasks", ())
    return found


_T = TypeVar("_T")
_SCOPES: dict[str, Scope] = {FEATURES: "features", ACROSS: "tasks"}


def at(place: str, tasks: Mapping[str, _T]) -> dict[str, _T]:
    """What an instrument gets of all tasks at one place of keys: without need of labels any one."""
    if place == ACROSS and len(tasks) > 1:
        return dict(tasks)
    name = place if place in tasks else next(iter(tasks))
    return {name: tasks[name]}


def _scope(instrument: Instrument) -> Scope:
    return instrument.series[0].scope


def _expected(
    instrument: Instrument,
    counts: Mapping[str, Sequence[int]],
    shots: Sequence[int],
    thorough: bool,
) -> Expected:
    numbers: list[str] = []
    arrays: dict[str, tuple[str, ...]] = {}
    for series in _given(instrument.series, counts, thorough):
        smallest = min(min(number) for number in counts.values())
        keys = series.keys([m for m in shots if m < smallest or not series.queries], tuple(counts))
        if series.axes:
            arrays |= dict.fromkeys(keys, series.axes)
        else:
            numbers += keys
    return Expected(instrument, tuple(numbers), arrays)


def _given(
    series: Sequence[Series], counts: Mapping[str, Sequence[int]], thorough: bool
) -> Iterator[Series]:
    largest = max(len(number) for number in counts.values())
    for one in series:
        small = one.most_classes is None or largest <= one.most_classes
        if small and (thorough or not one.thorough):
            yield one
