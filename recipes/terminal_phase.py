"""Trains classifiers far beyond their last mistake and writes docs/terminal_phase.md.

Run `make terminal`: balanced classes, wrong labels, long tails, and self-supervision beside them,
each in a process and on a core of its own. Finished runs are not repeated.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from recipes.data.fashion_studies import Profile, sizes
from recipes.reproduce import Job, run_all
from recipes.study import study_parser
from recipes.terminal_page import write_page


@dataclass(frozen=True)
class Imbalanced:
    """Sizes of the training classes of one run."""

    largest: int
    ratio: int
    profile: Profile
    weight_decay: float = 5e-4
    decay_all: bool = False  # of biases and norms too, which bounds the features

    @property
    def counts(self) -> list[int]:
        """Training images of the ten classes."""
        return sizes(self.largest, self.ratio, self.profile, 10)


IMBALANCED = {
    "tail10": Imbalanced(400, 10, "tail"),
    "tail100": Imbalanced(400, 100, "tail"),
    "step": Imbalanced(1000, 1000, "step"),
    "decay": Imbalanced(1000, 1000, "step", 5e-3, decay_all=True),
}
NOISE = 0.2


def study_jobs(root: Path, max_steps: int | None = None) -> list[Job]:
    """The runs of the page, by their variants.

    Args:
        root: Folder of all runs.
        max_steps: In place of the configured numbers.
    """

    def job(variant: str, *arguments: str, method: str = "supervised") -> Job:
        data = "terminal" if method == "supervised" else "fashion"
        return Job(method, data, root, 0, max_steps, variant, arguments)

    noisy = job("noise", f"--data.init_args.noise={NOISE}")
    tails = [job(name, *_imbalanced(how)) for name, how in IMBALANCED.items()]
    layers = ("--probe.encoder=backbone:*", '--probe.metrics=["collapse","simplex"]')
    return [job("balanced"), noisy, *tails, job("layers", *layers, method="simclr")]


def _imbalanced(how: Imbalanced) -> list[str]:
    metrics = [
        "collapse",
        "simplex",
        {"class_path": "dnc_lightning.instruments.Duality", "init_args": {"head": "classifier"}},
        {
            "class_path": "dnc_lightning.instruments.Imbalance",
            "init_args": {"counts": how.counts, "head": "classifier"},
        },
    ]
    return [
        f"--data.init_args.per_class={how.largest}",
        f"--data.init_args.ratio={how.ratio}",
        f"--data.init_args.profile={how.profile}",
        f"--model.optimization.weight_decay={how.weight_decay}",
        f"--model.optimization.decay_all={str(how.decay_all).lower()}",
        "--data.init_args.probe_split=test",
        "--probe.encoder=backbone",
        f"--probe.metrics={json.dumps(metrics)}",
    ]


def main() -> None:
    """Parse the command line, run, and write the page."""
    parser = study_parser(__doc__.splitlines()[0], "terminal")
    options = parser.parse_args()
    jobs = study_jobs(options.runs, options.max_steps)
    if not options.page_only:
        run_all(jobs, options.parallel)
    runs = {job.variant: run for job in jobs if (run := job.run())}
    counts = {name: how.counts for name, how in IMBALANCED.items()}
    print(f"wrote {write_page(runs, options.out, counts)}")


if __name__ == "__main__":
    main()
