"""Trains on places, ordered classes, sums and a text, and writes docs/other_targets.md.

Run `make targets`. Finished runs are not repeated.
"""

from __future__ import annotations

import json
from pathlib import Path

from recipes.data.places import COLUMNS
from recipes.other_page import write_page
from recipes.reproduce import Job, run_all
from recipes.study import study_parser

STILL = ("--model.views.min_scale=1.0", "--model.views.flip=0.0")
"""A view that is the image: a crop would move what is asked for."""


def study_jobs(root: Path, max_steps: int | None = None) -> list[Job]:
    """The runs of the page.

    Args:
        root: Folder of all runs.
        max_steps: In place of the configured numbers.
    """

    def job(method: str, data: str, variant: str, *arguments: str, steps: int | None = None) -> Job:
        return Job(method, data, root, 0, max_steps or steps, variant, arguments)

    ordinal = {
        "class_path": "dnc_lightning.instruments.Ordinal",
        "init_args": {"tasks": ["column"]},
    }
    across = {
        "class_path": "dnc_lightning.instruments.Regression",
        "init_args": {"target": "across", "head": "head"},
    }
    line = json.dumps(["collapse", "cyclic", ordinal, across])
    column = json.dumps(["collapse", "cyclic", ordinal])
    return [
        job("regression", "factors", "place"),
        job("regression", "factors", "across", "--model.target=across", "--model.num_outputs=1",
            f"--probe.metrics={line}"),
        job("supervised", "factors", "column", "--data=recipes.data.FactorsPlaces",
            "--data.init_args.batch_size=128", "--data.init_args.probe_per_class=200",
            "--model.task=column", f"--model.num_classes={COLUMNS}", *STILL,
            f"--probe.metrics={column}", steps=1000),
        job("modular_addition", "pairs", "wide"),
        job("modular_addition", "pairs", "narrow", "--model.width=2",
            "--model.optimization.weight_decay=0.3"),
        job("language", "python", "bytes"),
    ]  # fmt: skip


def main() -> None:
    """Parse the command line, run, and write the page."""
    parser = study_parser(__doc__.splitlines()[0], "targets")
    options = parser.parse_args()
    jobs = study_jobs(options.runs, options.max_steps)
    if not options.page_only:
        run_all(jobs, options.parallel)
    runs = {job.variant: run for job in jobs if (run := job.run())}
    print(f"wrote {write_page(runs, options.out)}")


if __name__ == "__main__":
    main()
