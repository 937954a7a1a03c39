"""The command line that every recipe shares: a LightningCLI that probes, reports and saves."""

from __future__ import annotations

import warnings
from typing import Any

from lightning import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from dnc_lightning import (
    CollapseAlarm,
    HtmlReport,
    LogSpacedCheckpoint,
    ProbeCallback,
    TerminalSummary,
)
from recipes.quiet import quiet, tidy


class RecipeCLI(LightningCLI):
    """LightningCLI with a probe of the data module's held-out images, a report and checkpoints."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add `probe`, `report`, `summary`, `checkpoint`, `alarm`; the data gives the probe set."""
        parser.add_lightning_class_args(ProbeCallback, "probe")
        parser.link_arguments("data.probe_set", "probe.probe", apply_on="instantiate")
        parser.add_lightning_class_args(HtmlReport, "report")
        parser.add_lightning_class_args(TerminalSummary, "summary")
        parser.add_lightning_class_args(LogSpacedCheckpoint, "checkpoint")
        parser.add_lightning_class_args(CollapseAlarm, "alarm")

    def instantiate_trainer(self, **options: Any) -> Trainer:
        """Make the trainer, without what it would say in vain."""
        trainer = super().instantiate_trainer(**options)
        tidy(trainer)
        return trainer


def main(module: type[LightningModule], args: list[str] | None = None) -> RecipeCLI:
    """Run a recipe's command line.

    Args:
        module: The recipe.
        args: Arguments in place of the ones of the process.

    Returns:
        The command line after its run, with trainer, model and data module.
    """
    quiet()
    with warnings.catch_warnings():
        # A caller that passes `args` means them, whatever its own command line holds.
        warnings.filterwarnings("ignore", message="LightningCLI's args parameter")
        return RecipeCLI(
            module,
            LightningDataModule,
            subclass_mode_data=True,
            save_config_kwargs={"overwrite": True},
            args=args,
        )
