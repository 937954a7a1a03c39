"""What a recipe's run does not say."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from lightning import Trainer
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.loggers import WandbLogger

from recipes.quiet import quiet, tidy


def trainer(tmp_path: Path, **options: Any) -> Trainer:
    return Trainer(
        accelerator="cpu", default_root_dir=tmp_path, enable_checkpointing=False, **options
    )


def test_a_bar_without_a_last_epoch_names_none(tmp_path: Path) -> None:
    made = trainer(tmp_path, logger=False, max_steps=10, callbacks=[RichProgressBar()])
    tidy(made)
    assert made.progress_bar_callback._get_train_description(3) == "Epoch 3"


def test_a_bar_with_a_last_epoch_is_left(tmp_path: Path) -> None:
    made = trainer(tmp_path, logger=False, max_epochs=10, callbacks=[RichProgressBar()])
    tidy(made)
    assert "_get_train_description" not in vars(made.progress_bar_callback)


def test_wandb_is_not_given_a_setting_without_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    logger = WandbLogger(project="quiet", save_dir=tmp_path)
    tidy(trainer(tmp_path, logger=logger, max_steps=1))
    logger.experiment.finish()
    out, err = capfd.readouterr()
    assert "anonymous" not in out + err


def test_tips_are_left_out_and_the_rest_stays(caplog: pytest.LogCaptureFixture) -> None:
    quiet()
    log = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    with caplog.at_level(logging.INFO):
        log.info("💡 Tip: try another product")
        log.info("GPU available: False")
    assert [record.getMessage() for record in caplog.records] == ["GPU available: False"]
