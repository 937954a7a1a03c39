"""One self-contained page per run: no request leaves it."""

from __future__ import annotations

import os
from pathlib import Path

from dnc_lightning.records.files import write_atomically
from dnc_lightning.records.store import Run, read_run
from dnc_lightning.reporting.page.data import page_data
from dnc_lightning.reporting.read.alarm import ALARM, alarm_words
from dnc_lightning.reporting.read.best import BEST_LEGEND, choices
from dnc_lightning.reporting.read.facts import Remark, remarks, run_facts
from dnc_lightning.reporting.read.few_shot import SERIES
from dnc_lightning.reporting.read.findings import findings
from dnc_lightning.reporting.read.views import moment, views
from dnc_lightning.reporting.template import render
from dnc_lightning.reporting.theme import LOOKS

SCRIPTS = ("base.js", "overview.js", "few_shot.js", "tasks.js", "pairs.js", "further.js")


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


def page(run: Run, *, finished: bool, live: str = "", bare: bool = False) -> str:
    """Return the HTML of a run's page; see `write_report`.

    Args:
        run: The run.
        finished: Whether training is over.
        live: What tells this state of the run from others, where a server sends news of it; empty
            for a page that is a file.
        bare: Leave the scripts out, for a page that has them.
    """
    shown = views(run) if run.records else []
    problems = [Remark(problem, "") for problem in run.problems]
    found = [Remark(words, "") for words in findings(run)]
    cautions = [*found, *remarks(run.records, "warnings")]
    return render(
        "report.html",
        () if bare else (*SCRIPTS, "report.js", "live.js" if live else "reload.js"),
        page_data(run, shown, finished=finished) | {"live": live},
        plotted=not bare,
        live=bool(live),
        title=str(run.header.get("model") or "Run"),
        summary=_summary(run),
        finished=finished,
        shown=bool(shown),
        once=finished and len(run.records) == 1,
        measured={name: LOOKS[name].title for name in SERIES},
        alarms=alarm_words(run),
        cautions=[*(c for c in cautions if not c.text.startswith(ALARM)), *problems],
        notes=remarks(run.records, "notes"),
        facts=run_facts(run),
        choices=choices(run),
        choices_read=BEST_LEGEND,
    )


def _summary(run: Run) -> str:
    if not run.records:
        return "No probe yet"
    count = len(run.records)
    return f"{count:,} {'probe' if count == 1 else 'probes'}, latest at {moment(run.records[-1])}"
