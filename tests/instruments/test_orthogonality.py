"""What the tasks of a probe say together: the same numbers as the plain functions."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from dnc_lightning import ProbeCallback, ProbeSet
from dnc_lightning.functional import (
    axis_cosines,
    class_geometry,
    decision_axes,
    orthogonality_bound,
)
from dnc_lightning.functional.axes import random_floor
from dnc_lightning.functional.labels import cramers_v
from dnc_lightning.instruments import Settings, find_instruments, orthogonality
from dnc_lightning.probe.instrument import expected
from dnc_lightning.probe.labels import Task
from dnc_lightning.probe.measure import Measurement, measure
from dnc_lightning.reporting import Run, read_run
from tests.callbacks.modules import BackboneModule, Floats

CLASSES = {"hue": 3, "size": 2, "style": 4}


def measured(features: Tensor, tasks: dict[str, Task], **options: Any) -> Measurement:
    counts = {name: torch.bincount(task.labels).tolist() for name, task in tasks.items()}
    places = expected(find_instruments(["orthogonality"]), counts, (), thorough=False)
    return measure(features, tasks, places, Settings(**options))["orthogonality"]


def features_and_tasks(n: int = 90, d: int = 7) -> tuple[Tensor, dict[str, Task]]:
    generator = torch.Generator().manual_seed(5)
    tasks, features = {}, torch.randn(n, d, generator=generator)
    for name, classes in CLASSES.items():
        labels = torch.randint(classes, (n,), generator=generator)
        tasks[name] = Task(labels, tuple(f"{name}{c}" for c in range(classes)))
        features += 2 * torch.randn(classes, d, generator=generator)[labels]
    return features, tasks


@pytest.mark.parametrize("normalize", [False, True])
def test_the_numbers_are_those_of_the_functions(normalize: bool) -> None:
    features, tasks = features_and_tasks()
    found = measured(features, tasks, normalize=normalize)
    if normalize:
        features = features / features.norm(dim=1, keepdim=True)
    axes = {
        name: decision_axes(class_geometry(features, task.labels)) for name, task in tasks.items()
    }
    for a, b in (("hue", "size"), ("hue", "style"), ("size", "style")):
        expected = axis_cosines(axes[a][0], axes[b][0]).abs()
        torch.testing.assert_close(
            found.matrices[f"{a}-{b}"].to(expected), expected, rtol=1e-5, atol=1e-6
        )
        labels = tasks[a].labels, tasks[b].labels
        interval = orthogonality_bound(features, *labels)
        bound = torch.maximum(interval.low.abs(), interval.high.abs()).mean()
        for name, value in {
            "abs_cos": expected.mean(),
            "abs_cos_max": expected.max(),
            "bound": bound,
            "dependence": cramers_v(*labels),
        }.items():
            assert found.scalars[f"{a}-{b}/{name}"] == pytest.approx(float(value), rel=1e-5)
        assert found.scalars[f"{a}-{b}/abs_cos_max"] <= 1
        assert found.matrices[f"{a}-{b}"].shape == (len(axes[a][0]), len(axes[b][0]))
    assert found.scalars["floor"] == pytest.approx(random_floor(7))
    assert len(found.scalars) == 3 * 4 + 1
    assert len(found.matrices) == 3


def test_a_feature_that_is_not_finite_leaves_every_key_as_nan() -> None:
    features, tasks = features_and_tasks()
    keys = measured(features, tasks).scalars.keys()
    features[3, 2] = torch.nan
    found = measured(features, tasks)
    assert found.scalars.keys() == keys
    assert all(math.isnan(value) for value in found.scalars.values())
    assert (found.matrices, found.warnings) == ({}, [])


def test_large_matrices_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orthogonality, "LARGEST_MATRIX", 6)
    features, tasks = features_and_tasks()
    found = measured(features, tasks)
    assert list(found.matrices) == ["hue-size", "size-style"]
    assert len(found.scalars) == 13


def labels(n: int = 60) -> dict[str, Tensor]:
    return {"shade": torch.arange(n) % 3, "half": torch.arange(n) // 30, "odd": torch.arange(n) % 2}


class Frozen(BackboneModule):
    """Does not move, so that one and two processes hold the same weights at every step."""

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.0)


class Logged(pl.Callback):
    """Writes every rank's callback_metrics."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        values = {key: float(value) for key, value in trainer.callback_metrics.items()}
        (self.path / f"rank{trainer.global_rank}.json").write_text(json.dumps(values))


def fit(path: Path, devices: int = 1, tasks: dict[str, Tensor] | None = None, **kw: Any) -> Run:
    pl.seed_everything(3, verbose=False)
    module = Frozen().eval()
    for parameter in module.backbone.modules():
        if isinstance(parameter, torch.nn.BatchNorm2d):
            parameter.momentum = 0.0
    probe = ProbeSet(Floats(), per_class=9, labels=labels() if tasks is None else tasks)
    trainer = pl.Trainer(
        max_steps=2,
        accelerator="cpu",
        devices=devices,
        strategy="ddp_fork" if devices > 1 else "auto",
        default_root_dir=path,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[ProbeCallback(probe, **kw), Logged(path)],
    )
    trainer.fit(module, DataLoader(Floats(24), 6))
    return read_run(path / "dnc" / "probe")


