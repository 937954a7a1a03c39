"""Steps are those of the loggers, whatever steps the optimizers."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader

from dnc_lightning import LogSpacedCheckpoint
from dnc_lightning.callbacks.clock import step_of
from dnc_lightning.reporting import read_run
from tests.callbacks.fits import Manual, fit, probe, records, steps, thorough
from tests.callbacks.modules import Floats

LOG_SPACED = [0, 1, 2, 3, 4, 5, 6, 8, 10, 12]
MOVED = "ignore:probe. Steps are batches"
MIDWAY = "ignore:You're resuming from a checkpoint that ended before the epoch ended"


def rows(trainer: pl.Trainer) -> list[dict[str, str]]:
    assert trainer.logger is not None
    path = Path(str(trainer.logger.log_dir)) / "metrics.csv"
    return list(csv.DictReader(path.read_text().splitlines()))


@pytest.mark.filterwarnings(MOVED)
@pytest.mark.parametrize("kind", ["one", "two", "raw", "every other"])
def test_probes_and_training_share_the_axis_of_the_loggers(kind: str, tmp_path: Path) -> None:
    callback = probe()
    trainer = fit(
        tmp_path,
        callback,
        module=Manual(kind),
        max_epochs=3,
        logger=CSVLogger(tmp_path),
        log_every_n_steps=1,
    )
    assert trainer.global_step == {"one": 12, "two": 24, "raw": 0, "every other": 6}[kind]
    assert steps(callback) == LOG_SPACED
    found = rows(trainer)
    # Lightning numbers what a batch logs by the step before it.
    trained = [int(row["step"]) for row in found if row["train_loss"]]
    assert trained == list(range(12))
    probed = {int(row["step"]) for row in found if row["probe/label/cdnv"]}
    assert sorted(probed) == LOG_SPACED


@pytest.mark.parametrize(("kind", "stands"), [("two", 2), ("raw", 0), ("every other", 0)])
def test_a_global_step_that_counts_something_else_is_named_once(
    kind: str, stands: int, tmp_path: Path
) -> None:
    callback = probe()
    with pytest.warns(UserWarning, match="Steps are batches") as caught:
        fit(tmp_path, callback, module=Manual(kind), max_epochs=1)
    said = [str(w.message) for w in caught if "Steps are batches" in str(w.message)]
    assert len(said) == 1
    assert f"1 so far, where trainer.global_step is {stands}." in said[0]
    assert callback.run_dir_ is not None
    assert read_run(callback.run_dir_).header["steps"] == "batches"


def test_with_one_automatic_optimizer_they_are_those_of_the_trainer(tmp_path: Path) -> None:
    class Compare(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
            assert step_of(trainer) == trainer.global_step

        on_train_epoch_end = on_validation_end = on_train_end = on_train_start = on_train_batch_end

    callback = probe()
    fit(tmp_path, callback, Compare(), max_epochs=2, accumulate_grad_batches=3)
    assert steps(callback) == [0, 1, 2, 3, 4]
    assert callback.run_dir_ is not None
    assert read_run(callback.run_dir_).header["steps"] == "optimizer steps"


class Watch(pl.Callback):
    """Compares with a count of its own, in every hook in which anything is saved or logged."""

    def __init__(self, done: int = 0, save: Path | None = None) -> None:
        self.done = done
        self.save = save
        self.seen: list[str] = []

    def look(self, trainer: pl.Trainer, hook: str) -> None:
        if not trainer.sanity_checking:
            assert step_of(trainer) == self.done, hook
            self.seen.append(hook)
            if self.save is not None:
                trainer.save_checkpoint(self.save / f"{hook}-{self.done}.ckpt")

    def on_train_start(self, trainer: pl.Trainer, *_: Any) -> None:
        self.look(trainer, "start")

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        assert step_of(trainer) == self.done

    def on_before_zero_grad(self, trainer: pl.Trainer, *_: Any) -> None:
        assert step_of(trainer) == self.done

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.done += 1
        self.look(trainer, "batch")

    def on_validation_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.look(trainer, "validation")

    def on_train_epoch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.look(trainer, "epoch")

    def on_train_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.look(trainer, "end")


class Validated(Manual):
    def validation_step(self, batch: Any, _: int) -> None:
        self.log("val_loss", self.loss(self.backbone(batch[0]), batch[1]))


@pytest.mark.filterwarnings(MIDWAY)
@pytest.mark.parametrize("validated", [False, True])
def test_the_step_in_every_hook_and_after_resuming_there(validated: bool, tmp_path: Path) -> None:
    def run(watch: Watch, ckpt: Path | None = None, epochs: int = 2) -> None:
        pl.seed_everything(0, verbose=False)
        trainer = pl.Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            default_root_dir=tmp_path,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[watch],
        )
        module = Validated("raw") if validated else Manual("raw")
        held_out = DataLoader(Floats(12), 12) if validated else None
        trainer.fit(module, DataLoader(Floats(48), 12), held_out, ckpt_path=ckpt)

    first = Watch(save=tmp_path)
    run(first)
    assert first.seen.count("batch") == 8
    assert first.seen.count("validation") == 2 * validated
    for name in ("batch-3", "batch-4", "epoch-4"):
        run(Watch(done=int(name[-1])), tmp_path / f"{name}.ckpt")


@pytest.mark.filterwarnings(MOVED, MIDWAY)
@pytest.mark.parametrize("kind", ["two", "raw"])
def test_a_resumed_run_goes_on_along_the_axis(kind: str, tmp_path: Path) -> None:
    fit(tmp_path, probe(), module=Manual(kind), max_epochs=2).save_checkpoint(tmp_path / "a.ckpt")
    resumed = probe()
    fit(tmp_path, resumed, module=Manual(kind), max_epochs=3, ckpt_path=tmp_path / "a.ckpt")
    assert steps(resumed) == LOG_SPACED
    assert thorough(resumed) == [0, 8, 12]  # the former end stays as it was


@pytest.mark.filterwarnings(MOVED)
def test_checkpoints_are_named_by_the_step_of_the_probe(tmp_path: Path) -> None:
    callback = probe()
    fit(tmp_path, LogSpacedCheckpoint(), callback, module=Manual("raw"), max_epochs=3)
    names = sorted(path.stem for path in (tmp_path / "checkpoints").glob("step-*.ckpt"))
    assert names == [f"step-{step:06d}" for step in LOG_SPACED]


def test_fitting_on_with_a_raw_optimizer_continues_the_records(tmp_path: Path) -> None:
    callback, module = probe(schedule=None, every_n_train_steps=4), Manual("raw")
    with pytest.warns(UserWarning, match="Steps are batches"):
        trainer = fit(tmp_path, callback, module=module, max_epochs=1)
    trainer.fit_loop.max_epochs = 2
    trainer.fit(module, DataLoader(Floats(48), 12))
    assert steps(callback) == [0, 4, 8]


@pytest.mark.filterwarnings(MOVED)
def test_a_checkpoint_of_another_axis_begins_a_new_curve(tmp_path: Path) -> None:
    """As versions before left it, which counted 24 steps in the 12 batches of two optimizers."""
    first = probe()
    trainer = fit(tmp_path, first, module=Manual("two"), max_epochs=3)
    first.last_step_ = 24
    trainer.save_checkpoint(tmp_path / "old.ckpt")
    second = probe()
    with pytest.warns(UserWarning, match="of step 24, is not on the axis of this run, which"):
        fit(
            tmp_path,
            second,
            module=Manual("two"),
            max_epochs=4,
            ckpt_path=tmp_path / "old.ckpt",
        )
    assert steps(first) == LOG_SPACED
    assert steps(second) == [12, 13, 16]


def test_the_weights_of_a_step_are_those_of_its_record(tmp_path: Path) -> None:
    callback = probe(every_n_train_steps=2)
    with pytest.warns(UserWarning, match="Steps are batches"):
        fit(tmp_path, LogSpacedCheckpoint(), callback, module=Manual("raw"), max_epochs=2)
    for record in records(callback)[2:]:
        saved = torch.load(
            tmp_path / "checkpoints" / f"step-{record.step:06d}.ckpt", weights_only=True
        )
        batches = saved["state_dict"]["backbone.1.num_batches_tracked"]
        assert int(batches) == record.step
