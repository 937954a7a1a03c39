"""Series that no special chart draws, of several methods side by side."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dnc_lightning.reporting.charts.values import (
    Chart,
    Matrix,
    Rule,
    chart_of,
    comparison_of,
    positions,
)
from dnc_lightning.reporting.compare.numbers import band, plain_mean
from dnc_lightning.reporting.compare_runs import Group
from dnc_lightning.reporting.read.series import Further, further
from dnc_lightning.reporting.read.views import unique_names
from dnc_lightning.series import FURTHER, Series

Curve = tuple[NDArray[np.int64], NDArray[np.float64]]


@dataclass(frozen=True)
class Compared:
    """One series of one task, or of all, and its picture of all methods."""

    task: str | None
    series: Series
    title: str
    picture: Chart | Matrix


@dataclass
class _Gathered:
    found: Further  # the first one
    curves: dict[int, list[Curve]] = field(default_factory=dict)  # of each method
    references: dict[str, list[float]] = field(default_factory=dict)
    arrays: list[Further] = field(default_factory=list)


def compared(methods: Sequence[tuple[str, Group, str]]) -> list[Compared]:
    """Gather the further series of all methods: over training, or over shots at the last probe.

    A matrix has a picture where there is one method; of its runs the first is drawn.

    Args:
        methods: Label, runs and encoder of each line.

    Returns:
        Series in the order of the declarations, those of a group together.
    """
    gathered: dict[tuple[str | None, str, str], _Gathered] = {}
    read: dict[int, list[Further]] = {}  # of each run, which several encoders share
    for index, (_, group, encoder) in enumerate(methods):
        for named in group.runs:
            for found in read.setdefault(id(named.run), further(named.run)):
                if found.place.encoder in (encoder, None):
                    _gather(gathered, index, found)
    labels = [label for label, _, _ in methods]
    made = [
        Compared(task, entry.found.series, title, picture)
        for (task, title, _), entry in gathered.items()
        if (picture := _picture(title, entry, labels)) is not None
    ]
    groups = list(dict.fromkeys(entry.series.group for entry in made))
    groups.sort(key=lambda group: group == FURTHER)
    return sorted(made, key=lambda entry: groups.index(entry.series.group))


def _gather(
    gathered: dict[tuple[str | None, str, str], _Gathered], index: int, found: Further
) -> None:
    for title, curve in _curves(found):
        place = (found.place.task, title, found.series.key)
        entry = gathered.setdefault(place, _Gathered(found))
        entry.curves.setdefault(index, []).append(curve)
        for name, value in found.references:
            last = value if isinstance(value, float) else float(value[-1])
            entry.references.setdefault(name, []).append(last)
    if found.kind == "matrix":
        place = (found.place.task, found.series.title, found.series.key)
        gathered.setdefault(place, _Gathered(found)).arrays.append(found)


def _curves(found: Further) -> Iterator[tuple[str, Curve]]:
    if found.kind == "curve":
        x = np.array(positions(found), dtype=np.int64)
        yield found.series.title, _finite(x, found.values[-1])
    for track in found.tracks() if found.kind != "curve" else ():
        yield track.title, _finite(track.steps, track.values)


def _finite(x: NDArray[np.int64], y: NDArray[np.float64]) -> Curve:
    kept = np.isfinite(y)
    return x[kept], y[kept]


def _picture(title: str, entry: _Gathered, labels: Sequence[str]) -> Chart | Matrix | None:
    if entry.arrays:
        return chart_of(entry.arrays[0]) if len(labels) == 1 else None
    series = entry.found.series
    every = np.concatenate([y for curves in entry.curves.values() for _, y in curves])
    # The mean of the logarithms is that of positive values alone.
    geometric = series.scale == "log" and bool((every > 0).all())
    bands = [band(entry.curves.get(k, []), geometric=geometric) for k in range(len(labels))]
    rules = _rules(entry.references)
    return comparison_of(entry.found, title, bands, labels, rules)


def _rules(references: Mapping[str, Sequence[float]]) -> list[Rule]:
    means = {name: plain_mean(values) for name, values in references.items()}
    return [Rule(name, value) for name, value in means.items() if math.isfinite(value)]


def by_group(found: Sequence[Compared]) -> dict[str, list[Compared]]:
    """Return series by group, in their order."""
    groups: dict[str, list[Compared]] = {}
    for entry in found:
        groups.setdefault(entry.series.group, []).append(entry)
    return groups


def file_names(groups: Sequence[str]) -> list[str]:
    """Return a file name for each group, of letters and digits."""
    words = ("".join(c if c.isalnum() else " " for c in group.lower()).split() for group in groups)
    return unique_names(
        "_".join(["further", *parts[parts[:1] == ["further"] :]]) for parts in words
    )