PAIRS = ("shade-half", "shade-odd", "half-odd")
PARTS = ("abs_cos", "abs_cos_max", "bound", "dependence")


@pytest.mark.parametrize("encoders", [("backbone",), ("early", "late")])
def test_the_callback_records_and_logs_every_pair(
    tmp_path: Path, encoders: tuple[str, ...]
) -> None:
    chosen: dict[str, Callable[[Any, Tensor], Tensor]] = {
        "early": lambda module, x: module.backbone[0](x).mean((2, 3)),
        "late": lambda module, x: module.backbone(x).flatten(1),
    }
    run = fit(tmp_path, encoder=chosen if len(encoders) > 1 else None)
    logged = json.loads((tmp_path / "rank0.json").read_text())
    for record in run.records:
        matrices = run.matrices(record)
        for encoder in encoders:
            base = "probe/" + (f"{encoder}/" if len(encoders) > 1 else "") + "orthogonality"
            for pair in PAIRS:
                keys = [f"{base}/{pair}/{part}" for part in PARTS]
                assert all(0 <= record.scalars[key] <= 1 for key in keys)
                assert record.scalars[keys[0]] <= record.scalars[keys[2]] + 1e-6
                assert set(keys) < logged.keys()
                matrix = matrices[f"{encoder}/orthogonality/{pair}"]
                assert matrix.mean() == pytest.approx(record.scalars[keys[0]], rel=1e-5)
            assert matrices[f"{encoder}/orthogonality/shade-odd"].shape == (3, 1)
            assert record.scalars[f"{base}/floor"] > 0
            for task in labels():
                shares = [
                    record.scalars[f"{base.removesuffix('orthogonality')}{task}/axis_share/{name}"]
                    for name in ("best", "median", "worst")
                ]
                parts = matrices[f"{encoder}/{task}/variance"]
                assert len(parts) == (3 if task == "shade" else 1)
                share = parts[:, 0] / (parts[:, 0] + parts[:, 4])
                assert set(share.round(5)) == set(torch.tensor(shares).numpy().round(5))
        number = len(PAIRS) * len(PARTS) + 1
        assert sum("/orthogonality/" in key for key in record.scalars) == number * len(encoders)


def test_one_task_gives_no_keys(tmp_path: Path) -> None:
    run = fit(tmp_path, tasks={"shade": labels()["shade"]})
    keys = [key for record in run.records for key in (*record.scalars, *run.matrices(record))]
    assert "probe/shade/cdnv" in keys
    assert not [key for key in keys if "orthogonality" in key]


def test_it_can_be_left_out(tmp_path: Path) -> None:
    run = fit(tmp_path, metrics=["collapse"])
    assert not [key for key in run.records[0].scalars if "orthogonality" in key]


def breaks(module: Any, images: Tensor) -> Tensor:
    features: Tensor = module.backbone(images).flatten(1)
    return features * torch.nan if module.global_step == 1 else features


@pytest.mark.filterwarnings("ignore:probe. probe/.* feature vectors hold nan or infinity")
@pytest.mark.filterwarnings("ignore:probe. .* feature vectors hold nan or infinity")
def test_a_probe_with_broken_features_is_nan_and_later_ones_are_not(tmp_path: Path) -> None:
    run = fit(tmp_path, encoder=breaks)
    floor = {r.step: r.scalars["probe/orthogonality/floor"] for r in run.records}
    assert [math.isnan(floor[step]) for step in (0, 1, 2)] == [False, True, False]


def test_two_processes_give_the_numbers_of_one(tmp_path: Path) -> None:
    one, two = fit(tmp_path / "one"), fit(tmp_path / "two", devices=2)
    assert len(one.header["tasks"]) == 3
    for a, b in zip(one.records, two.records, strict=True):
        assert a.scalars.keys() == b.scalars.keys()
        for key, value in a.scalars.items():
            if "orthogonality" in key or "axis_share" in key:
                assert b.scalars[key] == pytest.approx(value, rel=1e-4, abs=1e-6), key
        stored = two.matrices(b)
        for key, matrix in one.matrices(a).items():
            torch.testing.assert_close(
                torch.tensor(stored[key]),
                torch.tensor(matrix),
                rtol=1e-4,
                atol=1e-5,
                equal_nan=True,
            )
    ranks = [json.loads((tmp_path / "two" / f"rank{r}.json").read_text()) for r in range(2)]
    keys = [key for key in ranks[0] if "orthogonality" in key]
    assert len(keys) == 13
    assert all(ranks[0][key] == ranks[1][key] for key in keys)
