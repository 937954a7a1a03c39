"""One self-contained page for several runs: methods side by side, seeds as a line and a band."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dnc_lightning.records.files import write_atomically
from dnc_lightning.reporting.compare.figures import (
    PALETTES,
    dash,
    frame,
    lowest_error,
    shots_picture,
    training_picture,
)
from dnc_lightning.reporting.compare.further import compared
from dnc_lightning.reporting.compare.numbers import (
    Fall,
    Numbers,
    band,
    geometric_mean,
    numbers,
    orthogonality,
    over_shots,
    over_training,
    overhead,
    plain_mean,
)
from dnc_lightning.reporting.compare_runs import Found, Group
from dnc_lightning.reporting.draw.plotly import plotly_spec
from dnc_lightning.reporting.read.facts import remarks
from dnc_lightning.reporting.read.views import (
    AVERAGES,
    METRICS,
    View,
    duration,
    recorded_averages,
)
from dnc_lightning.reporting.template import render
from dnc_lightning.reporting.words import sentence

SCRIPTS = ("base.js", "further.js", "compare.js")


@dataclass(frozen=True)
class Method:
    """One line of the comparison: a group of runs, seen through one encoder."""

    label: str
    group: Group
    encoder: str

    def view(self, task: str) -> View | None:
        """Return the view of a task, if these runs have it."""
        views = (v for v in self.group.views if v.encoder == self.encoder and v.task == task)
        return next(views, None)


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
    )


def methods_of(groups: Sequence[Group]) -> list[Method]:
    """Return every group and encoder; the label names the encoder where a group has several."""
    methods = []
    for group in groups:
        encoders = list(dict.fromkeys(view.encoder for view in group.views))
        for encoder in encoders:
            label = group.label if len(encoders) == 1 else f"{group.label} · {encoder}"
            methods.append(Method(label, group, encoder))
    return methods


def comparison_data(groups: Sequence[Group], methods: Sequence[Method]) -> dict[str, Any]:
    """Return everything that the page's script shows, as plain JSON values."""
    tasks = dict.fromkeys(view.task for group in groups for view in group.views)
    across = _orthogonality(methods)
    return {
        "finished": True,
        "methods": [
            {"label": m.label, "seeds": len(m.group.runs), "dash": dash(i)}
            for i, m in enumerate(methods)
        ],
        "palettes": PALETTES,
        "frames": {
            "collapse": frame("Variance over squared distance"),
            "errors": frame("Error rate"),
            "across": frame("Mean |cos|"),
        },
        "tasks": [_task_data(task, methods) for task in tasks],
        "across": across,
        "further": _further_data(methods),
        "groups": [_group_data(group) for group in groups],
    }


def _task_data(task: str, methods: Sequence[Method]) -> dict[str, Any]:
    names = [method.label for method in methods]
    seen = [(method, view) for method in methods if (view := method.view(task)) is not None]
    held = {a for m, v in seen for named in m.group.runs for a in recorded_averages(named.run, v)}
    errors = [_bands(methods, task, "few_shot_error"), _bands(methods, task, "certificate")]
    shots = sorted({int(m) for bands in errors for found in bands for m in found.x})
    lowest = lowest_error([found for bands in errors for found in bands])
    rows = {average: [_row(m, m.view(task), average) for m in methods] for average in AVERAGES}
    shown = [row["middle"] for row in rows["mean"] if row and row["middle"] is not None]
    return {
        "task": task,
        "averages": [
            {
                "name": average,
                "rows": rows[average],
                **{
                    metric: training_picture(
                        [
                            band([], geometric=True)
                            if (view := m.view(task)) is None
                            else over_training(
                                m.group.runs, f"{view.prefix}/{metric}{AVERAGES[average]}"
                            )
                            for m in methods
                        ],
                        names,
                    )
                    for metric in METRICS
                },
            }
            for average in AVERAGES
            if average in held
        ],
        "shots": shots,
        "shown": max(set(shown), key=shown.count) if shown else None,
        "error": shots_picture(errors[0], names, shots, lowest),
        "certificate": shots_picture(errors[1], names, shots, lowest),
    }


def _bands(methods: Sequence[Method], task: str, series: Any) -> list[Any]:
    return [
        band([], geometric=False)
        if (view := method.view(task)) is None
        else over_shots(method.group, view, series)
        for method in methods
    ]


def _row(method: Method, view: View | None, average: str) -> dict[str, Any] | None:
    """Return one line of the table: averages over seeds, and their extremes where they matter."""
    if view is None:
        return None
    seeds = [numbers(named.run, view, average) for named in method.group.runs]
    shots = sorted({m for seed in seeds for m in seed.shots})
    first = seeds[0]

    def at(table: Callable[[Numbers], Any], m: int) -> float | None:
        values = [table(s)[s.shots.index(m)] for s in seeds if m in s.shots]
        return _number(plain_mean([float(value) for value in values]))

    needed = [seed.needed for seed in seeds if math.isfinite(seed.needed)]
    return {
        **{metric: _fall([getattr(seed, metric) for seed in seeds]) for metric in METRICS},
        "ratio": _number(geometric_mean([seed.ratio for seed in seeds])),
        "certificate": {m: at(lambda s: s.certificate, m) for m in shots},
        "error": {m: at(lambda s: s.error, m) for m in shots},
        "middle": first.shots[first.middle] if first.middle >= 0 else None,
        "needed": _number(plain_mean(needed)),
        "enough": len(needed),  # seeds for which some number of shots suffices
        "target": _number(first.target),
        "steps": max(named.run.records[-1].step for named in method.group.runs),
        "overhead": _number(plain_mean([overhead(named.run) for named in method.group.runs])),
    }


def _fall(falls: Sequence[Fall]) -> dict[str, Any]:
    factors = [fall.factor for fall in falls if math.isfinite(fall.factor)]
    return {
        "first": _number(geometric_mean([fall.first for fall in falls])),
        "last": _number(geometric_mean([fall.last for fall in falls])),
        "fall": _number(geometric_mean(factors)),
        "span": [min(factors), max(factors)] if len(factors) > 1 else None,
    }


def _orthogonality(methods: Sequence[Method]) -> dict[str, Any] | None:
    """Return |cos| over training and at both ends, or None if no run recorded it."""
    bands, rows = [], []
    for method in methods:
        found = [orthogonality(named.run, method.encoder) for named in method.group.runs]
        found = [entry for entry in found if len(entry[0])]
        bands.append(band([(steps, values) for steps, values, _ in found], geometric=True))
        rows.append(
            {
                "first": _number(plain_mean([float(values[0]) for _, values, _ in found])),
                "last": _number(plain_mean([float(values[-1]) for _, values, _ in found])),
                "floor": _number(plain_mean([floor for *_, floor in found])),
            }
        )
    if not any(found.x for found in bands):
        return None
    return {**training_picture(bands, [method.label for method in methods]), "rows": rows}


def _further_data(methods: Sequence[Method]) -> list[dict[str, Any]]:
    found = compared([(method.label, method.group, method.encoder) for method in methods])
    return [
        {
            "task": entry.task,
            "group": entry.series.group,
            "title": entry.title,
            "meaning": sentence(entry.series.meaning),
            "figure": plotly_spec(entry.picture),
        }
        for entry in found
    ]


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


def _number(value: float) -> float | None:
    return float(f"{value:.6g}") if math.isfinite(value) else None
