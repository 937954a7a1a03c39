"""Everything a run's page draws, as plain JSON values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dnc_lightning.records.archives import Archives, ReadMatrix
from dnc_lightning.records.store import Run
from dnc_lightning.reporting.charts.collapse import collapse_chart
from dnc_lightning.reporting.charts.few_shot import OVER_TRAINING, shots_charts, tightness_chart
from dnc_lightning.reporting.charts.tasks import angle_matrix, cosine_chart, task_charts
from dnc_lightning.reporting.charts.variance import share_chart, variance_bars
from dnc_lightning.reporting.draw.axes import digits
from dnc_lightning.reporting.draw.plotly import plotly_spec, side_by_side
from dnc_lightning.reporting.page import tiles
from dnc_lightning.reporting.page.book import book, frame
from dnc_lightning.reporting.page.further import further_data
from dnc_lightning.reporting.page.pairs import pairs_data
from dnc_lightning.reporting.read.examples import named_classes, read_examples
from dnc_lightning.reporting.read.few_shot import BOUNDS, MEASURED, FewShot, few_shot
from dnc_lightning.reporting.read.tasks import TaskPairs, VarianceParts, task_pairs, variance_parts
from dnc_lightning.reporting.read.views import (
    METRICS,
    PairStack,
    View,
    curves,
    pair_stack,
    recorded_averages,
)
from dnc_lightning.reporting.theme import LOOKS
from dnc_lightning.reporting.words import bound_digits, error_words, in_digits

MATRIX_BYTES = 5_000_000  # of all matrices in base64: keeps the page under 15 MB
MOST_CLASSES = 160
FEW_SHOT_PROBES = 1000  # of all views together: about 3.5 MB with their variance
TASK_VALUES = 150_000  # of all pairs of tasks together: about 1 MB
MOST_TOLD = 8  # tasks whose latest values are said of their curves


def page_data(run: Run, shown: Sequence[View], *, finished: bool) -> dict[str, Any]:
    """Return what the scripts of a run's page read.

    Args:
        run: The run.
        shown: Its encoders and tasks; empty before the first probe.
        finished: Whether training is over.
    """
    data: dict[str, Any] = {"finished": finished, "probes": len(run.records), "views": []}
    if not shown:
        return data | {"tasks": [], "further": []}
    budget = MATRIX_BYTES * 3 // 4 // 2 // len(shown)  # base64, then two bytes a value
    limits = {"max_values": budget, "max_classes": MOST_CLASSES}
    with Archives(run) as archives:
        read = archives.read
        stacks = {view: pair_stack(run, view, **limits, read_matrix=read) for view in shown}
        probes = max(2, FEW_SHOT_PROBES // len(shown))
        return data | {
            "views": [_view_data(run, view, stacks[view], probes, read) for view in shown],
            "cost": tiles.cost_tile(run),
            "tasks": _tasks_data(run, shown),
            "further": further_data(run, read),
            "examples": _examples_data(run, stacks),
        }


def _examples_data(run: Run, stacks: Mapping[View, PairStack | None]) -> dict[str, dict[int, str]]:
    """Images of the classes that the tables of worst pairs name, once for all encoders."""
    seen: dict[str, list[PairStack]] = {view.task: [] for view in stacks}
    for view, stack in stacks.items():
        seen[view.task] += [] if stack is None else [stack]
    return read_examples(run.folder, {task: named_classes(found) for task, found in seen.items()})


def _view_data(
    run: Run, view: View, stack: PairStack | None, max_probes: int, read_matrix: ReadMatrix
) -> dict[str, Any]:
    numbers = few_shot(run, view, max_probes=max_probes)
    variance = variance_parts(run, view, max_probes=max_probes, read_matrix=read_matrix)
    return {
        "encoder": view.encoder,
        "task": view.task,
        "averages": [_average_data(run, view, average) for average in recorded_averages(run, view)],
        "unrecorded": tiles.collapse_tiles(run, None),
        "resolved": tiles.resolved_tile(run, view),
        "fewShot": None if numbers is None else _few_shot_data(numbers),
        "variance": None if variance is None else _variance_data(view, variance),
        "stack": None if stack is None else pairs_data(run, view, stack),
    }


def _average_data(run: Run, view: View, average: str) -> dict[str, Any]:
    drawn = curves(run, view, average)
    ends = [
        f"{LOOKS[metric].title} went from {in_digits(values[0])} to {in_digits(values[-1])}"
        for metric in METRICS
        for values in [getattr(drawn, metric)]
    ]
    return {
        "name": average,
        "note": tiles.AVERAGE_NOTES[average],
        "tiles": tiles.collapse_tiles(run, drawn),
        "figure": plotly_spec(collapse_chart(drawn)),
        "words": f"Line chart over training, {average} over pairs. {'; '.join(ends)}.",
    }


def _few_shot_data(numbers: FewShot) -> dict[str, Any]:
    columns = range(len(numbers.shots))
    return {
        "shots": numbers.shots,
        "shown": numbers.shots[numbers.middle],
        "held": {name: name in numbers.shown(BOUNDS) for name in BOUNDS},
        "interval": bool(np.isfinite(numbers.low).any()),
        "steps": numbers.steps.tolist(),
        "labels": numbers.labels,
        "intervals": [
            [_interval(*ends) for ends in zip(*probe, strict=True)]
            for probe in zip(numbers.low, numbers.high, strict=True)
        ],
        "tiles": [tiles.few_shot_tiles(numbers, column) for column in columns],
        "curve": book(list(map(plotly_spec, shots_charts(numbers)))),
        "training": book([plotly_spec(tightness_chart(numbers, column)) for column in columns]),
        "words": [_latest_words(numbers, column) for column in columns],
    }


def _interval(low: float, high: float) -> str:
    whole = math.isfinite(low) and math.isfinite(high)
    return f"{in_digits(low)} to {bound_digits(high)}" if whole else ""


def _latest_words(numbers: FewShot, column: int) -> str:
    latest = {name: table[-1, column] for name, table in numbers.values.items()}
    bounds = [
        f"{LOOKS[name].title} {bound_digits(latest[name])}"
        for name in numbers.shown(OVER_TRAINING)
        if name != MEASURED
    ]
    error = error_words(latest[MEASURED], numbers.error_se[-1, column])
    return (
        f"Line chart over training at {tiles.shots_words(numbers.shots[column])} per class. "
        f"Latest: measured error {error}, {', '.join(bounds)}."
    )


def _tasks_data(run: Run, shown: Sequence[View]) -> list[dict[str, Any]]:
    """What the tasks of each encoder say together, for encoders with several."""
    encoders = {view.encoder: [v for v in shown if v.encoder == view.encoder] for view in shown}
    budget = TASK_VALUES // len(encoders)
    found = (task_pairs(run, views, max_values=budget) for views in encoders.values())
    return [_task_pairs_data(numbers) for numbers in found if numbers is not None]


def _task_pairs_data(numbers: TaskPairs) -> dict[str, Any]:
    tables = {"cos": numbers.abs_cos, "largest": numbers.largest, "bound": numbers.bound}
    return {
        "encoder": numbers.encoder,
        "tasks": numbers.tasks,
        "pairs": numbers.pairs,
        "steps": numbers.steps.tolist(),
        "labels": numbers.labels,
        "values": {name: [digits(row, 4) for row in table] for name, table in tables.items()},
        "dependence": digits(numbers.dependence, 4),
        "floor": digits([numbers.floor])[0],
        "heatmap": frame(plotly_spec(angle_matrix(numbers))),
        "cosine": frame(plotly_spec(cosine_chart(numbers, 0))),
        "averages": list(numbers.curves),
        "curves": book([side_by_side(*task_charts(numbers, a)) for a in numbers.curves]),
        "words": [_curves_words(numbers, average) for average in numbers.curves],
    }


def _curves_words(numbers: TaskPairs, average: str) -> str:
    count, latest = len(numbers.tasks), numbers.curves[average]
    told = [
        f"; {task}: "
        + ", ".join(f"{LOOKS[m].title} {in_digits(latest[m][-1, k])}" for m in METRICS)
        for k, task in enumerate(numbers.tasks)
    ]
    return (
        f"Line charts over training of {count} tasks, {average} over pairs. "
        f"Latest{''.join(told) if count <= MOST_TOLD else ''}."
    )


def _variance_data(view: View, parts: VarianceParts) -> dict[str, Any]:
    probes, share = range(len(parts.steps)), share_chart(parts)
    bars = [variance_bars(parts, at) for at in probes]
    latest = [f"{line.name} {in_digits(line.y[-1])} %" for line in share.lines]
    about = {len(parts.names(at)): _about(view, parts.names(at)) for at in probes}
    return {
        "steps": parts.steps.tolist(),
        "labels": parts.labels,
        "about": about,
        "words": [_parts_words(parts, at, bars[at].parts[0].words) for at in probes],
        "bars": book(list(map(plotly_spec, bars))),
        "share": plotly_spec(share),
        "shareWords": "Line chart over training of the share of the variance on the axis. "
        f"Latest: {', '.join(latest)}.",
    }


def _about(view: View, names: Sequence[str]) -> str:
    several = f"the {', '.join(names[:-1])} and {names[-1]} pairs of classes"
    return (
        f"Within-class variance of {several if len(names) > 1 else 'the only pair of classes'} of "
        f"task “{view.task}” by directional CDNV: on the decision axis, in the widest direction "
        "orthogonal to it, in the next 9, the next 90, and in all others."
    )


def _parts_words(parts: VarianceParts, at: int, shares: Sequence[str]) -> str:
    rows = zip(parts.names(at), parts.pairs[at], shares, strict=True)
    told = [f"{name} pair, {a} and {b}: {share} on the axis" for name, (a, b), share in rows]
    return f"Stacked bars at {parts.labels[at]}. {'; '.join(told)}."
