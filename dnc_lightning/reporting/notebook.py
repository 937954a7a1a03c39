"""Runs where people work on them: a table in the terminal, table and figures in a notebook."""

from __future__ import annotations

import io
import os
import sys
from typing import Any

from dnc_lightning.records.schema import plain
from dnc_lightning.records.store import Run
from dnc_lightning.reporting.compare_runs import find_runs, methods_of, tasks_of
from dnc_lightning.reporting.optional import installed
from dnc_lightning.reporting.paper.figures import RC, paper, papers
from dnc_lightning.reporting.terminal import print_run

DOTS_PER_INCH = 140


def show(*runs: Run | str | os.PathLike[str]) -> None:
    """Print a table of each run and, in a notebook, draw them: several side by side.

    Args:
        runs: Runs, their folders, or folders above several. Of a training that is going on or over,
            `ProbeCallback.run_dir_`; of `evaluate`, `Evaluation.show` does the same.

    Raises:
        FileNotFoundError: There is no run with a probe.
        ModuleNotFoundError: rich is not installed; the message names the extra.

    Examples:
        ```python
        trainer.fit(module)
        dnc_lightning.show(probe_callback.run_dir_)
        ```
    """
    found = find_runs([run.folder if isinstance(run, Run) else run for run in runs])
    if not found.runs:
        raise FileNotFoundError(" ".join(found.problems) or "expected at least one run, got none")
    for named in found.runs:
        print_run(named.run, named.name)
    for problem in found.problems:
        print(plain(problem), file=sys.stderr)
    if in_notebook() and installed("matplotlib"):
        _draw(found.groups)


def in_notebook() -> bool:
    """Whether this is a cell of a notebook, which shows pictures."""
    ipython: Any = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return hasattr(shell, "kernel")


def _draw(groups: Any) -> None:
    import matplotlib as mpl
    from IPython.display import Image, display

    methods = methods_of(groups)
    with mpl.rc_context(RC):
        for rows in papers(methods, tasks_of(methods)).values():
            picture = io.BytesIO()
            paper(rows, "double").savefig(picture, format="png", dpi=DOTS_PER_INCH)
            display(Image(picture.getvalue(), width=820))
