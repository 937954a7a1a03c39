"""A probe that fails leaves nan under every key that it would have given, and the reason."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor
from torchmetrics import Metric

from dnc_lightning import ProbeCallback, ProbeSet
from dnc_lightning.instruments import few_shot, orthogonality, variance
from dnc_lightning.probe import bench
from dnc_lightning.probe.trial import TRIAL_IMAGES
from dnc_lightning.reporting import read_run
from tests.callbacks.fits import fit, records
from tests.callbacks.modules import BackboneModule, Clean

TIMED = ("/seconds", "/overhead")
FAILED = (
    "ignore:probe. The probe failed",
    "ignore:probe. probe/.* feature vectors hold nan or infinity",
    "ignore:probe. probe/.* Measuring failed",
    "ignore:probe. probe/.* Metric .* failed",
    "ignore:You're resuming from a checkpoint that ended before the epoch ended",
)
pytestmark = pytest.mark.filterwarnings(*FAILED)


class Means(Metric):
    """A metric whose keys nobody knows before it has run."""

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros(()), dist_reduce_fx="sum")

    def update(self, features: Tensor, labels: Tensor) -> None:
        self.total += features.mean()

    def compute(self) -> dict[str, Tensor]:
        return {"mean/all": self.total}


class Mean(Means):
    """One value, under the metric's own name."""

    def compute(self) -> Tensor:  # type: ignore[override]
        return self.total


def callback(encoder: Any, **options: Any) -> ProbeCallback:
    tasks = {"class": Clean().targets, "even": torch.arange(60) % 2}
    probe = ProbeSet(Clean(), per_class=8, labels=tasks)
    metrics = ["collapse", "few_shot", "orthogonality", "variance", Mean(), Means()]
    arguments = {"metrics": metrics, "shots": (1, 5), "every_n_train_steps": 1, "examples": False}
    return ProbeCallback(probe, encoder=encoder, **(arguments | options))


def raises(features: Tensor) -> Tensor:
    raise RuntimeError("no such device")


def is_nan(features: Tensor) -> Tensor:
    return features * torch.nan


def is_infinite(features: Tensor) -> Tensor:
    return features.index_fill(0, torch.tensor([0]), torch.inf)


def at(steps: set[int], fails: Callable[[Tensor], Tensor]) -> Callable[[Any, Tensor], Tensor]:
    def encoder(module: Any, images: Tensor) -> Tensor:
        features = module.backbone(images)
        trial = len(images) <= TRIAL_IMAGES  # before training: no probe
        return fails(features) if module.global_step in steps and not trial else features

    return encoder


def keys(record: Any) -> set[str]:
    return {key for key in record.scalars if not key.endswith(TIMED)}


@pytest.mark.parametrize("fails", [raises, is_nan, is_infinite])
def test_every_key_is_nan_with_one_warning_and_the_reason(fails: Any, tmp_path: Path) -> None:
    """At a probe in between, and at the last one with what it alone measures."""
    good = callback(at(set(), fails))
    fit(tmp_path / "good", good, max_steps=4)
    bad = callback(at({2, 4}, fails))
    with pytest.warns(UserWarning, match="nan or infinity|no such device") as caught:
        trainer = fit(tmp_path / "bad", bad, max_steps=4, logger=CSVLogger(tmp_path / "bad"))
    said = [str(w.message) for w in caught if "nan or infinity" in str(w.message)]
    assert len(said) == (0 if fails is raises else 2)  # of each task, once
    for right, wrong in zip(records(good), records(bad), strict=True):
        assert keys(right) == keys(wrong)
        if right.step in (2, 4):
            assert all(math.isnan(wrong.scalars[key]) for key in keys(wrong))
            assert wrong.warnings
            assert wrong.matrices is None
        else:
            held = [key for key in keys(right) if not math.isnan(right.scalars[key])]
            assert held == [key for key in keys(right) if not math.isnan(wrong.scalars[key])]
    assert len(keys(records(bad)[-1])) > 60
    for key in keys(records(bad)[-1]):
        assert math.isnan(float(trainer.callback_metrics[key])), key
    (file,) = (tmp_path / "bad").rglob("metrics.csv")
    rows = list(csv.DictReader(file.read_text().splitlines()))
    for key in keys(records(bad)[2]):
        assert {row[key] for row in rows if row["step"] == "2" and row[key]} == {"nan"}, key


