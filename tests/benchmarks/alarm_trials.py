"""Whether the alarm is raised by what is broken, and by nothing that is not: `python -m ... OUT`.

Trains healthy recipes of several methods, data sets and seeds, and four broken ones, each in a
process of its own, and prints what the alarm said of each as a table.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from lightly.models.modules.heads import SimSiamPredictionHead, SimSiamProjectionHead
from torch import Tensor
from torch.nn.functional import cosine_similarity

from dnc_lightning.records.store import read_run
from dnc_lightning.reporting.read.alarm import ALARM, alarms
from dnc_lightning.reporting.read.facts import remarks
from recipes.augment import Views
from recipes.backbones import build_backbone
from recipes.base import Recipe
from recipes.cli import main
from recipes.optim import Optimization
from recipes.vicreg import VICReg

METHODS = ("simclr", "vicreg", "dino", "dinov2", "mae")
STEPS, BREAK = 300, 150


class SimSiam(Recipe):
    """SimSiam without its stop-gradient: both views chase each other to one point."""

    min_batch_size = 2

    def __init__(
        self,
        backbone: str = "small_resnet32",
        views: Views = Views(),  # noqa: B008
        optimization: Optimization = Optimization(),  # noqa: B008
    ) -> None:
        super().__init__([views], optimization, "device")
        self.backbone = build_backbone(backbone, 32, None)
        dim = self.backbone.feature_dim
        self.projection_head = SimSiamProjectionHead(dim, dim, dim)
        self.prediction_head = SimSiamPredictionHead(dim, dim // 4, dim)

    def forward(self, images: Tensor) -> Tensor:
        return self.backbone(images)

    def training_step(self, batch: tuple, batch_index: int) -> Tensor:
        first, second = (self.projection_head(self.backbone(view)) for view in self.views(batch))
        pairs = ((self.prediction_head(first), second), (self.prediction_head(second), first))
        loss = -torch.stack([cosine_similarity(p, z).mean() for p, z in pairs]).mean()
        self.log("train/loss", loss, prog_bar=True)
        return loss


class Sudden(VICReg):
    """VICReg whose regularisers are lost half-way, while the learning rate leaps."""

    def training_step(self, batch: tuple, batch_index: int) -> Tensor:
        if self.global_step == BREAK:
            self.loss.mu_param = self.loss.nu_param = 0.0
        if BREAK <= self.global_step < BREAK + 8:
            for group in self.optimizers().param_groups:
                group["lr"] *= 20
        return super().training_step(batch, batch_index)


class NotFinite(VICReg):
    """VICReg whose weights become nan half-way."""

    def training_step(self, batch: tuple, batch_index: int) -> Tensor:
        loss = super().training_step(batch, batch_index)
        return loss * torch.nan if self.global_step >= BREAK else loss


BROKEN: dict[str, tuple[type[Recipe], list[str]]] = {
    "SimSiam without stop-gradient": (SimSiam, []),
    "VICReg without covariance": (VICReg, ["--model.covariance", "0"]),
    "VICReg, invariance alone": (VICReg, ["--model.covariance", "0", "--model.variance", "0"]),
    "VICReg, sudden": (Sudden, []),
    "VICReg, nan": (NotFinite, []),
}


def trials(seeds: list[int]) -> Iterator[tuple[str, list[str]]]:
    """Name of every trial, and the command that trains it."""
    for data in ("factors", "fashion"):
        for seed in seeds:
            for method in METHODS:
                config = f"recipes/configs/{method}_{data}.yaml"
                yield (
                    f"{method} {data} {seed}",
                    [f"recipes.{method}", "fit", "--config", config, f"--seed_everything={seed}"],
                )
            for name in BROKEN:
                config = f"recipes/configs/vicreg_{data}.yaml"
                yield (
                    f"{name} {data} {seed}",
                    [__spec__.name, name, "fit", "--config", config, f"--seed_everything={seed}"],
                )


def train(out: Path, name: str, command: list[str]) -> str:
    """Train one in `out` unless it is there; return a row of the table."""
    folder = out / name.replace(" ", "_").replace(",", "")
    if not (folder / "done").exists():
        more = [f"--trainer.max_steps={STEPS}", "--trainer.logger=false"]
        more += [f"--trainer.default_root_dir={folder}", "--trainer.enable_progress_bar=false"]
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "log").open("w") as log:
            subprocess.run(
                [sys.executable, "-m", *command, *more], stdout=log, stderr=log, check=True
            )
        (folder / "done").touch()
    run = read_run(folder / "dnc/probe")
    told = [(a.step, f"{a.kind} at {a.step} since {a.since} ({a.evidence})") for a in alarms(run)]
    for remark in remarks(run.records, "warnings"):
        if remark.text.startswith(ALARM):
            step = int(remark.text.rpartition("at step ")[2].strip(".").replace(",", ""))
            told.append((step, remark.text.removeprefix(ALARM)))
    return f"| {name} | {'; '.join(words for _, words in sorted(told)) or 'none'} |"


def run(arguments: list[str]) -> Any:
    """Train one of the broken ones."""
    module, more = BROKEN[arguments[0]]
    return main(module, [*arguments[1:], *more])


if __name__ == "__main__":
    if sys.argv[1] in BROKEN:
        run(sys.argv[1:])
    else:
        parser = argparse.ArgumentParser(description=__doc__)
        parser.add_argument("out", type=Path)
        parser.add_argument("--seeds", type=int, nargs="+", default=[2, 3])
        parser.add_argument("--only", default="")
        options = parser.parse_args()
        chosen = [t for t in trials(options.seeds) if options.only in t[0]]
        with ThreadPoolExecutor(2) as pool:
            for row in pool.map(lambda trial: train(options.out, *trial), chosen):
                print(row, flush=True)
