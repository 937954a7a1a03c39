"""Trains SimCLR for a few minutes, on Factors by default, and says where to look.

Run `python -m recipes.demo`. The table at the end compares, for every task, how far CDNV and
directional CDNV fell, from the BatchNorm-calibrated start to the last probe; the report and the
offline W&B run hold the curves.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from lightning.pytorch.loggers import WandbLogger

from dnc_lightning import HtmlReport, ProbeCallback
from recipes.cli import RecipeCLI, main
from recipes.simclr import SimCLR

CONFIG = Path(__file__).parent / "configs" / "simclr_factors.yaml"


def places(cli: RecipeCLI) -> list[str]:
    """Return where the files of a finished run lie, a line each, so that a terminal opens them."""
    trainer = cli.trainer
    report = next(c for c in trainer.callbacks if isinstance(c, HtmlReport))
    probe = next(c for c in trainer.callbacks if isinstance(c, ProbeCallback))
    lines = [f"HTML report:     {report.path_}", f"records:         {probe.run_dir_}"]
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            folder = Path(logger.experiment.dir).parent
            lines.append(f"offline W&B run: {folder}  (upload: wandb sync)")
    return lines


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=CONFIG, help="configuration of the run")
    parser.add_argument("--max-steps", type=int, help="training steps (default: as configured)")
    options = parser.parse_args()
    shorter = [] if options.max_steps is None else [f"--trainer.max_steps={options.max_steps}"]
    print(*places(main(SimCLR, ["fit", f"--config={options.config}", *shorter])), sep="\n")