@pytest.mark.parametrize("fails", [raises, is_nan])
def test_the_very_first_probe_too(fails: Any, tmp_path: Path) -> None:
    good, bad = callback(at(set(), fails)), callback(at({0}, fails))
    fit(tmp_path / "good", good, max_steps=2)
    fit(tmp_path / "bad", bad, max_steps=2)
    right, wrong = records(good), records(bad)
    # Of `Means`, whose keys are its own, the name stands for them.
    means = {f"probe/{task}/mean/all" for task in ("class", "even")}
    names = {f"probe/{task}/Means" for task in ("class", "even")}
    assert keys(wrong[0]) == keys(right[0]) - means | names
    assert all(math.isnan(wrong[0].scalars[key]) for key in keys(wrong[0]))
    assert [keys(r) for r in right[1:]] == [keys(r) for r in wrong[1:]]


def test_one_encoder_of_several(tmp_path: Path) -> None:
    encoders = {"sound": "backbone", "broken": at({1}, is_nan)}
    tested = callback(encoders)
    fit(tmp_path, tested, max_steps=2)
    first, second, _ = records(tested)
    assert keys(first) >= keys(second)
    for key in keys(second):
        undefined = math.isnan(first.scalars[key])
        assert math.isnan(second.scalars[key]) == (undefined or key.startswith("probe/broken/"))


FAMILIES = {"collapse": "cdnv", "few_shot": "certificate/5", "variance": "axis_share/best"}


