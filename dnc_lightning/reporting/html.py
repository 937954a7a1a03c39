"""One self-contained page per run: no request leaves it."""

from __future__ import annotations

import base64
import json
import math
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from dnc_lightning.reporting.archives import Archives, ReadMatrix
from dnc_lightning.reporting.facts import Remark, remarks, run_facts
from dnc_lightning.reporting.few_shot import FewShot, few_shot
from dnc_lightning.reporting.few_shot_figures import (
    shots_spec,
    shots_traces,
    tightness_axis,
    tightness_spec,
    tightness_traces,
)
from dnc_lightning.reporting.figures import collapse_spec, pair_spec
from dnc_lightning.reporting.files import write_atomically
from dnc_lightning.reporting.plotting import require_plotly
from dnc_lightning.reporting.records import Run, read_run
from dnc_lightning.reporting.tasks import TaskPairs, VarianceParts, task_pairs, variance_parts
from dnc_lightning.reporting.tasks_figures import (
    cosine_spec,
    task_curves_spec,
    task_curves_traces,
    task_heatmap_spec,
)
from dnc_lightning.reporting.tasks_variance import axis_share_spec, variance_spec, variance_traces
from dnc_lightning.reporting.theme import DARK, FONT, LIGHT, css_variables
from dnc_lightning.reporting.views import (
    METRICS,
    PairStack,
    View,
    curves,
    moment,
    pair_stack,
    recorded_averages,
    views,
)

THEMES = {"light": LIGHT, "dark": DARK}
MATRIX_BYTES = 6_000_000  # of all matrices in base64: keeps the page under 15 MB
MOST_CLASSES = 160
FEW_SHOT_PROBES = 1500  # of all views together: about 2 MB
TASK_VALUES = 150_000  # of all pairs of tasks together: about 1 MB
SCRIPTS = ("base.js", "overview.js", "few_shot.js", "tasks.js", "pairs.js", "report.js")


def write_report(
    run: Run | str | os.PathLike[str], path: str | os.PathLike[str], *, finished: bool = True
) -> Path:
    """Write a run's page, replacing an older one in one step.

    Args:
        run: A run, or the folder of one.
        path: File to write.
        finished: Whether training is over; otherwise the page refreshes itself until told not to.

    Returns:
        The path.

    Raises:
        FileNotFoundError: If `run` is a folder without records.
        ModuleNotFoundError: If plotly is not installed.
        OSError: If the page cannot be written; an older one is then unchanged.
        ValueError: If the records are of a newer version.
    """
    require_plotly()
    run = run if isinstance(run, Run) else read_run(run)
    path = Path(path)
    write_atomically(path, page(run, finished=finished).encode())
    return path


def page(run: Run, *, finished: bool) -> str:
    """Return the HTML of a run's page; see `write_report`."""
    from plotly.offline import get_plotlyjs

    shown = views(run) if run.records else []
    cautions = remarks(run.records, "warnings") + [Remark(problem, "") for problem in run.problems]
    return Template(_asset("report.html")).substitute(
        title=escape(str(run.header.get("model") or "Run")),
        summary=escape(_summary(run)),
        status="finished" if finished else "training",
        status_text="Finished" if finished else "Training",
        written=escape(time.strftime("%Y-%m-%d %H:%M:%S")),
        hidden_when_empty="" if shown else "hidden",
        hidden_when_shown="hidden" if shown else "",
        caution_count=len(cautions),
        hidden_without_cautions="" if cautions else "hidden",
        cautions=_remark_items(cautions, "No warnings."),
        notes=_remark_items(remarks(run.records, "notes"), "No notes."),
        facts="".join(
            f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
            for name, value in run_facts(run)
        ),
        style=_asset("report.css"),
        font=FONT,
        light=css_variables(LIGHT),
        dark=css_variables(DARK),
        plotly=get_plotlyjs(),
        script="".join(map(_asset, SCRIPTS)),
        data=_script_json(_data(run, shown, finished)),
    )


