"""Everything a run's page draws, as plain JSON values."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dnc_lightning.records.archives import Archives, ReadMatrix
from dnc_lightning.records.store import Run
from dnc_lightning.reporting.page.collapse import collapse_spec, pair_spec
from dnc_lightning.reporting.page.few_shot import (
    shots_spec,
    shots_traces,
    tightness_axis,
    tightness_spec,
    tightness_traces,
)
from dnc_lightning.reporting.page.further import further_data
from dnc_lightning.reporting.page.tasks import (
    cosine_spec,
    task_curves_spec,
    task_curves_traces,
    task_heatmap_spec,
)
from dnc_lightning.reporting.page.variance import axis_share_spec, variance_spec, variance_traces
from dnc_lightning.reporting.read.examples import WORST_PAIRS, named_classes, read_examples
from dnc_lightning.reporting.read.few_shot import FewShot, few_shot
from dnc_lightning.reporting.read.tasks import TaskPairs, VarianceParts, task_pairs, variance_parts
from dnc_lightning.reporting.read.views import (
    METRICS,
    PairStack,
    View,
    curves,
    moment,
    pair_stack,
    recorded_averages,
)
from dnc_lightning.reporting.theme import ROLES

MATRIX_BYTES = 5_000_000  # of all matrices in base64: keeps the page under 15 MB
MOST_CLASSES = 160
FEW_SHOT_PROBES = 1000  # of all views together: about 3.5 MB with their variance
TASK_VALUES = 150_000  # of all pairs of tasks together: about 1 MB


def page_data(run: Run, shown: Sequence[View], *, finished: bool) -> dict[str, Any]:
    """Return what the scripts of a run's page read.

    Args:
        run: The run.
        shown: Its encoders and tasks; empty before the first probe.
        finished: Whether training is over.
    """
    last = run.records[-1].scalars if run.records else {}
    budget = MATRIX_BYTES * 3 // 4 // 2 // max(1, len(shown))  # base64, then two bytes a value
    probes = max(2, FEW_SHOT_PROBES // max(1, len(shown)))
    with Archives(run) as archives:
        stacks = {
            view: pair_stack(
                run,
                view,
                max_values=budget,
                max_classes=MOST_CLASSES,
                read_matrix=archives.read,
            )
            for view in shown
        }
        further = further_data(run, archives.read) if shown else []
        views_data = [_view_data(run, view, stacks[view], probes, archives.read) for view in shown]
    return {
        "finished": finished,
        "probes": len(run.records),
        "overhead": _ending(last, "/overhead"),
        "seconds": _ending(last, "/seconds"),
        "views": views_data,
        "tasks": _tasks_data(run, shown),
        "further": further,
        "worst": WORST_PAIRS,
        "examples": _examples_data(run, stacks),
    }


def _examples_data(run: Run, stacks: Mapping[View, PairStack | None]) -> dict[str, dict[int, str]]:
    """Images of the classes that the tables of worst pairs name, once for all encoders."""
    seen = {
        task: [stack for view, stack in stacks.items() if view.task == task and stack is not None]
        for task in {view.task: None for view in stacks}
    }
    return read_examples(run.folder, {task: named_classes(found) for task, found in seen.items()})


def _tasks_data(run: Run, shown: Sequence[View]) -> list[dict[str, Any]]:
    """What the tasks of each encoder say together, for encoders with several."""
    encoders = {view.encoder: [v for v in shown if v.encoder == view.encoder] for view in shown}
    budget = TASK_VALUES // max(1, len(encoders))
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
        "values": {name: [_digits(row, 4) for row in table] for name, table in tables.items()},
        "dependence": _digits(numbers.dependence, 4),
        "floor": _number(numbers.floor),
        "curves": {average: task_curves_traces(numbers, average) for average in numbers.curves},
        "figures": {
            "heatmap": task_heatmap_spec(numbers, ROLES),
            "cosine": cosine_spec(numbers, ROLES),
            "curves": task_curves_spec(numbers, ROLES),
        },
    }


def _variance_data(parts: VarianceParts) -> dict[str, Any]:
    return {
        "steps": parts.steps.tolist(),
        "labels": parts.labels,
        "pairs": [
            dict(zip(parts.names(at), pairs, strict=True)) for at, pairs in enumerate(parts.pairs)
        ],
        "atProbe": [variance_traces(parts, at) for at in range(len(parts.steps))],
        "figures": {"bars": variance_spec(ROLES), "share": axis_share_spec(parts, ROLES)},
    }


def _view_data(
    run: Run, view: View, stack: PairStack | None, max_probes: int, read_matrix: ReadMatrix
) -> dict[str, Any]:
    first, last = run.records[0], run.records[-1]
    numbers = few_shot(run, view, max_probes=max_probes)
    variance = variance_parts(run, view, max_probes=max_probes, read_matrix=read_matrix)
    return {
        "encoder": view.encoder,
        "task": view.task,
        "pairs": len(view.classes) * (len(view.classes) - 1),
        "resolved": _number(last.scalars.get(f"{view.prefix}/resolved_pairs")),
        "startStep": first.step,
        "calibrated": bool(first.uncalibrated),
        "averages": [_average_data(run, view, average) for average in recorded_averages(run, view)],
        "fewShot": None if numbers is None else _few_shot_data(numbers),
        "variance": None if variance is None else _variance_data(variance),
        "stack": None if stack is None else _stack_data(run, view, stack),
    }


def _average_data(run: Run, view: View, average: str) -> dict[str, Any]:
    drawn = curves(run, view, average)
    values = (drawn.cdnv, drawn.directional_cdnv)
    return {
        "name": average,
        "start": [_number(series[0]) for series in values],
        "now": [_number(series[-1]) for series in values],
        "figure": collapse_spec(drawn, ROLES),
    }


def _few_shot_data(numbers: FewShot) -> dict[str, Any]:
    columns = range(len(numbers.shots))
    tables = {str(name): table for name, table in numbers.values.items()}
    tables |= {"se": numbers.error_se, "low": numbers.low, "high": numbers.high}
    return {
        "shots": numbers.shots,
        "shown": numbers.shots[numbers.middle],
        "chance": numbers.chance,
        "target": numbers.target,
        "needed": _number(numbers.needed[-1]),
        "asked": numbers.asked,
        "steps": numbers.steps.tolist(),
        "labels": numbers.labels,
        "values": {name: [_digits(row) for row in table] for name, table in tables.items()},
        "atProbe": shots_traces(numbers),
        "atShots": [tightness_traces(numbers, column) for column in columns],
        "axes": [tightness_axis(numbers, column) for column in columns],
        "figures": {
            "shots": shots_spec(numbers, ROLES),
            "training": tightness_spec(numbers, ROLES),
        },
    }


def _stack_data(run: Run, view: View, stack: PairStack) -> dict[str, Any]:
    classes = [view.classes[index] for index in stack.chosen]
    records = [run.records[position] for position in stack.positions]
    metrics: dict[str, Any] = {
        metric: {
            "bounds": stack.bounds[metric],
            "codes": base64.b64encode(stack.codes[metric].astype("<u2").tobytes()).decode(),
            "figure": pair_spec(classes, metric, stack.bounds[metric], ROLES),
        }
        for metric in METRICS
    }
    return {
        "classes": classes,
        "chosen": stack.chosen,
        "allClasses": len(view.classes),
        "steps": [record.step for record in records],
        "labels": [moment(record) for record in records],
        "probes": len(run.records),
        **metrics,
    }


def _number(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _digits(values: Iterable[float], digits: int = 6) -> list[float | None]:
    return [float(f"{value:.{digits}g}") if math.isfinite(value) else None for value in values]


def _ending(scalars: Mapping[str, float], ending: str) -> float | None:
    return _number(next((v for key, v in scalars.items() if key.endswith(ending)), None))
