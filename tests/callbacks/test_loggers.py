"""One fit with four loggers, each read back and compared with the records."""

from __future__ import annotations

import csv
import json
import math
import random
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from torch import Tensor
from torchmetrics import Metric

from dnc_lightning import ProbeCallback, ProbeSet
from dnc_lightning.callbacks import deadlines
from dnc_lightning.instruments import DEFAULT
from dnc_lightning.reporting import Run, read_run
from dnc_lightning.reporting.read.few_shot import TRACKED, few_shot
from dnc_lightning.reporting.read.views import METRICS, views
from tests.callbacks.modules import BackboneModule, Clean, loader

SHOTS = (1, 5, 10)
KEY = "probe/label"


class Memory(Logger):
    """Keeps what it is given, under the step it came with."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[int, dict[str, float]]] = []

    name, version = "memory", "0"

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.rows.append((int(step or 0), dict(metrics)))

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None: ...


class Broken(Memory):
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        raise ConnectionError("no route to the server")


class BrokenWandb(Broken):
    LOGGER_JOIN_CHAR = "-"
    experiment = None


BrokenWandb.__name__ = "WandbLogger"  # charts are chosen by the name of a class


class Distances(Metric):
    """Distances of the class means, from the features themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.add_state("features", [], dist_reduce_fx="cat")
        self.add_state("labels", [], dist_reduce_fx="cat")

    def update(self, features: Tensor, labels: Tensor) -> None:
        self.features.append(features)
        self.labels.append(labels)

    def compute(self) -> dict[str, Tensor]:
        features, labels = torch.cat(self.features).double(), torch.cat(self.labels)
        means = [features[labels == k].mean(0) for k in range(3)]
        return {f"apart/{i}{j}": (means[i] - means[j]).norm() for i in range(3) for j in range(3)}


def train(
    root: Path,
    loggers: Any,
    steps: int = 6,
    *,
    quiet: bool = False,
    metrics: Any = None,
) -> tuple[ProbeCallback, BackboneModule]:
    """Train; quietly without Lightning's own logging, which a broken logger does stop."""
    pl.seed_everything(1, verbose=False)
    probe = ProbeSet(Clean(), per_class=15)
    callback, module = ProbeCallback(probe, metrics=metrics, shots=SHOTS), BackboneModule()
    if quiet:
        module.log = lambda *args, **kwargs: None  # type: ignore[method-assign]
    trainer = pl.Trainer(
        max_steps=steps,
        accelerator="cpu",
        default_root_dir=root,
        logger=loggers,
        callbacks=[callback],
        log_every_n_steps=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, loader())
    return callback, module


class Fit:
    """What one fit left behind."""

    def __init__(self, root: Path) -> None:
        self.root, self.memory = root, Memory()
        wandb_logger = WandbLogger(project="p", save_dir=root, offline=True, log_model=False)
        csv_logger, board = CSVLogger(root, version=0), TensorBoardLogger(root, version=0)
        loggers = [csv_logger, board, wandb_logger, self.memory]
        callback, _ = train(root, loggers, metrics=[*DEFAULT, Distances()])
        wandb_logger.experiment.finish()
        self.csv = Path(csv_logger.log_dir) / "metrics.csv"
        self.board = Path(board.log_dir)
        assert callback.run_dir_ is not None
        self.run: Run = read_run(callback.run_dir_)

    def items(self) -> list[tuple[str, int, float]]:
        return [(k, r.step, v) for r in self.run.records for k, v in r.scalars.items()]


@pytest.fixture(scope="module")
def fit(tmp_path_factory: pytest.TempPathFactory) -> Fit:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_SILENT", "true")
        return Fit(tmp_path_factory.mktemp("fit"))


def same(read: float, value: float) -> bool:
    return math.isnan(value) if math.isnan(read) else read == pytest.approx(value, rel=1e-6)


