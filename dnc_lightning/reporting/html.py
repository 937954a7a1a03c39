"""One self-contained page per run: no request leaves it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from dnc_lightning.records.files import write_atomically
from dnc_lightning.records.store import Run, read_run
from dnc_lightning.reporting.draw.axes import plotly_script
from dnc_lightning.reporting.page.data import page_data
from dnc_lightning.reporting.read.facts import Remark, remarks, run_facts
from dnc_lightning.reporting.read.views import moment, views
from dnc_lightning.reporting.theme import DARK, FONT, LIGHT, css_variables

SCRIPTS = (
    "base.js",
    "overview.js",
    "few_shot.js",
    "tasks.js",
    "pairs.js",
    "further.js",
    "report.js",
)


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
    run = run if isinstance(run, Run) else read_run(run)
    path = Path(path)
    write_atomically(path, page(run, finished=finished).encode())
    return path


def page(run: Run, *, finished: bool) -> str:
    """Return the HTML of a run's page; see `write_report`."""
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
        plotly=plotly_script(),
        script="".join(map(_asset, SCRIPTS)),
        data=_script_json(page_data(run, shown, finished=finished)),
    )


def _script_json(content: Mapping[str, Any]) -> str:
    # A "<" can only be inside a string there, where it could end the script element.
    return json.dumps(content, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


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
