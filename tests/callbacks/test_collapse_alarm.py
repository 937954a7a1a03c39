"""The alarm in real fits: what provokes it, what it says and where, and that it does no harm."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.loggers import Logger
from torch import Tensor, nn

from dnc_lightning import CollapseAlarm, LogSpacedCheckpoint
from dnc_lightning.callbacks.tripwire import EVERY
from dnc_lightning.reporting import read_run
from dnc_lightning.reporting.read.alarm import alarm_words
from tests.callbacks.fits import Manual, fit, probe, records, steps
from tests.callbacks.modules import BackboneModule

EACH = {"every_n_train_steps": 1, "metrics": ["collapse", "few_shot", "health"], "shots": [1, 2]}
DIM = 24
ANY_ALARM = pytest.mark.filterwarnings("ignore:CollapseAlarm")


class Steps(BackboneModule):
    """A module that knows the step it is at, with a loss of the test's choice."""

    def __init__(self, loss: Any = None) -> None:
        super().__init__()
        self.given = loss

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        loss = super().training_step(batch, index)
        return loss if self.given is None else self.given(loss, self.global_step)


class Silent(Manual):
    """Optimizes by itself, and returns nothing."""

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        super().training_step(batch, index)


def shrinking(step: int, kind: str) -> Any:
    """An encoder whose features are noise that tells classes, until they fall to few dimensions."""

    def encode(module: Any, images: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(1)
        basis = torch.randn(DIM, DIM, generator=generator)
        flat = images.float().flatten(1) / 255
        flat = flat @ torch.randn(flat.shape[1], DIM, generator=generator)
        flat = torch.nn.functional.normalize(flat) @ basis
        if module.global_step < step:
            return flat
        if kind == "nan":
            return flat * torch.nan
        # All that is left is one direction, which tells no classes.
        return 1 + 1e-3 * torch.sin(1e5 * flat[:, :1]) * basis[0]

    return encode


@ANY_ALARM
@pytest.mark.parametrize("stop", [True, False])
def test_a_collapse_is_told_within_two_probes_and_can_stop_the_run(
    stop: bool, tmp_path: Path
) -> None:
    callback, alarm = probe(**EACH, encoder=shrinking(9, "one")), CollapseAlarm(stop)
    kept = LogSpacedCheckpoint()
    with pytest.warns(UserWarning, match="CollapseAlarm, probe: encode: complete collapse"):
        fit(tmp_path, callback, alarm, kept, module=Steps(), max_steps=14)
    assert steps(callback)[-1] == (10 if stop else 14)
    (text,) = alarm.alarms_
    assert "since step 9" in text
    assert "last healthy probe: step 8" in text
    assert f"{tmp_path}/checkpoints/step-000008.ckpt." in text
    assert text.endswith("Training is stopped.") == stop
    assert callback.run_dir_ is not None
    (words,) = alarm_words(read_run(callback.run_dir_))  # the page's is that of the records
    assert words.partition(" Last healthy checkpoint")[0] in text
    assert words.endswith("Last healthy checkpoint: step-000008.ckpt.")


@ANY_ALARM
@pytest.mark.filterwarnings("ignore:probe. probe/.* feature vectors hold nan")
def test_features_that_become_nan(tmp_path: Path) -> None:
    callback, alarm = probe(**EACH, encoder=shrinking(5, "nan")), CollapseAlarm()
    fit(tmp_path, alarm, callback, module=Steps(), max_steps=12)  # whatever the order
    assert [text.partition(",")[0] for text in alarm.alarms_] == [
        "encode: no finite number is left: features are nan or infinite"
    ]
    assert "since step 5" in alarm.alarms_[0]


LOSSES = {
    "nan": (
        lambda loss, step: loss if step < 40 else loss * 0 + math.nan,
        "not finite: nan at each of the last 3",
        64,
    ),
    "still": (lambda loss, step: loss * 0 + 1.5, "has been 1.5 for 64 steps and does not", 64),
    "prototypes": (
        lambda loss, step: loss * 0 + math.log(3) + 1e-4 * (step % 3),
        r"log 3 = 1.0986 for 64 steps, that of guessing .* \(.* has 3 outputs\)",
        64,
    ),
}


@ANY_ALARM
@pytest.mark.parametrize("kind", LOSSES)
def test_the_loss_is_watched_between_probes(kind: str, tmp_path: Path) -> None:
    loss, words, at = LOSSES[kind]
    callback, alarm = probe(every_n_train_steps=1000), CollapseAlarm(stop=True)
    module = Steps(loss)
    with pytest.warns(UserWarning, match=words):
        fit(tmp_path, callback, alarm, module=module, max_steps=200)
    assert steps(callback) == [0, at]
    # The next record has it, for the page: nothing else there shows it.
    assert callback.run_dir_ is not None
    assert alarm_words(read_run(callback.run_dir_)) == [
        alarm.alarms_[0].removesuffix(" Training is stopped.")
    ]


@pytest.mark.parametrize(
    "loss",
    [
        None,
        lambda loss, step: loss if step % 32 != 31 else loss * 0 + math.inf,  # skipped by scalers
        lambda loss, step: {"loss": loss + math.log(3) + 1e-2 * (step % 3)},
    ],
)
def test_a_healthy_loss_is_left_alone(loss: Any, tmp_path: Path) -> None:
    callback, alarm = probe(every_n_train_steps=1000), CollapseAlarm()
    fit(tmp_path, callback, alarm, module=Steps(loss), max_steps=130, detect_anomaly=False)
    assert alarm.alarms_ == []
    assert steps(callback) == [0, 130]


@pytest.mark.filterwarnings("ignore:probe. Steps are batches")
def test_a_module_that_hands_out_no_loss_is_watched_by_its_probes(tmp_path: Path) -> None:
    callback, alarm = probe(every_n_train_steps=1000), CollapseAlarm()
    fit(tmp_path, callback, alarm, module=Silent("one"), max_epochs=9)
    assert alarm.alarms_ == []


def test_a_batch_that_loses_its_dimensions_calls_for_a_probe(tmp_path: Path) -> None:
    """Not for an alarm: only the probe has labels and a history to judge by."""

    class Breaks(Steps):
        def __init__(self) -> None:
            super().__init__()
            layer = nn.Linear(432, 8)
            layer.weight.data -= layer.weight.data.mean(1, keepdim=True)  # blind to brightness
            self.backbone = nn.Sequential(nn.Flatten(), layer)

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 1e-9)

        def on_train_batch_start(self, *_: Any) -> None:
            if self.global_step == 6 * EVERY - 5:
                self.backbone[1].weight.data[1:] = self.backbone[1].weight.data[:1]

    callback, alarm = probe(every_n_train_steps=1000), CollapseAlarm()
    fit(tmp_path, callback, alarm, module=Breaks(), max_steps=7 * EVERY)
    assert steps(callback) == [0, 6 * EVERY + 1, 7 * EVERY]
    assert alarm.alarms_ == []


