"""One self-contained page for several runs: methods side by side, seeds as a line and a band."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dnc_lightning.records.files import write_atomically
from dnc_lightning.reporting.charts.values import Chart, Line, Matrix
from dnc_lightning.reporting.compare.numbers import orthogonality, plain_mean
from dnc_lightning.reporting.compare.pictures import (
    BESIDE,
    Compared,
    across,
    collapse,
    compared,
    errors,
)
from dnc_lightning.reporting.compare.table import (
    metric_columns,
    rows_of,
    run_columns,
    shots_columns,
)
from dnc_lightning.reporting.compare_runs import Found, Group, Method, methods_of, tasks_of
from dnc_lightning.reporting.draw.look import method_dash
from dnc_lightning.reporting.draw.plotly import plotly_spec
from dnc_lightning.reporting.read.facts import remarks
from dnc_lightning.reporting.read.views import AVERAGES, METRICS, duration, recorded_averages
from dnc_lightning.reporting.template import render
from dnc_lightning.reporting.theme import ROLES
from dnc_lightning.reporting.words import in_digits, sentence

SCRIPTS = ("base.js", "further.js", "compare.js")


def write_comparison(found: Found, path: str | os.PathLike[str]) -> Path:
    """Write the page that compares runs, replacing an older one in one step.

    Args:
        found: At least one group of runs; see `find_runs`.
        path: File to write.

    Returns:
        The path.

    Raises:
        ModuleNotFoundError: If plotly is not installed.
        OSError: If the page cannot be written; an older one is then unchanged.
    """
    path = Path(path)
    write_atomically(path, comparison_page(found).encode())
    return path


def comparison_page(found: Found) -> str:
    """Return the HTML of the page; see `write_comparison`."""
    methods = methods_of(found.groups)
    runs, groups = len(found.runs), len(found.groups)
    return render(
        "compare.html",
        SCRIPTS,
        comparison_data(found.groups, methods),
        title=" vs ".join(g.label for g in found.groups) if groups < 4 else "Comparison",
        summary=(
            f"{groups} {'method' if groups == 1 else 'methods'}, "
            f"{runs} {'run' if runs == 1 else 'runs'}"
        ),
        problems=found.problems,
        once=all(method.once for method in methods),
    )


def comparison_data(groups: Sequence[Group], methods: Sequence[Method]) -> dict[str, Any]:
    """Return everything that the page's script shows, as plain JSON values."""
    return {
        "finished": True,
        "methods": [
            {
                "label": method.label,
                "seeds": len(method.runs),
                "colour": ROLES.methods[k % len(ROLES.methods)],
                "dash": " ".join(map(str, method_dash(k))),
            }
            for k, method in enumerate(methods)
        ],
        "tasks": [_task_data(task, methods) for task in tasks_of(methods)],
        "across": _across_data(methods),
        "further": [
            {
                "task": entry.task,
                "group": entry.series.group,
                "meaning": sentence(entry.series.meaning),
                **_figure(entry),
            }
            for entry in compared(methods)
        ],
        "groups": [_group_data(group) for group in groups],
    }


def _task_data(task: str, methods: Sequence[Method]) -> dict[str, Any]:
    seen = [(method, view) for method in methods if (view := method.view(task)) is not None]
    held = {a for m, v in seen for named in m.runs for a in recorded_averages(named.run, v)}
    rows = {average: rows_of(methods, task, average) for average in AVERAGES}
    seeds = [seed for row in rows["mean"] for seed in row or ()]
    shots = sorted({m for seed in seeds for m in seed.shots})
    shown = [seed.shots[seed.middle] for seed in seeds if seed.middle >= 0]
    pictures = errors(methods, task, BESIDE)
    return {
        "task": task,
        "averages": [
            {
                "name": average,
                "columns": metric_columns(methods, rows[average]),
                **{m: _figure(collapse(methods, task, m, average)) for m in METRICS},
            }
            for average in AVERAGES
            if average in held
        ],
        "shots": shots,
        "shown": max(set(shown), key=shown.count) if shown else None,
        "at": {m: shots_columns(methods, rows["mean"], m) for m in shots},
        "columns": run_columns(methods, rows["mean"]),
        **dict(zip(("error", "certificate"), map(_figure, pictures), strict=False)),
    }


def _across_data(methods: Sequence[Method]) -> dict[str, Any] | None:
    """Return |cos| over training and at both ends, or None if no run recorded it."""
    entry = across(methods)
    if entry.picture.empty:
        return None
    words = []
    for method in methods:
        found = [orthogonality(named.run, method.encoder) for named in method.runs]
        first, last = (plain_mean([v[end] for _, v, _ in found if len(v)]) for end in (0, -1))
        floor = plain_mean([floor for *_, floor in found])
        chance = f" ({in_digits(floor)} by chance)" if math.isfinite(floor) else ""
        moved = in_digits(last) if method.once else f"{in_digits(first)} → {in_digits(last)}"
        ends = f"{method.label}: {moved}{chance}"
        words.append(ends if math.isfinite(first) else "")
    return {**_figure(entry), "ends": words}


def _figure(entry: Compared[Chart | Matrix]) -> dict[str, Any]:
    """Return a picture, its title, and what each method has in it, for those who do not see it."""
    picture = entry.picture
    words = {0: picture.shown} if isinstance(picture, Matrix) else dict(map(_ends, picture.lines))
    return {"title": picture.title, "figure": plotly_spec(picture), "words": words}


def _ends(line: Line) -> tuple[int, str]:
    return line.order, f"{line.name} from {in_digits(line.y[0])} to {in_digits(line.y[-1])}"


def _group_data(group: Group) -> dict[str, Any]:
    return {
        "label": group.label,
        "runs": [
            {
                "name": named.name,
                "model": str(named.run.header.get("model") or ""),
                "probes": len(named.run.records),
                "step": named.run.records[-1].step,
                "time": duration(named.run.records[-1].time)
                if math.isfinite(named.run.records[-1].time)
                else "",
                "warnings": len(remarks(named.run.records, "warnings")) + len(named.run.problems),
            }
            for named in group.runs
        ],
    }
