"""The probes as instruments: the functions' numbers; and with all the others in real fits."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor

from dnc_lightning.functional import (
    TrainingSet,
    accuracy,
    half_of_each_class,
    knn_accuracy,
    logistic_probe,
    ridge_probe,
)
from dnc_lightning.functional.few_shot import Shard
from dnc_lightning.instruments import DEFAULT, Bench, Settings, find_instruments
from dnc_lightning.probe.labels import Task
from dnc_lightning.reporting import read_run
from tests.callbacks.fits import fit, probe, records
from tests.functional.shards import run_sharded
from tests.instruments.test_keys import measured

NEW = ["guarantee", "health", "knn", "linear"]


def features_and_task(counts: tuple[int, ...] = (30, 45, 25)) -> tuple[Tensor, Task]:
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    labels = labels[torch.randperm(len(labels), generator=generator)]
    features = torch.randn(len(labels), 6, generator=generator) + 1.2 * torch.eye(6)[labels]
    return features, Task(labels, ("a", "b", "c"))


def test_the_numbers_are_those_of_the_functions() -> None:
    features, task = features_and_task()
    here, keys = measured(features, {"label": task}, ["knn", "linear"])
    found, labels = here["label"], task.labels
    assert set(found.scalars) == set(keys["label"])
    train = half_of_each_class(labels)
    data = TrainingSet.build(features[train], labels[train])
    expected = {
        "knn": knn_accuracy(features, labels, k=20, temperature=0.07),
        **{
            name: accuracy(fitted(data).scores(features[~train]).argmax(1), labels[~train], 3)
            for name, fitted in (("ridge", ridge_probe), ("logistic", logistic_probe))
        },
    }
    for name, value in expected.items():
        assert 0.4 < float(value.top1) < 0.95
        assert found.scalars[f"{name}/top1"] == float(value.top1)
        assert found.scalars[f"{name}/top1_se"] == float(value.top1_error)
        assert found.scalars[f"{name}/balanced"] == float(value.balanced)
        assert found.scalars[f"{name}/balanced_se"] == float(value.balanced_error)
        assert torch.equal(found.matrices[f"{name}/per_class"], value.per_class)
    assert found.scalars["knn/chance"] == 0.45
    assert found.scalars["linear/chance"] == pytest.approx(22 / 49)
    assert (found.notes, found.warnings) == ([], [])


def test_what_is_nan_has_its_reason() -> None:
    features, task = features_and_task((9, 7, 4))
    found = measured(features, {"label": task}, ["knn"])[0]["label"]
    assert all(math.isnan(value) for value in found.scalars.values())
    assert found.notes == ["kNN is nan: it needs more than 20 samples, here are 20."]
    features, task = features_and_task((9, 7, 1))
    found = measured(features, {"label": task}, ["linear"])[0]["label"]
    assert all(math.isnan(value) for value in found.scalars.values())
    assert found.notes == ["Linear probes are nan: they need two samples of class c, here is one."]
    assert found.warnings == []


def test_what_costs_more_is_asked_for_by_name() -> None:
    assert [i.name for i in find_instruments(NEW)] == NEW
    assert set(NEW) - set(DEFAULT) == {"knn", "linear"}


def test_a_fit_records_and_logs_all_of_them(tmp_path: Path) -> None:
    tested = probe(metrics=NEW, shots=(1, 2))
    trainer = fit(tmp_path, tested, max_steps=2)
    last = records(tested)[-1].scalars
    labelled = ("guarantee/2", "knn/top1", "ridge/top1", "logistic/balanced_se")
    for key in ("probe/features/rankme", *(f"probe/label/{key}" for key in labelled)):
        assert 0 <= last[key] < 100
        assert float(trainer.callback_metrics[key]) == pytest.approx(last[key])
    run = read_run(tested.run_dir_ or tmp_path)
    assert run.matrices(run.records[-1])["backbone/label/ridge/per_class"].shape == (3,)
    assert run.records[-1].warnings == ()


class Dump(pl.Callback):
    """What every rank has of the task."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_end(self, trainer: pl.Trainer, *_: Any) -> None:
        values = {
            k: float(v)
            for k, v in trainer.callback_metrics.items()
            if k.startswith(("probe/label/", "probe/features/"))
        }
        (self.folder / f"rank{trainer.global_rank}.json").write_text(json.dumps(values))


def test_two_processes_have_the_numbers_of_one(tmp_path: Path) -> None:
    """At the first probe, before training takes different ways."""
    fit(tmp_path / "one", probe(metrics=NEW, shots=(1, 3)), max_steps=1)
    both = probe(metrics=NEW, shots=(1, 3))
    fit(tmp_path, both, Dump(tmp_path), max_steps=1, devices=2, strategy="ddp_fork")
    first = read_run(tmp_path / "dnc" / "probe").records[0]
    alone = read_run(tmp_path / "one" / "dnc" / "probe").records[0]
    keys = {key for key in alone.scalars if key.startswith(("probe/label/", "probe/features/"))}
    assert len(keys) > 30
    assert {key: first.scalars[key] for key in keys} == pytest.approx(
        {key: alone.scalars[key] for key in keys}, rel=1e-5, nan_ok=True
    )
    assert sum(not math.isnan(alone.scalars[key]) for key in keys) > 25
    assert first.warnings == alone.warnings == ()
    ranks = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1)]
    assert ranks[0] == pytest.approx(ranks[1], nan_ok=True)


@pytest.mark.parametrize("name", ["transfer", "views", "linear"])
def test_two_shards_have_the_numbers_of_the_whole(name: str) -> None:
    features, task = features_and_task()
    (instrument,) = find_instruments([name])

    def found(rows: Tensor, shards: dict[str, Shard]) -> dict[str, float]:
        here = {"label": Task(task.labels[rows], task.classes)}
        bench = Bench(features[rows], here, Settings(), thorough=True, shards=shards)
        return {key: float(value) for key, value in instrument.measure(bench).scalars.items()}

    def work(rank: int, reduce: Any) -> dict[str, float]:
        rows = torch.arange(100)[rank::2]
        return found(rows, {"label": Shard(task.labels, rows, reduce)})

    whole = found(torch.arange(100), {})
    assert len(whole) >= 2
    for part in run_sharded(work, 2):
        assert part == pytest.approx(whole, rel=1e-6, nan_ok=True)
