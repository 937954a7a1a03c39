"""The series of a run that no special chart draws: declaration, values, best and references."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dnc_lightning.records.archives import ReadMatrix, read_one
from dnc_lightning.records.declarations import (
    declarations,
    further_declarations,
    is_drawn,
    made_from,
)
from dnc_lightning.records.store import Record, Run
from dnc_lightning.reporting.read.places import Place, along, classes_of, expanded, places
from dnc_lightning.reporting.read.views import moments, table, thinned
from dnc_lightning.series import FURTHER, PAIR, SHOTS, Series

Kind = Literal["line", "lines", "curve", "matrix"]
MOST_LINES = 24  # of one chart


@dataclass(frozen=True)
class Track:
    """One number over the probes at which it was recorded."""

    title: str
    steps: NDArray[np.int64]  # [K]
    values: NDArray[np.float64]  # [K]
    series: Series

    @property
    def first(self) -> float:
        """At the first probe."""
        return float(self.values[0])

    @property
    def last(self) -> float:
        """At the last probe."""
        return float(self.values[-1])

    @property
    def best(self) -> tuple[int, float] | None:
        """Step and value of the best probe; None where no direction is better."""
        if self.series.direction is None or not np.isfinite(self.values).any():
            return None
        lower = self.series.direction == "lower"
        at = int(np.nanargmin(self.values) if lower else np.nanargmax(self.values))
        return int(self.steps[at]), float(self.values[at])


@dataclass(frozen=True)
class Further:
    """One series at one place, over K probes: those that recorded it, of arrays the first and last.

    `values` are [K] of a number; [K, L] of a number a shot, a pair of tasks, or of the same stem;
    [K, ...] of an array.
    """

    series: Series
    place: Place
    kind: Kind
    steps: NDArray[np.int64]  # [K]
    labels: tuple[str, ...]  # [K] "step 12 · epoch 0 · 33 s"
    values: NDArray[np.float64]
    names: tuple[tuple[str, ...], ...]  # along each axis of `values` but the first
    references: tuple[tuple[str, float | NDArray[np.float64]], ...]  # name, number or [K]

    @property
    def recorded(self) -> bool:
        """Whether it is an array, which lies beside the records."""
        return bool(self.series.axes)

    def tracks(self) -> list[Track]:
        """Return its numbers over training; of several shots the middle one, of an array none."""
        if self.recorded:
            return []
        if self.kind == "line":
            return [Track(self.series.title, self.steps, self.values, self.series)]
        names = list(enumerate(self.names[0]))
        words = "m = " if self.kind == "curve" else ""
        chosen = names[len(names) // 2 :][:1] if self.kind == "curve" else names
        return [
            Track(f"{self.series.title}, {words}{name}", self.steps, self.values[:, k], self.series)
            for k, name in chosen
        ]


def further(
    run: Run, *, max_probes: int | None = None, read_matrix: ReadMatrix | None = None
) -> list[Further]:
    """Gather the series of a run that no special chart draws, those declared first.

    What the records hold and nobody declared gets a declaration made from its key, which says so;
    numbers of one stem ("accuracy/cat", "accuracy/dog") are then one series of several lines.

    Args:
        run: The run.
        max_probes: Most probes to keep, thinned evenly; default all.
        read_matrix: How to read one matrix of a record; default `read_one(run)`.

    Returns:
        Each series at each place that recorded it.
    """
    records = list(run.records)
    if max_probes is not None:
        records = [records[i] for i in thinned(list(range(len(records))), max(2, max_probes))]
    held = {key: None for record in records for key in record.scalars}
    spots = places(run.header)
    taken = {
        place.prefix + key
        for series in declarations(run.header)[0]
        for place in spots
        if place.scope == series.scope and not series.axes
        for key in expanded(series.key, place, run.header)
    }
    found = []
    for series in further_declarations(run.header):
        for place in (spot for spot in spots if spot.scope == series.scope):
            keys = expanded(series.key, place, run.header)
            if series.axes:
                read = read_matrix or read_one(run)
                arrays = [_array(run, series, place, key, name, read) for key, name in keys.items()]
                found += [made for made in arrays if made is not None]
                continue
            here = {k: name for k, name in keys.items() if place.prefix + k in held}
            made = _numbers(series, place, run.header, records, here)
            found += [] if made is None else [made]
    left = [key for key in held if key not in taken]
    return [*found, *_undeclared(left, spots, run.header, records)]


def grouped(found: Sequence[Further]) -> dict[str, list[Further]]:
    """Return series by group, in order of first appearance, what names none last."""
    groups: dict[str, list[Further]] = {}
    for entry in sorted(found, key=lambda entry: entry.series.group == FURTHER):
        groups.setdefault(entry.series.group, []).append(entry)
    return groups


def _numbers(
    series: Series,
    place: Place,
    header: Mapping[str, Any],
    records: Sequence[Record],
    keys: Mapping[str, str],
) -> Further | None:
    """Read keys, each with the name of its line, or None if no record holds any."""
    full = [place.prefix + key for key in list(keys)[:MOST_LINES]]
    having = [record for record in records if not record.scalars.keys().isdisjoint(full)]
    if not having:
        return None
    values = table(having, full)
    several = SHOTS in series.key or PAIR in series.key or len(keys) > 1
    kind: Kind = "line"
    if several:
        kind = "curve" if SHOTS in series.key and PAIR not in series.key else "lines"
    steps, labels = moments(having)
    return Further(
        series=series,
        place=place,
        kind=kind,
        steps=steps,
        labels=labels,
        values=values if several else values[:, 0],
        names=(tuple(list(keys.values())[:MOST_LINES]),) if several else (),
        references=tuple(_references(series, place, header, having)),
    )


def _references(
    series: Series, place: Place, header: Mapping[str, Any], records: Sequence[Record]
) -> Iterator[tuple[str, float | NDArray[np.float64]]]:
    for reference in series.references:
        if (found := reference.number(classes_of(place, header), header.get("ways"))) is not None:
            yield reference.name, found
        elif reference.key is not None:
            key = place.prefix + reference.key
            values = table(records, [key])[:, 0]
            if np.isfinite(values).any():
                yield reference.name, values


def _array(
    run: Run, series: Series, place: Place, key: str, name: str, read: ReadMatrix
) -> Further | None:
    """Read an array at the first and last probe that hold it, as far as their shapes agree."""
    if place.encoder is None or len(series.axes) > 2:
        return None
    if name:
        series = replace(series, key=key, title=f"{series.title}, {name}")
    records, key = run.records, f"{place.folder}/{key}"
    first, last = (
        next(_arrays(order, key, series, read), None) for order in (records, records[::-1])
    )
    if first is None or last is None:
        return None
    same = first[0] is last[0] or first[1].shape != last[1].shape
    ends = [last] if same else [first, last]
    kept, stack = [record for record, _ in ends], np.stack([array for _, array in ends])
    steps, labels = moments(kept)
    return Further(
        series=series,
        place=place,
        kind="matrix" if len(series.axes) == 2 else "curve",
        steps=steps,
        labels=labels,
        values=stack.astype(np.float64),
        names=tuple(
            along(axis, size, place, run.header)
            for axis, size in zip(series.axes, stack.shape[1:], strict=True)
        ),
        references=tuple(
            (r.name, value)
            for r in series.references
            if (value := r.number(classes_of(place, run.header), run.header.get("ways")))
            is not None
        ),
    )


def _arrays(
    records: Sequence[Record], key: str, series: Series, read: ReadMatrix
) -> Iterator[tuple[Record, NDArray[np.float32]]]:
    for record in records:
        array = read(record, key)
        if array is not None and array.ndim == len(series.axes) and array.size:
            yield record, array


def _undeclared(
    keys: Sequence[str],
    spots: Sequence[Place],
    header: Mapping[str, Any],
    records: Sequence[Record],
) -> list[Further]:
    shots = {str(m) for m in header.get("shots") or ()}
    stems: dict[tuple[Place, str], dict[str, str]] = {}
    elsewhere = Place("probe", None, None, "")
    longest = [*sorted(spots, key=lambda spot: -len(spot.prefix)), elsewhere]
    for key in keys:
        place = next(spot for spot in longest if key.startswith(spot.prefix))
        below = key.removeprefix(place.prefix)
        if below and not is_drawn(place.scope, below):
            stem, _, name = below.rpartition("/")
            stems.setdefault((place, stem or below), {})[below] = name
    found = []
    for (place, stem), named in stems.items():
        ends = set(named.values())
        over_shots = len(named) > 1 and ends <= shots
        series = made_from(f"{stem}/{SHOTS}" if over_shots else stem, place.scope)
        if len(named) == 1:
            series = made_from(next(iter(named)), place.scope)
        if over_shots:
            named = dict(sorted(named.items(), key=lambda entry: int(entry[1])))
        if len(named) > MOST_LINES:
            more = f" {MOST_LINES} of {len(named):,} are drawn."
            series = replace(series, meaning=series.meaning + more)
        made = _numbers(series, place, header, records, named)
        found += [] if made is None else [made]
    return found