def test_there_is_something_to_compare(fit: Fit) -> None:
    assert [record.step for record in fit.run.records] == [0, 1, 2, 3, 4, 5, 6]
    assert len(fit.run.records[-1].scalars) > 30
    assert not [text for record in fit.run.records for text in record.warnings]


def test_memory_holds_every_number_at_its_step(fit: Fit) -> None:
    held = {(key, step): v for step, row in fit.memory.rows for key, v in row.items()}
    assert all(same(held[key, step], value) for key, step, value in fit.items())


def test_csv_holds_every_number_at_its_step(fit: Fit) -> None:
    held: dict[tuple[str, int], float] = {}
    for row in csv.DictReader(fit.csv.read_text().splitlines()):
        held |= {(k, int(row["step"])): float(v) for k, v in row.items() if v and k != "step"}
    assert all(same(held[key, step], value) for key, step, value in fit.items())


def test_tensorboard_holds_every_number_at_its_step(fit: Fit) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(fit.board), size_guidance={"scalars": 0}).Reload()
    for key in fit.run.records[-1].scalars:
        steps, values = fit.run.series(key)
        found = events.Scalars(key)
        if key.endswith(("seconds", "overhead")):
            del found[-2]  # the last step was probed a second time, at the end
        assert [event.step for event in found] == steps.tolist()
        assert all(same(e.value, v) for e, v in zip(found, values, strict=True))


def test_tensorboard_lays_out_charts_and_shows_pictures(fit: Fit) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.custom_scalar import layout_pb2

    events = EventAccumulator(str(fit.board), size_guidance={"images": 0}).Reload()
    tensor = events.Tensors("custom_scalars__config__")[-1].tensor_proto
    layout = layout_pb2.Layout.FromString(tensor.string_val[0])
    charts = {chart.title: list(chart.multiline.tag) for chart in layout.category[0].chart}
    assert layout.category[0].title == "probe"
    charts.pop("label: Distances", None)  # what a further metric declares
    further = {title for title, tags in charts.items() if "probe/features/" in tags[0]}
    assert {"RankMe", "Effective rank", "Dead units"} <= further
    assert charts["RankMe"] == ["^probe/features/rankme$", "^probe/features/rankme_noise$"]
    charts = {title: tags for title, tags in charts.items() if title not in further}
    assert charts == {
        "label: collapse": [f"^{KEY}/{metric}$" for metric in METRICS],
        "label: error and bounds, m = 5": [f"^{KEY}/{name}/5$" for name in TRACKED],
    }
    for name in ("few_shot", *METRICS):
        images = events.Images(f"{KEY}/charts/{name}")
        assert [image.step for image in images] == [6]


def wandb_records(root: Path) -> list[dict[str, Any]]:
    file = next(root.glob("wandb/offline-run-*/*.wandb"))
    command = [str(Path(sys.executable).with_name("wandb")), "leet", "inspect", "--json", str(file)]
    out = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    return [json.loads(line) for line in out.splitlines()]


@pytest.fixture(scope="module")
def wandb_rows(fit: Fit) -> list[dict[str, Any]]:
    return wandb_records(fit.root)


def test_wandb_holds_every_number_at_its_step(fit: Fit, wandb_rows: Any) -> None:
    items = [row["history"]["item"] for row in wandb_rows if row["type"] == "history"]
    held = {
        (key, item["trainer/global_step"]): float(value)
        for item in items
        for key, value in item.items()
        if isinstance(value, int | float) or value == "NaN"
    }
    assert all(same(held[key, step], value) for key, step, value in fit.items())
    # Lightning numbers its own rows by the step before the batch, so only ours are in order.
    axes = [item["trainer/global_step"] for item in items if f"{KEY}/cdnv" in item]
    assert axes == [0, 1, 2, 3, 4, 5, 6]
    metrics = [row["metric"] for row in wandb_rows if row["type"] == "metric"]
    assert any(
        m.get("glob_name") == "probe/*" and m["step_metric"] == "trainer/global_step"
        for m in metrics
    )


