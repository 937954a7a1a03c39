"""Pictures of several methods side by side, each a line, its seeds a band."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from dnc_lightning.reporting.charts.bars import GroupedBars
from dnc_lightning.reporting.charts.general import chart_of, comparison_of, positions
from dnc_lightning.reporting.charts.values import Axis, Chart, Matrix, Rule
from dnc_lightning.reporting.compare.numbers import (
    band,
    finite,
    orthogonality,
    over_shots,
    over_training,
    plain_mean,
)
from dnc_lightning.reporting.compare_runs import Method
from dnc_lightning.reporting.read.declared import declared
from dnc_lightning.reporting.read.few_shot import Series as Error
from dnc_lightning.reporting.read.series import Further, further
from dnc_lightning.reporting.read.tasks import variance_parts
from dnc_lightning.reporting.read.views import AVERAGES
from dnc_lightning.reporting.theme import LOOKS, Metric
from dnc_lightning.series import FURTHER, SHOTS, Series

BESIDE: tuple[Error, ...] = (
    "few_shot_error",
    "certificate",
)  # what several methods are compared by
LEAST_ERROR = 1e-4  # an axis of errors reaches no further down
ALIKE = 0.02  # relative difference of levels that are drawn as one
# Of lines that share a panel.
ROLE_DASHES = {look.role: look.dash for look in LOOKS.values()} | {"standard": "dash"}
PARTS = ("on the axis", "top 1 beside", "top 10", "top 100", "all beside")

Curve = tuple[NDArray[np.int64], NDArray[np.float64]]
Picture = TypeVar("Picture", bound=Chart | Matrix | GroupedBars, covariant=True)


@dataclass(frozen=True)
class Compared(Generic[Picture]):
    """One series of one task, or of all, and its picture of all methods."""

    task: str | None
    series: Series
    picture: Picture


@dataclass
class _Gathered:
    found: Further  # the first one
    curves: dict[int, list[Curve]] = field(default_factory=dict)  # of each method
    references: dict[str, list[float]] = field(default_factory=dict)


def collapse(
    methods: Sequence[Method], task: str, metric: Metric, average: str = "mean"
) -> Compared[Chart]:
    """Draw one metric over training, by one of `AVERAGES` over the pairs."""
    series = declared(methods[0].runs[0].run.header, metric)
    bands = [
        band([], geometric=True)
        if (view := method.view(task)) is None
        else over_training(method.runs, f"{view.prefix}/{metric}{AVERAGES[average]}")
        for method in methods
    ]
    chart = comparison_of(series, bands, [method.label for method in methods])
    label = Axis("Variance over squared distance", chart.y.scale, "variance / distance²")
    return Compared(task, series, replace(chart, y=label))


def errors(methods: Sequence[Method], task: str, names: Sequence[Error]) -> list[Compared[Chart]]:
    """Draw errors or bounds at the last probe against shots, all on the same axes; [] of none."""
    labels = [method.label for method in methods]
    found = {name: [over_shots(method, task, name) for method in methods] for name in names}
    bands = [band for one in found.values() for band in one]
    shots = sorted({int(m) for band in bands for m in band.x})
    if not shots:
        return []
    least = min((v for band in bands for v in band.low if v > 0), default=0.1)
    foot = math.log10(min(0.5, max(LEAST_ERROR, least)))
    made = []
    for name in names:
        series = declared(methods[0].runs[0].run.header, f"{name}/{SHOTS}")
        chart = comparison_of(series, found[name], labels, along=tuple(map(str, shots)))
        # A bound above 1 says nothing.
        chart = replace(chart, range=(1.06 * foot, max(0.04, -0.04 * foot)))
        y = Axis("Error rate", chart.y.scale, "error rate")
        made.append(Compared(task, series, replace(chart, y=y)))
    return made


def across(methods: Sequence[Method]) -> Compared[Chart]:
    """Draw |cos| between the axes of two tasks over training, averaged over all, and its floor."""
    series = declared(methods[0].runs[0].run.header, "{a}-{b}/abs_cos")
    found = [[orthogonality(n.run, method.encoder) for n in method.runs] for method in methods]
    bands = [band([(x, y) for x, y, _ in seeds], geometric=True) for seeds in found]
    rules = _rules({"by chance": [floor for seeds in found for *_, floor in seeds]})
    chart = comparison_of(series, bands, [method.label for method in methods], rules)
    return Compared(None, series, chart)


def variance(methods: Sequence[Method], tasks: Sequence[str]) -> list[list[Compared[GroupedBars]]]:
    """Draw where the variance of some pairs lies, a row a method that recorded it, first runs."""
    series = declared(methods[0].runs[0].run.header, "variance")
    rows = [(method.label, [_parts(method, task) for task in tasks]) for method in methods]
    held = [(label, row) for label, row in rows if not all(bars.empty for bars in row)]
    return [
        [
            Compared(task, series, replace(bars, title=label if len(held) > 1 else ""))
            for task, bars in zip(tasks, row, strict=True)
        ]
        for label, row in held
    ]


def _parts(method: Method, task: str) -> GroupedBars:
    view = method.view(task)
    found = None if view is None else variance_parts(method.runs[0].run, view, max_probes=2)
    unknown = np.full(len(PARTS), math.nan)
    pairs = () if found is None else found.pairs[-1]
    values = before = np.zeros((0, len(PARTS)))
    if found is not None:
        # Beside the axis the parts are steps of the sums over the widest directions.
        sums = [np.column_stack([p[:, 0], p[:, 1:].cumsum(axis=1)]) for p in found.parts]
        then = dict(zip(found.pairs[0], sums[0], strict=True))
        values, before = sums[-1], np.array([then.get(pair, unknown) for pair in pairs])
    return GroupedBars(
        title="",
        x="Pair of classes",
        y="variance / distance²",
        groups=tuple("\n".join(pair) for pair in pairs),
        parts=PARTS,
        values=values,
        before=before,
    )


def together(shown: Sequence[Compared[Chart]]) -> Compared[Chart]:
    """Put what one method has in several pictures into one, its lines as their series look."""
    several = len(shown) > 1
    lines = tuple(
        replace(
            line,
            name=entry.series.title if several else line.name,
            role=entry.series.role,
            dash=ROLE_DASHES.get(entry.series.role, "solid") if several else "solid",
        )
        for entry in shown
        for line in entry.picture.lines
    )
    lows, highs = zip(*(entry.picture.range for entry in shown), strict=True)
    first = shown[0].picture
    title = "" if several else first.title
    chart = replace(first, title=title, lines=lines, range=(min(lows), max(highs)))
    return replace(shown[0], picture=chart)


def compared(methods: Sequence[Method]) -> list[Compared[Chart | Matrix]]:
    """Gather the further series of all methods: over training, or over shots at the last probe.

    A matrix has a picture where there is one method; of its runs the first is drawn.

    Returns:
        Series in the order of the declarations, those without a group last.
    """
    gathered: dict[tuple[str | None, str, str], _Gathered] = {}
    read: dict[int, list[Further]] = {}  # of each run, which several encoders share
    for index, method in enumerate(methods):
        for named in method.runs:
            for found in read.setdefault(id(named.run), further(named.run)):
                if found.place.encoder in (method.encoder, None):
                    _gather(gathered, index, found)
    labels = [method.label for method in methods]
    made = [
        Compared(task, entry.found.series, picture)
        for (task, title, _), entry in gathered.items()
        if (picture := _picture(title, entry, labels)) is not None
    ]
    return sorted(made, key=lambda entry: entry.series.group == FURTHER)


def _gather(
    gathered: dict[tuple[str | None, str, str], _Gathered], index: int, found: Further
) -> None:
    for title, curve in _curves(found):
        place = (found.place.task, title, found.series.key)
        entry = gathered.setdefault(place, _Gathered(found))
        if curve is not None:
            entry.curves.setdefault(index, []).append(curve)
        for name, value in found.references:
            last = value if isinstance(value, float) else float(value[-1])
            entry.references.setdefault(name, []).append(last)


def _curves(found: Further) -> list[tuple[str, Curve | None]]:
    """What becomes a line each, with its title; of a matrix the title alone."""
    if found.kind == "matrix":
        return [(found.series.title, None)]
    if found.kind == "curve":
        x = np.array(positions(found.names[0]), dtype=np.int64)
        return [(found.series.title, finite(x, found.values[-1]))]
    return [(track.title, finite(track.steps, track.values)) for track in found.tracks()]


def _picture(title: str, entry: _Gathered, labels: Sequence[str]) -> Chart | Matrix | None:
    found = entry.found
    if found.kind == "matrix":
        return chart_of(found) if len(labels) == 1 else None
    series = replace(found.series, title=title)
    every = np.concatenate([y for curves in entry.curves.values() for _, y in curves])
    # The mean of the logarithms is that of positive values alone.
    geometric = series.scale == "log" and bool((every > 0).all())
    bands = [band(entry.curves.get(k, []), geometric=geometric) for k in range(len(labels))]
    along = found.names[0] if found.kind == "curve" else ()
    return comparison_of(series, bands, labels, _rules(entry.references), along)


def _rules(references: Mapping[str, Sequence[float]]) -> list[Rule]:
    """One level a reference; none where the methods have different ones, as of other widths."""
    found = {name: [v for v in values if math.isfinite(v)] for name, values in references.items()}
    return [
        Rule(name, plain_mean(values))
        for name, values in found.items()
        if values and max(values) - min(values) <= ALIKE * abs(max(values))
    ]
