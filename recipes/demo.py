"""Trains SimCLR for a few minutes, on Factors by default, and prints what the probe saw.

Run `python -m recipes.demo`. For every task the table compares how far CDNV and directional CDNV
fall, from the BatchNorm-calibrated start to the last probe, and the report and the offline W&B
run beside it hold the curves.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lightning.pytorch.loggers import WandbLogger
from rich.console import Console
from rich.table import Table

from dnc_lightning import HtmlReport, ProbeCallback
from dnc_lightning.reporting.records import Record, read_run
from recipes.cli import RecipeCLI, main
from recipes.simclr import SimCLR

CONFIG = Path(__file__).parent / "configs" / "simclr_factors.yaml"


@dataclass(frozen=True)
class Fall:
    """First and last value of a quantity."""

    start: float
    end: float

    @property
    def factor(self) -> float:
        """How many times smaller it became."""
        return self.start / self.end


def falls(records: Sequence[Record]) -> dict[str, tuple[Fall, Fall]]:
    """Compare the first probe with the last one.

    Args:
        records: Probes of one run, in order.

    Returns:
        Per task: the fall of CDNV and the fall of directional CDNV.
    """
    first, last = records[0].scalars, records[-1].scalars
    tasks = [key.split("/")[1] for key in last if key.endswith("/directional_cdnv")]
    return {
        task: tuple(
            Fall(first[f"probe/{task}/{quantity}"], last[f"probe/{task}/{quantity}"])
            for quantity in ("cdnv", "directional_cdnv")
        )
        for task in tasks
    }


def falls_table(records: Sequence[Record]) -> Table:
    """Return the table of `falls`, one row per task."""
    table = Table(title=f"Step {records[0].step} (BatchNorm calibrated) to {records[-1].step}")
    table.add_column("task")
    for name in ("CDNV", "fell by", "directional CDNV", "fell by", "ratio of falls"):
        table.add_column(name, justify="right")
    for task, (cdnv, directional) in falls(records).items():
        table.add_row(
            task,
            f"{cdnv.start:.3g} -> {cdnv.end:.3g}",
            f"{cdnv.factor:.1f} x",
            f"{directional.start:.3g} -> {directional.end:.3g}",
            f"{directional.factor:.1f} x",
            f"{directional.factor / cdnv.factor:.1f}",
        )
    return table


def bounds_table(record: Record, task: str, shots: Sequence[int]) -> Table:
    """Return measured few-shot error and its bounds at one probe, one row per number of shots.

    Args:
        record: The probe.
        task: Its task.
        shots: Labelled samples per class.
    """
    table = Table(title=f"Few-shot error, task {task!r}, step {record.step}")
    kinds = ("certificate", "joint", "theorem_4_1", "luthra_2025")
    for name in ("m", "measured", "certificate", "joint", "Theorem 4.1", "2025 bound"):
        table.add_column(name, justify="right")
    for m in shots:
        error, spread = (
            record.scalars.get(f"probe/{task}/{key}/{m}", float("nan"))
            for key in ("few_shot_error", "few_shot_error_se")
        )
        bounds = (record.scalars.get(f"probe/{task}/{kind}/{m}", float("nan")) for kind in kinds)
        table.add_row(str(m), f"{error:.3f} ± {spread:.3f}", *(f"{bound:.3g}" for bound in bounds))
    return table


def show(cli: RecipeCLI, console: Console) -> None:
    """Print the outcome of a finished run and where to look further."""
    trainer = cli.trainer
    probe = next(c for c in trainer.callbacks if isinstance(c, ProbeCallback))
    report = next(c for c in trainer.callbacks if isinstance(c, HtmlReport))
    wandb_runs = [
        Path(logger.experiment.dir).parent
        for logger in trainer.loggers
        if isinstance(logger, WandbLogger)
    ]
    run = read_run(probe.run_dir_)
    console.print(falls_table(run.records))
    for task in run.header["tasks"]:
        for record in (run.records[0], run.records[-1]):
            console.print(bounds_table(record, task, run.header["shots"]))
    # One path per line and no wrapping, so that a terminal can open or copy them.
    console.print(f"HTML report:     {report.path_}", soft_wrap=True)
    console.print(f"records:         {probe.run_dir_}", soft_wrap=True)
    for folder in wandb_runs:
        console.print(f"offline W&B run: {folder}  (upload: wandb sync)", soft_wrap=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=CONFIG, help="configuration of the run")
    parser.add_argument("--max-steps", type=int, help="training steps (default: as configured)")
    options = parser.parse_args()
    shorter = [] if options.max_steps is None else [f"--trainer.max_steps={options.max_steps}"]
    show(main(SimCLR, ["fit", f"--config={options.config}", *shorter]), Console())
