"""Which numbers predict the few-shot error, over the checkpoints of a run and over encoders.

Run `make validate`. It trains every method on both small data sets, evaluates a dozen checkpoints
of every run, a random encoder and one with ImageNet weights on two halves of held-out images, and
writes docs/validation.md: numbers of the one half against errors on the other. What is there
already is neither trained nor measured again.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from dnc_lightning import evaluate
from dnc_lightning.evaluation.data import load_probe
from dnc_lightning.evaluation.encoders import load_encoder
from dnc_lightning.evaluation.study import METRICS, OUTCOMES, Study, study
from dnc_lightning.evaluation.zoo import MEASURED
from recipes.outcome import METHODS
from recipes.reproduce import Job, run_all
from recipes.validation_page import Validation, write_page

DATA = {"factors": "recipes.data:Factors", "fashion": "recipes.data:FashionMNIST"}
MODULES = {
    "simclr": "recipes.simclr:SimCLR",
    "vicreg": "recipes.vicreg:VICReg",
    "dino": "recipes.dino:DINO",
    "dinov2": "recipes.dinov2:DINOv2",
    "mae": "recipes.mae:MAE",
    "supervised": "recipes.supervised:Supervised",
}
SHIPPED = "package:efficientnet_lite0"
STEPS, SEEDS, CHECKPOINTS, PER_CLASS = 400, (0, 1), 12, 240
SHOTS = (1, 5, 10, 50)
EARLY = 20
"""Step whose checkpoints stand in the zoo beside the last ones."""


@dataclass(frozen=True)
class Task:
    """One encoder to evaluate on both halves of a data set."""

    data: str
    name: str  # "simclr_seed0/000020"
    spec: str
    model: str | None = None


def main() -> None:
    """Parse the command line, train, evaluate, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, default=Path("runs/validation"))
    parser.add_argument("--out", type=Path, default=Path("docs"), help="folder of the page")
    parser.add_argument("--parallel", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--max-steps", type=int, default=STEPS)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--data", nargs="+", choices=list(DATA), default=list(DATA))
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--checkpoints", type=int, default=CHECKPOINTS, help="of each run")
    parser.add_argument("--per-class", type=int, default=PER_CLASS, help="images, of both halves")
    parser.add_argument(
        "--page-only", action="store_true", help="write the page from what is there"
    )
    options = parser.parse_args()
    jobs = [
        Job(method, data, options.runs / "trained", seed, options.max_steps)
        for data in options.data
        for seed in options.seeds
        for method in options.methods
    ]
    measured = options.runs / "measured"
    if not options.page_only:
        run_all(jobs, options.parallel)
        tasks = list(dict.fromkeys(_tasks(jobs, options.data, options.checkpoints)))
        context = get_context("spawn")
        with ProcessPoolExecutor(options.parallel, context, initializer=_alone) as pool:
            work = pool.map(partial(measure, measured, options.per_class), tasks)
            list(tqdm(work, "Evaluating", total=len(tasks), unit="encoder"))
    print(f"wrote {write_page(validation(measured, jobs, options.max_steps), options.out)}")


def measure(out: Path, per_class: int, task: Task) -> None:
    """Evaluate one encoder on both halves; what was measured before is read."""
    encoder = load_encoder(task.spec, model=task.model, name=task.name)
    halves = load_probe(DATA[task.data], per_class=per_class).halves()
    for name, half in zip((METRICS, OUTCOMES), halves, strict=True):
        folder = out / task.data
        options = {"metrics": MEASURED, "shots": SHOTS, "name": name, "page": False}
        evaluate(encoder, half, out=folder, accelerator="cpu", **options)


def validation(measured: Path, jobs: Sequence[Job], last: int) -> Validation:
    """Compare numbers and errors over the checkpoints of every run, and over encoders."""
    runs: dict[str, list[Study]] = {}
    for job in jobs:
        runs.setdefault(job.data, []).append(study([measured / job.data / _folder(job)]))
    chosen = {f"{_folder(job)}/{step:06d}" for job in jobs for step in _zoo_steps(job, last)}
    folders = [measured / data for data in dict.fromkeys(job.data for job in jobs)]
    zoo = {folder.name: study([folder], only=[*chosen, SHIPPED]) for folder in folders}
    both = study(folders, only=[*chosen, SHIPPED])
    return Validation(runs, zoo, both, last, tuple(dict.fromkeys(job.seed for job in jobs)))


def _tasks(jobs: Sequence[Job], data: Sequence[str], most: int) -> Iterator[Task]:
    for job in jobs:
        steps = _steps(job)
        for at in sorted({*np.linspace(0, len(steps) - 1, most).astype(int).tolist()}):
            step = list(steps)[at]
            yield _task(job, step, steps[step])
        for step in _zoo_steps(job, max(steps)):
            yield _task(job, step, steps[step])
    for name in data:
        yield Task(name, SHIPPED, SHIPPED)


def _task(job: Job, step: int, path: Path) -> Task:
    return Task(job.data, f"{_folder(job)}/{step:06d}", str(path), MODULES[job.method])


def _zoo_steps(job: Job, last: int) -> list[int]:
    """The last checkpoint, an early one, and, once a method, the untrained encoder."""
    early = min(_steps(job), key=lambda step: abs(step - EARLY))
    return [last, early, *([0] if job.seed == min(SEEDS) else [])]


def _steps(job: Job) -> Mapping[int, Path]:
    """Step -> checkpoint, rising."""
    found = (job.folder / "checkpoints").glob("step-*.ckpt")
    return dict(sorted((int(path.stem.removeprefix("step-")), path) for path in found))


def _folder(job: Job) -> str:
    return f"{job.method}_seed{job.seed}"


def _alone() -> None:
    torch.set_num_threads(1)


if __name__ == "__main__":
    main()