def state(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def test_training_is_bitwise_the_same(tmp_path: Path) -> None:
    found = []
    for callbacks in ([], [probe(**EACH), CollapseAlarm()]):
        module = BackboneModule()
        torch.manual_seed(0)
        module.apply(lambda m: m.reset_parameters() if hasattr(m, "reset_parameters") else None)
        fit(tmp_path, *callbacks, module=module, max_steps=3 * EVERY)
        found.append((state(module), torch.get_rng_state()))
        hooks = [len(part._forward_hooks) for part in module.modules()]
        assert not any(hooks)
    (a, a_rng), (b, b_rng) = found
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert torch.equal(a_rng, b_rng)


@ANY_ALARM
@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before")
def test_a_resumed_run_goes_on_comparing_and_says_nothing_twice(tmp_path: Path) -> None:
    def run(folder: Path, last: int, ckpt: Path | None = None) -> CollapseAlarm:
        alarm = CollapseAlarm()
        fit(
            folder,
            probe(**EACH, encoder=shrinking(9, "one")),
            alarm,
            LogSpacedCheckpoint(tmp_path / "kept"),
            module=Steps(),
            max_steps=last,
            ckpt_path=ckpt,
        )
        return alarm

    run(tmp_path, 9)
    resumed = run(tmp_path, 14, tmp_path / "kept" / "step-000009.ckpt")
    assert len(resumed.alarms_) == 1
    assert "since step 9" in resumed.alarms_[0]
    again = run(tmp_path, 16, tmp_path / "kept" / "step-000014.ckpt")
    assert again.alarms_ == resumed.alarms_


class Alerts(Logger):
    """Stands for W&B: the callback looks at a logger's class name."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self.error, self.sent = error, []

    name, version, save_dir = "wandb", "0", None  # type: ignore[assignment]

    @property
    def experiment(self) -> Any:
        return self

    def alert(self, **said: str) -> None:
        if self.error is not None:
            raise self.error
        self.sent.append(said)

    def define_metric(self, *_: Any, **__: Any) -> None: ...

    def log_metrics(self, *_: Any, **__: Any) -> None: ...

    def log_hyperparams(self, *_: Any, **__: Any) -> None: ...


Alerts.__name__ = "WandbLogger"


@ANY_ALARM
@pytest.mark.filterwarnings("ignore:probe. WandbLogger failed to log charts")
@pytest.mark.parametrize("error", [None, OSError("no network")])
def test_an_alert_is_sent_once(error: Exception | None, tmp_path: Path) -> None:
    logger = Alerts(error)
    options = {"logger": logger, "module": Steps(), "max_steps": 14}
    callback = probe(**EACH, encoder=shrinking(9, "one"), dirpath=tmp_path / "run")
    if error is None:
        fit(tmp_path, callback, CollapseAlarm(), **options)
        (sent,) = logger.sent
        assert sent["title"] == "Collapse at step 10"
        assert "complete collapse" in sent["text"]
        assert sent["level"] == "WARN"
    else:
        with pytest.warns(UserWarning, match=r"failed to alert: OSError\('no network'\)"):
            fit(tmp_path, callback, CollapseAlarm(), **options)
    assert len(records(callback)) == 15


def test_without_a_probe_it_says_what_to_add(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"CollapseAlarm watches .* add ProbeCallback"):
        fit(tmp_path, CollapseAlarm(), max_steps=1)


class OneRank(BackboneModule):
    """The loss of one process alone becomes nan; gradients are none, so that weights stay alike."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        self.rank = rank

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        loss = super().training_step(batch, index)
        broken = self.global_rank == self.rank and self.global_step >= 40
        return loss * 0 + (math.nan if broken else 1 + 0.1 * (index % 5))


class LastStep(pl.Callback):
    """Writes the last step of every process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        (self.folder / f"rank{trainer.global_rank}").write_text(str(trainer.global_step))


@ANY_ALARM
@pytest.mark.parametrize(("rank", "last"), [(0, 64), (1, 80)])
def test_processes_stop_together_by_the_loss_of_rank_zero(
    rank: int, last: int, tmp_path: Path
) -> None:
    callbacks = [probe(every_n_train_steps=1000), CollapseAlarm(stop=True), LastStep(tmp_path)]
    two = {"devices": 2, "strategy": "ddp_fork", "max_steps": 80}
    fit(tmp_path, *callbacks, module=OneRank(rank), **two)
    assert [(tmp_path / f"rank{r}").read_text() for r in (0, 1)] == [str(last)] * 2