def media(fit: Fit, kind: str, name: str) -> list[Path]:
    folder = next(fit.root.glob("wandb/offline-run-*/files")) / "media" / kind / KEY / "charts"
    return sorted(folder.glob(f"{name}_[0-9]*"), key=lambda p: int(p.name.split("_")[-2]))


def test_wandb_tables_are_the_records(fit: Fit, wandb_rows: Any) -> None:
    ends = [fit.run.records[0], fit.run.records[-1]]
    view = views(fit.run)[0]
    for path, record in zip(media(fit, "table", "pairs"), ends, strict=True):
        table = json.loads(path.read_text())
        stored = fit.run.matrices(record)
        cdnv, directional = (stored[f"backbone/label/{metric}"] for metric in METRICS)
        expected = [
            [
                view.classes[i],
                view.classes[j],
                cdnv[i, j],
                directional[i, j],
                directional[j, i],
                record.scalars[f"{KEY}/apart/{i}{j}"],
            ]
            for i in range(3)
            for j in range(3)
            if i != j
        ]
        for row, right in zip(table["data"], expected, strict=True):
            assert row[:2] == right[:2]
            assert row[2:] == pytest.approx(right[2:], rel=1e-5)
    logged = json.dumps(wandb_rows)
    for path, record in zip(media(fit, "table", "few_shot_table"), ends, strict=True):
        assert path.name in logged
        rows = json.loads(path.read_text())["data"]
        numbers = few_shot(Run(fit.run.folder, fit.run.header, (record,), ()), view, max_probes=1)
        assert numbers is not None
        measured = {m: v for m, name, v in rows if name == "Measured"}
        bounds = {m: v for m, name, v in rows if name == "Certificate"}
        for column, m in enumerate(SHOTS):
            assert measured[m] == pytest.approx(numbers.values["few_shot_error"][0, column])
            assert bounds[m] == pytest.approx(min(1, numbers.values["certificate"][0, column]))


def test_wandb_pictures_are_files_that_the_run_names(fit: Fit, wandb_rows: Any) -> None:
    from PIL import Image

    logged = json.dumps(wandb_rows)
    for metric in METRICS:
        found = media(fit, "images", metric)
        assert len(found) == 1
        assert found[0].name in logged
        assert np.asarray(Image.open(found[0])).std() > 10


def test_loggers_that_raise_do_not_stop_or_change_training(tmp_path: Path) -> None:
    memory = Memory()
    with pytest.warns(UserWarning, match="failed to log") as told:
        callback, broken = train(tmp_path / "a", [Broken(), BrokenWandb(), memory], 3, quiet=True)
    texts = " ".join(str(warning.message) for warning in told)
    assert "Broken failed to log" in texts
    assert "WandbLogger failed to log charts" in texts
    assert callback.run_dir_ is not None
    run = read_run(callback.run_dir_)
    assert [record.step for record in run.records] == [0, 1, 2, 3]
    assert any("failed to log" in text for text in run.records[0].warnings)
    assert {step for step, row in memory.rows if f"{KEY}/cdnv" in row} == {0, 1, 2, 3}
    _, alone = train(tmp_path / "b", [Memory()], 3, quiet=True)
    assert broken.losses == alone.losses


class Nameless(Memory):
    @property
    def version(self) -> str:
        raise ConnectionError("no route to the server")


def test_a_logger_without_a_version_does_not_stop_training(tmp_path: Path) -> None:
    nameless = Nameless()
    with pytest.warns(UserWarning, match="Nameless failed to name the run's folder.*no route"):
        callback, _ = train(tmp_path, [nameless], 3, quiet=True)
    assert callback.run_dir_ == tmp_path / "dnc" / "probe"
    assert [record.step for record in read_run(callback.run_dir_).records] == [0, 1, 2, 3]
    assert {step for step, row in nameless.rows if f"{KEY}/cdnv" in row} == {0, 1, 2, 3}