@pytest.mark.parametrize(
    ("place", "broken", "costs"),
    [
        (bench, "class_geometry", list(FAMILIES)),
        (bench, "population_estimate", ["collapse", "few_shot"]),
        (few_shot, "bound_summary", ["few_shot"]),
        (variance, "variance_decomposition", ["variance"]),
    ],
)
def test_a_failure_while_measuring_costs_its_own_series(
    place: Any, broken: str, costs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = callback("backbone")
    fit(tmp_path / "good", good, max_steps=2)
    calls = []
    works = getattr(place, broken)
    sound_calls = 2 if broken == "population_estimate" else 4

    def fails(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) > sound_calls:  # two tasks, twice: BatchNorm is calibrated at first
            raise torch.OutOfMemoryError("the covariances")
        return works(*arguments, **options)

    monkeypatch.setattr(place, broken, fails)
    bad = callback("backbone")
    reason = r"Measuring failed: OutOfMemoryError.'the covariances'. in " + ", ".join(costs)
    with pytest.warns(UserWarning, match=reason):
        trainer = fit(tmp_path / "bad", bad, max_steps=2)
    assert trainer.global_step == 2
    right, wrong = records(good), records(bad)
    assert [keys(r) for r in right] == [keys(r) for r in wrong]
    assert len(wrong[-1].warnings) == 2  # of each task, once
    lost = {f"probe/{task}/{FAMILIES[name]}" for name in costs for task in ("class", "even")}
    assert all(math.isnan(wrong[-1].scalars[key]) for key in lost)
    for name in [*set(FAMILIES) - set(costs), "orthogonality", "mean"]:
        key = {"orthogonality": "orthogonality/floor", "mean": "class/mean/all"}.get(
            name, f"class/{FAMILIES.get(name)}"
        )
        value = right[-1].scalars[f"probe/{key}"]
        assert not math.isnan(value)
        assert wrong[-1].scalars[f"probe/{key}"] == value


def test_a_failure_between_the_tasks_is_survived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise ValueError("too many tasks")

    monkeypatch.setattr(orthogonality, "orthogonality_summary", fails)
    tested = callback("backbone")
    with pytest.warns(UserWarning, match="probe/orthogonality: Measuring failed: ValueError"):
        fit(tmp_path, tested, max_steps=1)
    for record in records(tested):
        assert math.isnan(record.scalars["probe/orthogonality/class-even/abs_cos"])
        assert not math.isnan(record.scalars["probe/class/cdnv"])


def test_a_further_metric_that_fails_is_nan_under_the_keys_that_it_had(tmp_path: Path) -> None:
    class Breaks(Means):
        def update(self, features: Tensor, labels: Tensor) -> None:
            if len(updates) > 6:
                raise ArithmeticError("overflow")
            updates.append(1)
            super().update(features, labels)

    updates: list[int] = []
    tested = callback("backbone", metrics=["collapse", Breaks()])
    with pytest.warns(UserWarning, match=r"Metric Breaks failed and is nan: ArithmeticError"):
        fit(tmp_path, tested, max_steps=3)
    values = [record.scalars["probe/class/mean/all"] for record in records(tested)]
    assert [math.isnan(value) for value in values] == [False, False, True, True]
    assert "ArithmeticError" in records(tested)[-1].warnings[0]


def test_keys_of_further_metrics_survive_a_resumption(tmp_path: Path) -> None:
    trainer = fit(tmp_path, callback("backbone"), max_steps=2)
    trainer.save_checkpoint(tmp_path / "two.ckpt")
    again = callback("backbone")
    again.encoder = "backbone"

    class Diverges(BackboneModule):
        def on_train_start(self) -> None:
            with torch.no_grad():
                self.backbone[0].weight.fill_(torch.nan)

    fit(tmp_path, again, module=Diverges(), max_steps=3, ckpt_path=tmp_path / "two.ckpt")
    assert math.isnan(records(again)[-1].scalars["probe/class/mean/all"])


class Diverging(BackboneModule):
    def training_step(self, batch: Any, index: int) -> Any:
        if self.global_step == 6:
            with torch.no_grad():
                self.backbone[0].weight.fill_(torch.nan)
        return super().training_step(batch, index)


@pytest.mark.parametrize(
    "key",
    [
        "few_shot_error/5",
        "certificate/5",
        "cdnv_median",
        "axis_share/worst",
        "shots_needed",
        "theorem_4_1/5",
        "resolved_pairs",
    ],
)
def test_training_stops_at_once_and_the_best_model_is_a_sound_one(key: str, tmp_path: Path) -> None:
    tested = ProbeCallback(ProbeSet(Clean(), per_class=8), shots=(5,), every_n_epochs=1)
    monitor = f"probe/label/{key}"
    stops = EarlyStopping(monitor, patience=50, check_on_train_epoch_end=True)
    keeps = ModelCheckpoint(tmp_path, monitor=monitor, save_on_train_epoch_end=True)
    if key == "shots_needed":
        stops.check_finite = False  # nan is also where no number suffices
    trainer = fit(tmp_path, tested, stops, keeps, module=Diverging(), max_epochs=4)
    assert trainer.current_epoch == (4 if key == "shots_needed" else 2)
    assert math.isnan(float(trainer.callback_metrics[monitor]))
    state = torch.load(keeps.best_model_path, weights_only=True)["state_dict"]
    assert state["backbone.0.weight"].isfinite().all()


class Dump(pl.Callback):
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_end(self, trainer: pl.Trainer, *_: Any) -> None:
        values = {k: float(v) for k, v in trainer.callback_metrics.items()}
        (self.folder / f"rank{trainer.global_rank}.json").write_text(json.dumps(values))


class BreaksOnOneRank(Mean):
    def update(self, features: Tensor, labels: Tensor) -> None:
        if torch.distributed.get_rank() == 1:
            raise ArithmeticError("overflow")
        super().update(features, labels)


def on_one_rank(module: Any, images: Tensor) -> Tensor:
    if module.trainer.global_rank == 1 and module.global_step == 2:
        raise RuntimeError("bad block")
    features: Tensor = module.backbone(images)
    return features


def test_two_processes_agree_on_what_failed(tmp_path: Path) -> None:
    tested = callback(on_one_rank, metrics=["collapse", BreaksOnOneRank()])
    fit(
        tmp_path,
        tested,
        Dump(tmp_path),
        max_steps=2,
        devices=2,
        strategy="ddp_fork",
    )
    first, second, third = read_run(tmp_path / "dnc" / "probe").records
    assert math.isnan(first.scalars["probe/class/BreaksOnOneRank"])
    assert math.isfinite(second.scalars["probe/class/cdnv"])
    assert "it failed on another rank" in second.warnings[0]
    assert all(math.isnan(third.scalars[key]) for key in keys(third))
    ranks = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1)]
    assert ranks[0].keys() == ranks[1].keys()
    assert all(math.isnan(rank[key]) for rank in ranks for key in keys(third))
