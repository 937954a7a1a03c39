"""The command line that every recipe shares: a LightningCLI that probes, reports and saves."""

from __future__ import annotations

import warnings

from lightning import LightningDataModule, LightningModule
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from dnc_lightning import (
    CollapseAlarm,
    HtmlReport,
    LogSpacedCheckpoint,
    ProbeCallback,
    TerminalSummary,
)


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


def main(module: type[LightningModule], args: list[str] | None = None) -> RecipeCLI:
    """Run a recipe's command line.

    Args:
        module: The recipe.
        args: Arguments in place of the ones of the process.

    Returns:
        The command line after its run, with trainer, model and data module.
    """
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
