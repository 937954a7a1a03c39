"""Trains every method on Factors and Fashion-MNIST and writes docs/reproduction.md.

Run `make reproduce`. Each run is the command that its configuration names, in a process and on a
core of its own; a run that has all its records already is not repeated, and one that was stopped
goes on from its last checkpoint.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import yaml
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from dnc_lightning.records.store import Record, Run, read_run
from recipes.outcome import METHODS, Outcome
from recipes.reproduction_page import SETS, check_recipes, write_page
from recipes.study import study_parser

CONFIGS = Path(__file__).parent / "configs"
REPEATED = ("simclr", "vicreg")
"""Methods that run with several seeds, to see how far one run can be trusted."""

# Else glibc may return freed memory to the system and ask for it again in every step.
MEMORY = {
    "MALLOC_TRIM_THRESHOLD_": "10000000000",
    "MALLOC_MMAP_THRESHOLD_": "10000000000",
    "MALLOC_TOP_PAD_": "500000000",
}


@dataclass(frozen=True)
class Job:
    """One method on one data set."""

    method: str
    data: str
    root: Path  # of all runs
    seed: int = 0  # of weights, order and views; the images stay the same
    max_steps: int | None = None  # in place of the configured number
    variant: str = ""  # what is different from the configuration, in its name
    arguments: tuple[str, ...] = ()  # of the command line, that make it so

    @property
    def config(self) -> Path:
        """The settings of the run."""
        return CONFIGS / f"{self.method}_{self.data}.yaml"

    @property
    def name(self) -> str:
        """Also that of its folder."""
        parts = [self.config.stem, self.variant, f"seed{self.seed}" if self.seed else ""]
        return "_".join(part for part in parts if part)

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole run."""
        configured = yaml.safe_load(self.config.read_text())
        return self.max_steps or configured["trainer"]["max_steps"]

    @property
    def folder(self) -> Path:
        """Everything the run writes."""
        return self.root / self.name

    def records(self) -> tuple[Record, ...]:
        """The probes so far."""
        run = self.run()
        return run.records if run else ()

    def run(self) -> Run | None:
        """The records, if there are any."""
        folder = self.folder / "dnc" / "probe"
        return read_run(folder) if (folder / "run.json").is_file() else None

    def start(self) -> subprocess.Popen:
        """Begin or resume the run, its output going to `log.txt`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", f"recipes.{self.method}", "fit"]
        command += [f"--config={self.config}", f"--trainer.max_steps={self.steps}"]
        command += [f"--seed_everything={self.seed}"]
        command += [f"--trainer.default_root_dir={self.folder}", "--trainer.logger=false"]
        command += ["--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu"]
        command += self.arguments
        if (self.folder / "checkpoints" / "last.ckpt").is_file():
            command += ["--ckpt_path=last"]
        with (self.folder / "log.txt").open("w") as log:
            return subprocess.Popen(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **MEMORY, "OMP_NUM_THREADS": "1"},
                start_new_session=True,  # Ctrl-C reaches it once, from `run_all`
            )


def run_all(jobs: list[Job], parallel: int) -> None:
    """Run what is missing, several at a time.

    Args:
        jobs: The runs.
        parallel: How many at a time.

    Raises:
        RuntimeError: If a run failed; the message names its log.
    """
    columns = (TextColumn("{task.description:22}"), BarColumn(), TextColumn("{task.fields[done]}"))
    waiting, running = list(jobs), {}
    with Progress(*columns, TimeElapsedColumn()) as progress:
        bars = {job: progress.add_task(job.name, total=job.steps, done="") for job in jobs}
        for job in jobs:
            if _show(progress, bars[job], job) >= job.steps:
                waiting.remove(job)
        try:
            while waiting or running:
                while waiting and len(running) < parallel:
                    job = waiting.pop(0)
                    progress.reset(bars[job])
                    running[job] = job.start()
                time.sleep(1)
                for job, process in list(running.items()):
                    done = process.poll() is not None  # asked first: its last record comes before
                    step = _show(progress, bars[job], job)
                    if done:
                        del running[job]
                        progress.stop_task(bars[job])
                        # Lightning ends with code 0 after SIGTERM.
                        if process.returncode or step < job.steps:
                            raise RuntimeError(f"{job.name} failed: see {job.folder / 'log.txt'}")
        finally:
            for process in running.values():
                process.terminate()  # leaves a checkpoint, from which the next call goes on
            for process in running.values():
                process.wait()


def _show(progress: Progress, bar: TaskID, job: Job) -> int:
    records = job.records()
    step = records[-1].step if records else 0
    seconds = f"{records[-1].time:.0f} s" if records else ""
    progress.update(bar, completed=step, total=job.steps, done=f"{step}/{job.steps} {seconds}")
    return step


def main() -> None:
    """Parse the command line, run, and write the page."""
    parser = study_parser(__doc__.splitlines()[0], "reproduction")
    parser.add_argument(
        "--seeds", type=int, default=2, help=f"runs of {', '.join(REPEATED)} on Factors (default 2)"
    )
    options = parser.parse_args()
    check_recipes(METHODS)  # hours before the page needs it
    jobs = [
        Job(method, data, options.runs, seed, options.max_steps)
        for data in SETS
        for method in METHODS
        for seed in range(options.seeds if data == "factors" and method in REPEATED else 1)
    ]
    if not options.page_only:
        run_all(jobs, options.parallel)
    outcomes = [Outcome(job.method, job.data, run, job.seed) for job in jobs if (run := job.run())]
    print(f"wrote {write_page(outcomes, options.out)}")


if __name__ == "__main__":
    main()
