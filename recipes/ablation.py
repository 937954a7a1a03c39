"""Trains with directional collapse as a loss, and without, and writes docs/training.md.

Run `make ablation`. Every error on that page is of tasks that the loss did not see, save where it
says so. Finished runs are not repeated.
"""

from __future__ import annotations

import json
from pathlib import Path

from recipes.ablation_page import Trained, write_page
from recipes.reproduce import Job, run_all
from recipes.study import study_parser

SHARE = 0.01
"""Of the training images, whose labels the semi-supervised variant sees."""

SEEN = {"factors": "shape", "fashion": "kind"}
"""The task whose labels are seen, where any are."""

KINDS = ("--data=recipes.data.FashionKinds", "--data.init_args.num_images=10000",
         "--data.init_args.batch_size=256", "--data.init_args.probe_per_class=200")  # fmt: skip
STEPS = {"factors": 1000, "fashion": 400}
PROBED = '--probe.metrics=["collapse","few_shot","orthogonality"]'


def study_jobs(root: Path, seeds: int, max_steps: int | None = None) -> list[Job]:
    """The runs of the page: data sets, variants, seeds.

    Args:
        root: Folder of all runs.
        seeds: Of every variant.
        max_steps: In place of `STEPS`.
    """
    found = []
    for data, seen in SEEN.items():
        few = json.dumps({"weight": 1.0, "labels": SHARE, "task": seen})
        variants = {
            "simclr": ("simclr", ()),
            "labels": ("simclr", (f"--model.directional={few}",)),
            "views": ("simclr", ('--model.directional={"weight": 1.0}',)),
            "linear": ("supervised", _classifier(data, seen, "linear")),
            "etf": ("supervised", _classifier(data, seen, "etf")),
        }
        for variant, (method, arguments) in variants.items():
            shared = (PROBED, *(KINDS if data == "fashion" else ()))
            found += [
                Job(method, data, root, seed, max_steps or STEPS[data], variant,
                    (*shared, *arguments))
                for seed in range(seeds)
            ]  # fmt: skip
    return found


def _classifier(data: str, seen: str, head: str) -> tuple[str, ...]:
    classes = {"factors": 4, "fashion": 5}[data]
    return (f"--model.task={seen}", f"--model.num_classes={classes}", f"--model.head={head}")


def main() -> None:
    """Parse the command line, run, and write the page."""
    parser = study_parser(__doc__.splitlines()[0], "ablation")
    parser.add_argument("--seeds", type=int, default=2, help="runs of every variant (default 2)")
    options = parser.parse_args()
    jobs = study_jobs(options.runs, options.seeds, options.max_steps)
    if not options.page_only:
        run_all(jobs, options.parallel)
    trained = [Trained(job.data, job.variant, job.seed, run) for job in jobs if (run := job.run())]
    print(f"wrote {write_page(trained, options.out, SEEN)}")


if __name__ == "__main__":
    main()
