"""Checkpoints at the steps of the probes, and what stopping a run leaves behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch.utils.data import DataLoader

from dnc_lightning import HtmlReport, LogSpaced, LogSpacedCheckpoint, ProbeCallback, ProbeSet
from dnc_lightning.callbacks.schedules import EveryNSteps
from dnc_lightning.reporting import read_run
from tests.callbacks.modules import BackboneModule, Clean, Floats, loader

pytestmark = pytest.mark.filterwarnings(
    "ignore:You're resuming from a checkpoint that ended before the epoch ended",
)


def make_trainer(folder: Path, *callbacks: pl.Callback, **changes: Any) -> pl.Trainer:
    settings = {
        "accelerator": "cpu",
        "max_steps": 14,
        "default_root_dir": folder,
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return pl.Trainer(callbacks=list(callbacks), **(settings | changes))


def train(folder: Path, *callbacks: pl.Callback, **changes: Any) -> pl.Trainer:
    pl.seed_everything(0, verbose=False)
    trainer = make_trainer(folder, *callbacks, **changes)
    trainer.fit(BackboneModule(), loader())
    return trainer


def saved(folder: Path) -> list[int]:
    """Steps of the checkpoints, after looking into each."""
    steps = []
    for path in sorted((folder / "checkpoints").glob("step-*.ckpt")):
        content = torch.load(path, weights_only=True)
        assert path.name == f"step-{content['global_step']:06d}.ckpt"
        steps.append(content["global_step"])
    return steps


def last_step(folder: Path) -> int:
    step: int = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    return step


def probe(**kwargs: Any) -> ProbeCallback:
    return ProbeCallback(ProbeSet(Clean(), per_class=5), metrics=["collapse"], **kwargs)


def probed(folder: Path) -> list[int]:
    return [record.step for record in read_run(folder / "dnc" / "probe").records]


def test_steps_spread_out_and_the_end_is_saved(tmp_path: Path) -> None:
    train(tmp_path, LogSpacedCheckpoint())
    assert saved(tmp_path) == [0, 1, 2, 3, 4, 5, 6, 8, 10, 13, 14]
    assert last_step(tmp_path) == 14


def test_the_first_checkpoint_is_the_untrained_model(tmp_path: Path) -> None:
    pl.seed_everything(0, verbose=False)
    untrained = BackboneModule().state_dict()
    train(tmp_path, LogSpacedCheckpoint(), max_steps=2)
    first = torch.load(tmp_path / "checkpoints" / "step-000000.ckpt", weights_only=True)
    assert all(torch.equal(first["state_dict"][key], untrained[key]) for key in untrained)


@pytest.mark.parametrize(
    ("arguments", "steps"),
    [
        ({}, [0, 1, 2, 3, 4, 5, 6, 8, 10, 13, 14]),
        ({"every_n_train_steps": 5}, [0, 5, 10, 14]),
        ({"every_n_epochs": 2}, [0, 8, 14]),
        ({"schedule": LogSpaced(per_octave=1)}, [0, 1, 2, 4, 8, 14]),
    ],
)
@pytest.mark.parametrize("probe_first", [True, False])
def test_every_probed_step_is_saved(
    arguments: dict[str, Any], steps: list[int], probe_first: bool, tmp_path: Path
) -> None:
    callbacks = [probe(**arguments), LogSpacedCheckpoint()]
    train(tmp_path, *(callbacks if probe_first else callbacks[::-1]))
    assert saved(tmp_path) == probed(tmp_path) == steps


def test_a_schedule_of_its_own_comes_first(tmp_path: Path) -> None:
    schedule = EveryNSteps(6)
    train(tmp_path, probe(), LogSpacedCheckpoint(schedule=schedule))  # type: ignore[arg-type]
    assert saved(tmp_path) == [0, 6, 12, 14]


def test_validation_and_epochs_save_nothing(tmp_path: Path) -> None:
    class Validated(BackboneModule):
        def validation_step(self, batch: Any, _: int) -> None:
            self.log("val_loss", self.loss(self.backbone(batch[0]), batch[1]))

    trainer = make_trainer(tmp_path, LogSpacedCheckpoint(schedule=LogSpaced(1)), max_steps=12)
    trainer.fit(Validated(), loader(), DataLoader(Floats(12), 12))
    assert saved(tmp_path) == [0, 1, 2, 4, 8, 12]


def test_weights_alone(tmp_path: Path) -> None:
    train(tmp_path, LogSpacedCheckpoint(save_weights_only=True), max_steps=1)
    content = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert "optimizer_states" not in content
    assert content["state_dict"].keys() == BackboneModule().state_dict().keys()


def test_a_trial_run_saves_nothing(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    train(tmp_path, LogSpacedCheckpoint(), fast_dev_run=3)
    assert not list(tmp_path.rglob("*.ckpt"))
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("accumulated", [1, 3])
def test_checkpoints_lie_between_optimizer_steps(accumulated: int, tmp_path: Path) -> None:
    """With accumulated gradients, after the batch that made a step and before the next one."""
    train(tmp_path, LogSpacedCheckpoint(), accumulate_grad_batches=accumulated, max_steps=4)
    for step in range(5):
        content = torch.load(tmp_path / "checkpoints" / f"step-{step:06d}.ckpt", weights_only=True)
        progress = content["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]
        # Four batches an epoch: its last one makes a step of its own.
        batches = [0, 3, 4, 7, 8][step] if accumulated == 3 else step
        assert progress["processed"] == batches


class Sends(pl.Callback):
    """Signals this process in the middle of a step."""

    def __init__(self, step: int, *signals: signal.Signals) -> None:
        self.step = step
        self.signals = signals
        self.before = signal.getsignal(signal.SIGINT)
        self.after_step = False

    def on_before_zero_grad(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == self.step:
            for number in self.signals:
                os.kill(os.getpid(), number)

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        self.after_step = trainer.global_step == self.step + 1


@pytest.fixture
def _ctrl_c_restored() -> Any:
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_ctrl_c_restored")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda s: s.name)
def test_a_stopped_run_leaves_a_checkpoint_records_and_a_report(
    number: signal.Signals, tmp_path: Path
) -> None:
    sends = Sends(6, number)
    with pytest.raises(SystemExit):
        train(tmp_path, probe(), HtmlReport(), sends, LogSpacedCheckpoint())
    assert sends.after_step
    assert saved(tmp_path) == [0, 1, 2, 3, 4, 5, 6, 7]
    assert last_step(tmp_path) == 7
    assert probed(tmp_path) == [0, 1, 2, 3, 4, 5, 6]
    assert (tmp_path / "dnc" / "probe" / "report.html").is_file()
    assert signal.getsignal(signal.SIGINT) is sends.before


@pytest.mark.usefixtures("_ctrl_c_restored")
def test_a_second_ctrl_c_stops_at_once(tmp_path: Path) -> None:
    sends = Sends(6, signal.SIGINT, signal.SIGINT)
    with pytest.raises(SystemExit):
        train(tmp_path, sends, LogSpacedCheckpoint())
    assert not sends.after_step
    assert last_step(tmp_path) == 6
    assert signal.getsignal(signal.SIGINT) is sends.before


@pytest.mark.usefixtures("_ctrl_c_restored")
def test_accumulated_gradients_are_not_lost_to_ctrl_c(tmp_path: Path) -> None:
    class Early(pl.Callback):
        sent = False

        def on_before_backward(self, trainer: Any, *_: Any) -> None:
            if trainer.global_step == 2 and not self.sent:
                self.sent = True
                os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(SystemExit):
        train(
            tmp_path,
            Early(),  # in the first of two batches of the third step
            LogSpacedCheckpoint(schedule=LogSpaced(1)),
            accumulate_grad_batches=2,
        )
    content = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert content["global_step"] == 3
    assert content["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["processed"] == 6


def test_ctrl_c_is_given_back(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    held = []

    class Looks(pl.Callback):
        def on_train_batch_start(self, *_: Any) -> None:
            held.append(signal.getsignal(signal.SIGINT))

    train(tmp_path, Looks(), LogSpacedCheckpoint(), max_steps=2)
    assert before not in held
    assert signal.getsignal(signal.SIGINT) is before

    class Fails(pl.Callback):
        def on_train_batch_start(self, *_: Any) -> None:
            raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        train(tmp_path, Fails(), LogSpacedCheckpoint())
    assert signal.getsignal(signal.SIGINT) is before


def test_last_is_the_newest_run_and_goes_on_in_its_folder(tmp_path: Path) -> None:
    def logger() -> Any:
        return pl.loggers.CSVLogger(tmp_path / "logs", name="csv")

    for steps in (3, 4):  # version_0 and version_1
        train(tmp_path, LogSpacedCheckpoint(), logger=logger(), max_steps=steps)
    newest = tmp_path / "logs" / "csv" / "version_1"
    pl.seed_everything(0, verbose=False)
    trainer = make_trainer(tmp_path, LogSpacedCheckpoint(), logger=logger(), max_steps=9)
    trainer.fit(BackboneModule(), loader(), ckpt_path="last")
    assert trainer.global_step == 9
    assert saved(newest) == [0, 1, 2, 3, 4, 5, 6, 8, 9]
    assert saved(newest.with_name("version_0")) == [0, 1, 2, 3]
    assert not list(newest.with_name("version_2").rglob("*.ckpt"))


def test_a_chosen_folder_is_kept_when_resuming(tmp_path: Path) -> None:
    train(tmp_path, LogSpacedCheckpoint(), max_steps=3)
    resumed = make_trainer(tmp_path, LogSpacedCheckpoint(tmp_path / "fork"), max_steps=4)
    with pytest.warns(UserWarning, match="The dirpath has changed"):
        resumed.fit(
            BackboneModule(), loader(), ckpt_path=tmp_path / "checkpoints" / "step-000002.ckpt"
        )
    assert sorted(p.stem for p in (tmp_path / "fork").iterdir()) == [
        "last",
        "step-000003",
        "step-000004",
    ]


def command(folder: Path, *extra: str) -> list[str]:
    return [
        *(sys.executable, "-m", "recipes.simclr", "fit", "--seed_everything=0"),
        *("--model.backbone=small_resnet8", "--data=recipes.data.Factors"),
        *("--data.num_images=960", "--data.batch_size=32", "--data.num_probe_images=96"),
        *("--data.probe_per_class=8", "--trainer.accelerator=cpu", "--trainer.max_steps=80"),
        *("--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"),
        f"--trainer.default_root_dir={folder}",
        *("--probe.metrics=[collapse]", "--trainer.logger=lightning.pytorch.loggers.CSVLogger"),
        f"--trainer.logger.save_dir={folder}",
        *extra,
    ]


def start(folder: Path, *extra: str) -> subprocess.Popen[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    environment.pop("PL_GLOBAL_SEED", None)
    root = Path(__file__).parents[2]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command(folder, *extra), cwd=root, env=environment, **pipes)


def finish(process: subprocess.Popen[str]) -> int:
    output, _ = process.communicate(timeout=180)
    assert "Error" not in output, output
    return process.returncode


def wait_for(folder: Path, pattern: str) -> None:
    for _ in range(1200):
        if list(folder.rglob(pattern)):
            return
        time.sleep(0.05)
    raise AssertionError(f"no {pattern} in {folder}")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda s: s.name)
def test_a_recipe_that_is_stopped_and_resumed_ends_the_same(
    number: signal.Signals, tmp_path: Path
) -> None:
    assert finish(start(tmp_path / "unbroken")) == 0
    run = tmp_path / "stopped"
    stopped = start(run)
    wait_for(run, "step-000013.ckpt")
    stopped.send_signal(number)
    # Lightning ends by sys.exit(1) after Ctrl-C, and by a plain SystemExit after SIGTERM.
    assert finish(stopped) == (1 if number is signal.SIGINT else 0)
    (checkpoints,) = run.rglob("checkpoints")
    step = torch.load(checkpoints / "last.ckpt", weights_only=True)["global_step"]
    assert 13 <= step < 80
    assert (checkpoints / f"step-{step:06d}.ckpt").is_file()
    (report,) = run.rglob("report.html")
    assert report.is_file()
    assert finish(start(run, "--ckpt_path=last")) == 0
    assert list(run.rglob("checkpoints")) == [checkpoints]
    (expected,) = (tmp_path / "unbroken").rglob("last.ckpt")
    ends = [torch.load(p, weights_only=True) for p in (expected, checkpoints / "last.ckpt")]
    for key in ("state_dict", "optimizer_states", "lr_schedulers"):
        assert_same(ends[0][key], ends[1][key])
    newest = max(run.rglob("records.jsonl"), key=lambda path: path.stat().st_mtime).parent
    (records,) = (tmp_path / "unbroken").rglob("records.jsonl")
    whole, joined = read_run(records.parent).records, read_run(newest).records
    assert [r.step for r in joined] == [r.step for r in whole]
    for mine, other in zip(joined, whole, strict=True):
        for key, value in other.scalars.items():
            if not key.endswith(("seconds", "overhead")):
                assert mine.scalars[key] == pytest.approx(value, nan_ok=True), (mine.step, key)


def assert_same(mine: Any, other: Any) -> None:
    """Compare nested containers bit by bit."""
    if isinstance(mine, torch.Tensor):
        assert torch.equal(mine, other)
    elif isinstance(mine, dict):
        assert mine.keys() == other.keys()
        for key, value in mine.items():
            assert_same(value, other[key])
    elif isinstance(mine, list | tuple):
        assert len(mine) == len(other)
        for a, b in zip(mine, other, strict=True):
            assert_same(a, b)
    else:
        assert mine == other