def _data(run: Run, shown: Sequence[View], finished: bool) -> dict[str, Any]:
    last = run.records[-1].scalars if run.records else {}
    budget = MATRIX_BYTES * 3 // 4 // 2 // max(1, len(shown))  # base64, then two bytes a value
    probes = max(2, FEW_SHOT_PROBES // max(1, len(shown)))
    with Archives(run) as archives:
        views_data = [_view_data(run, view, budget, probes, archives.read) for view in shown]
    return {
        "finished": finished,
        "probes": len(run.records),
        "overhead": _ending(last, "/overhead"),
        "seconds": _ending(last, "/seconds"),
        "views": views_data,
        "tasks": _tasks_data(run, shown),
    }


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
            name: {
                "heatmap": task_heatmap_spec(numbers, theme),
                "cosine": cosine_spec(numbers, theme),
                "curves": task_curves_spec(numbers, theme),
            }
            for name, theme in THEMES.items()
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
        "figures": {
            name: {"bars": variance_spec(theme), "share": axis_share_spec(parts, theme)}
            for name, theme in THEMES.items()
        },
    }


def _view_data(
    run: Run, view: View, max_values: int, max_probes: int, read_matrix: ReadMatrix
) -> dict[str, Any]:
    first, last = run.records[0], run.records[-1]
    numbers = few_shot(run, view, max_probes=max_probes)
    variance = variance_parts(run, view, max_probes=max_probes, read_matrix=read_matrix)
    stack = pair_stack(
        run, view, max_values=max_values, max_classes=MOST_CLASSES, read_matrix=read_matrix
    )
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
        "figures": {name: collapse_spec(drawn, theme) for name, theme in THEMES.items()},
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
            name: {"shots": shots_spec(numbers, theme), "training": tightness_spec(numbers, theme)}
            for name, theme in THEMES.items()
        },
    }


def _stack_data(run: Run, view: View, stack: PairStack) -> dict[str, Any]:
    classes = [view.classes[index] for index in stack.chosen]
    records = [run.records[position] for position in stack.positions]
    metrics: dict[str, Any] = {
        metric: {
            "bounds": stack.bounds[metric],
            "codes": base64.b64encode(stack.codes[metric].astype("<u2").tobytes()).decode(),
            "figures": {
                name: pair_spec(classes, metric, stack.bounds[metric], theme)
                for name, theme in THEMES.items()
            },
        }
        for metric in METRICS
    }
    return {
        "classes": classes,
        "allClasses": len(view.classes),
        "steps": [record.step for record in records],
        "labels": [moment(record) for record in records],
        "probes": len(run.records),
        **metrics,
    }


def _script_json(content: Mapping[str, Any]) -> str:
    # A "<" can only be inside a string there, where it could end the script element.
    return json.dumps(content, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _number(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _digits(values: Iterable[float], digits: int = 6) -> list[float | None]:
    return [float(f"{value:.{digits}g}") if math.isfinite(value) else None for value in values]


def _ending(scalars: Mapping[str, float], ending: str) -> float | None:
    return _number(next((v for key, v in scalars.items() if key.endswith(ending)), None))


def _summary(run: Run) -> str:
    if not run.records:
        return "No probe yet"
    count = len(run.records)
    return f"{count:,} {'probe' if count == 1 else 'probes'}, latest at {moment(run.records[-1])}"


def _remark_items(found: Sequence[Remark], none: str) -> str:
    if not found:
        return f'<li class="none">{escape(none)}</li>'
    return "".join(
        f"<li><span>{escape(remark.text)}</span> <small>{escape(remark.when)}</small></li>"
        for remark in found
    )


@lru_cache
def _asset(name: str) -> str:
    return files("dnc_lightning.reporting").joinpath("assets", name).read_text(encoding="utf-8")