class Blocked(Memory):
    """Its server does not answer from step 1 on."""

    def __init__(self, free: threading.Event) -> None:
        super().__init__()
        self.free = free

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if step and f"{KEY}/cdnv" in metrics:
            self.free.wait(60)
        super().log_metrics(metrics, step)


@pytest.mark.filterwarnings("ignore:probe. Blocked failed to log. TimeoutError")
def test_a_logger_that_blocks_is_left_after_the_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deadlines, "LOGGER_DEADLINE", 0.5)
    free, memory = threading.Event(), Memory()
    began = time.monotonic()
    callback, _ = train(tmp_path, [Blocked(free), memory], 3, quiet=True)
    assert time.monotonic() - began < 20
    free.set()
    assert callback.run_dir_ is not None
    records = read_run(callback.run_dir_).records
    assert [record.step for record in records] == [0, 1, 2, 3]
    assert not records[0].warnings
    assert "has not returned for 0.5 s" in records[1].warnings[0]
    assert "an earlier call has not returned" in records[2].warnings[0]
    assert {step for step, row in memory.rows if f"{KEY}/cdnv" in row} == {0, 1, 2, 3}


@pytest.mark.parametrize("name", ["..", "."])
def test_names_that_are_folders_keep_their_charts(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_SILENT", "true")
    logger = WandbLogger(name=name, version=name, project=name, save_dir=tmp_path, offline=True)
    pl.seed_everything(1, verbose=False)
    callback = ProbeCallback(ProbeSet(Clean(), per_class=15), shots=SHOTS, name=name)
    trainer = pl.Trainer(
        max_steps=1,
        accelerator="cpu",
        logger=logger,
        callbacks=[callback],
        log_every_n_steps=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(BackboneModule(), loader())
    logger.experiment.finish()
    dots = "_" * len(name)
    assert callback.run_dir_ == tmp_path / dots / dots / "dnc" / dots
    assert not any(record.warnings for record in read_run(callback.run_dir_).records)
    files = {path.name for path in tmp_path.rglob(f"media/*/{dots}/label/charts/*")}
    assert any(file.startswith("pairs_") for file in files)
    assert any(file.startswith("directional_cdnv_") for file in files)


def test_charts_draw_no_random_numbers(fit: Fit, tmp_path: Path) -> None:
    from dnc_lightning.callbacks.loggers import log_charts

    class Stand:
        loggers = (TensorBoardLogger(tmp_path),)

    last = fit.run.records[-1]
    matrices = {k: torch.from_numpy(v) for k, v in fit.run.matrices(last).items()}
    states = (random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state())
    stand: Any = Stand()
    assert log_charts(stand, fit.run.header, last, matrices, pictures=True) == []
    assert random.getstate() == states[0]
    assert (np.random.get_state()[1] == states[1]).all()
    assert torch.equal(torch.get_rng_state(), states[2])


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before")
def test_a_resumed_wandb_run_goes_on_along_its_axis(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_SILENT", "true")
    shutil.rmtree(tmp_path / "wandb", ignore_errors=True)
    axes = []
    for part, steps in enumerate((3, 6)):
        root = tmp_path / f"part{part}"
        logger = WandbLogger(project="p", save_dir=root, offline=True, id="same", resume="allow")
        callback = ProbeCallback(ProbeSet(Clean(), per_class=15), shots=SHOTS)
        trainer = pl.Trainer(
            max_steps=steps,
            accelerator="cpu",
            default_root_dir=tmp_path,
            logger=logger,
            callbacks=[callback],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        checkpoint = tmp_path / "last.ckpt"
        trainer.fit(BackboneModule(), loader(), ckpt_path=checkpoint if part else None)
        trainer.save_checkpoint(checkpoint)
        logger.experiment.finish()
        items = [row["history"]["item"] for row in wandb_records(root) if row["type"] == "history"]
        axes.append([i["trainer/global_step"] for i in items if f"{KEY}/cdnv" in i])
    assert axes == [[0, 1, 2, 3], [4, 5, 6]]
