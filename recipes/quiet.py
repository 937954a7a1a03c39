"""What Lightning and W&B say in every run of these versions and nobody can act on: left out."""

from __future__ import annotations

import logging
import warnings
from typing import Any

from lightning import Trainer
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.loggers import WandbLogger


def quiet() -> None:
    """Leave out advice for other products, and a warning about Lightning's own code."""
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_no_tip)
    warnings.filterwarnings("ignore", ".isinstance.treespec, LeafSpec.. is deprecated")


def tidy(trainer: Trainer) -> None:
    """Mend what a trainer's bar and loggers would say: "Epoch 3/-2", and a setting without use."""
    bar: Any = trainer.progress_bar_callback
    # Before a fit there is no number of epochs where steps alone end it.
    endless = trainer.max_epochs == -1 or (trainer.max_epochs is None and trainer.max_steps > 0)
    if isinstance(bar, RichProgressBar) and endless:
        bar._get_train_description = "Epoch {}".format
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            asked = logger._wandb_init
            if asked.get("anonymous") is None:  # to pass it on would bring a warning
                asked.pop("anonymous", None)


def _no_tip(record: logging.LogRecord) -> bool:
    return "Tip:" not in record.getMessage()
