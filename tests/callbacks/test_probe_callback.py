from __future__ import annotations

import csv
import json
import warnings
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
import torchmetrics
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

from dnc_lightning import LogSpaced, ProbeCallback, ProbeSet
from dnc_lightning.callbacks import probe_callback, run_state
from dnc_lightning.functional import COLLAPSE_KEYS, class_geometry, collapse_summary
from dnc_lightning.probe.engine import ProbeEngine
from dnc_lightning.reporting import read_run
from tests.callbacks.modules import (
    CLASSES,
    BackboneModule,
    Clean,
    Floats,
    ForwardModule,
    TeacherModule,
    in_flavour,
    loader,
)


def probe(per_class: int = 15) -> ProbeSet:
    return ProbeSet(Clean(), per_class=per_class)


def trainer(path: Path, *callbacks: pl.Callback, **kwargs: Any) -> pl.Trainer:
    defaults: dict[str, Any] = {
        "max_steps": 10,
        "accelerator": "cpu",
        "default_root_dir": path,
        "logger": False,
        "enable_checkpointing": any(isinstance(c, ModelCheckpoint) for c in callbacks),
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return pl.Trainer(callbacks=list(callbacks), **(defaults | kwargs))


def fit(path: Path, callback: ProbeCallback, module: Any = None, **kwargs: Any) -> pl.Trainer:
    pl.seed_everything(1, verbose=False)
    t = trainer(path, callback, **kwargs)
    t.fit(module or BackboneModule(), loader())
    return t


def steps(callback: ProbeCallback) -> list[int]:
    assert callback.run_dir_ is not None
    return [record.step for record in read_run(callback.run_dir_).records]


def test_the_final_record_is_what_the_functions_say(tmp_path: Path) -> None:
    callback, module = ProbeCallback(probe()), BackboneModule()
    t = fit(tmp_path, callback, module, max_steps=64)
    data = Clean()
    index = callback.probe.indices
    module.eval()
    features = module.backbone(data.x[index] / 255)
    expected = collapse_summary(class_geometry(features.detach(), data.targets[index]))
    assert callback.run_dir_ is not None
    run = read_run(callback.run_dir_)
    for name in COLLAPSE_KEYS:
        value = run.records[-1].scalars[f"probe/label/{name}"]
        assert value == pytest.approx(float(expected[name]), rel=1e-4)
        assert float(t.callback_metrics[f"probe/label/{name}"]) == pytest.approx(value, rel=1e-6)
    matrices = run.matrices(run.records[-1])
    assert matrices["backbone/label/directional_cdnv"].shape == (CLASSES, CLASSES)
    assert run.header["tasks"] == {"label": ["dark", "middle", "bright"]}
    assert run.header["probe"]["per_class"] == {"label": [15] * CLASSES}


@pytest.mark.parametrize(
    ("kwargs", "expected"),
    [
        ({}, [0, 1, 2, 3, 4, 5, 6, 8, 10]),
        ({"schedule": LogSpaced(1)}, [0, 1, 2, 4, 8, 10]),
        ({"every_n_train_steps": 4}, [0, 4, 8, 10]),
        ({"every_n_epochs": 2}, [0, 8, 10]),
        ({"train_time_interval": timedelta(days=1)}, [0, 10]),
        ({"train_time_interval": timedelta(microseconds=1)}, list(range(11))),
    ],
)
def test_schedules(kwargs: dict[str, Any], expected: list[int], tmp_path: Path) -> None:
    callback = ProbeCallback(probe(), **kwargs)
    fit(tmp_path, callback)
    assert steps(callback) == expected


def test_max_overhead_stretches_the_schedule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock of its own: a step takes 10 ms and a probe 50 ms, whatever the machine does."""
    clock = SimpleNamespace(now=100.0)
    for module in (probe_callback, run_state):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    measure = ProbeEngine.probe

    def slow_probe(engine: ProbeEngine, **options: Any) -> Any:
        clock.now += 0.05
        return measure(engine, **options)

    class Slow(BackboneModule):
        def training_step(self, batch: Any, index: int) -> Any:
            clock.now += 0.01
            return super().training_step(batch, index)

    monkeypatch.setattr(ProbeEngine, "probe", slow_probe)
    callback = ProbeCallback(probe(), every_n_train_steps=1, max_overhead=0.2)
    fit(tmp_path, callback, Slow(), max_steps=200)
    assert callback.run_dir_ is not None
    records = read_run(callback.run_dir_).records
    # The first is made in any case, and room is left for the last.
    shares = [record.scalars["probe/overhead"] for record in records]
    assert max(shares[1:]) <= 0.2 + 1e-9
    assert shares[-1] > 0.18  # and what is allowed is used
    # 2 s of steps leave room for 0.5 s of probes.
    assert len(records) == pytest.approx(10, abs=1)


def test_the_first_points_are_calibrated_and_say_so(tmp_path: Path) -> None:
    callback, module = ProbeCallback(probe()), BackboneModule()
    fit(tmp_path, callback, module, max_steps=60)
    assert callback.run_dir_ is not None
    records = {r.step: r for r in read_run(callback.run_dir_).records}
    key = "probe/label/directional_cdnv"
    for step in (0, 1, 32, 40):
        assert records[step].uncalibrated[key] != records[step].scalars[key]
        assert any("2 BatchNorm layers still hold" in note for note in records[step].notes)
    assert records[60].uncalibrated == {}
    assert not any("BatchNorm" in note for note in records[60].notes)


def test_an_image_is_embedded_once(tmp_path: Path) -> None:
    """For two tasks, two layers and every metric; the first probes once more, for BatchNorm."""
    seen: list[int] = []

    class Counted(BackboneModule):
        def configure_model(self) -> None:
            count = lambda _module, inputs: seen.append(len(inputs[0]))  # noqa: E731
            self.backbone.register_forward_pre_hook(count)

        def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
            seen.clear()

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = super().training_step(batch, batch_idx)
            seen.clear()
            return loss

    tasks = {"class": Clean().targets, "even": torch.arange(60) % 2}
    probe = ProbeSet(Clean(), per_class=8, labels=tasks)
    encoder = {"last": "backbone", "first": "backbone:0"}
    found: dict[int, int] = {}

    class Count(pl.Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            found[trainer.global_step] = sum(seen)

    callback = ProbeCallback(probe, encoder=encoder, every_n_train_steps=1)
    pl.Trainer(
        max_epochs=12,
        accelerator="cpu",
        default_root_dir=tmp_path,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[callback, Count()],
    ).fit(Counted(), loader())
    assert found[48] == len(probe)
    # The borrowed statistics are taken from up to 1,024 of the same images.
    assert found[1] == 3 * len(probe)


def test_calibration_matches_batch_statistics(tmp_path: Path) -> None:
    """With all images in one batch, it is the module in training mode, dropout off."""
    torch.manual_seed(0)
    module, data = BackboneModule(), Clean()
    module.backbone[3] = nn.Identity()
    callback = ProbeCallback(ProbeSet(data, per_class=20))
    trained = module.backbone.train()(data.x[callback.probe.indices] / 255).detach()
    module.backbone.apply(
        lambda m: m.reset_running_stats() if hasattr(m, "reset_running_stats") else None
    )
    t = trainer(tmp_path, callback, max_steps=1)
    t.fit(module, loader())
    expected = collapse_summary(class_geometry(trained, data.targets[callback.probe.indices]))
    assert callback.run_dir_ is not None
    got = read_run(callback.run_dir_).records[0].scalars["probe/label/cdnv"]
    assert got == pytest.approx(float(expected["cdnv"]), rel=1e-4)


def test_model_checkpoint_monitors_a_probe(tmp_path: Path) -> None:
    callback = ProbeCallback(probe(), every_n_train_steps=2)
    checkpoint = ModelCheckpoint(
        tmp_path, monitor="probe/label/directional_cdnv", every_n_train_steps=2, save_top_k=1
    )
    trainer(tmp_path, callback, checkpoint).fit(BackboneModule(), loader())
    assert callback.run_dir_ is not None
    records = read_run(callback.run_dir_).records[1:]
    best = min(r.scalars["probe/label/directional_cdnv"] for r in records)
    assert float(checkpoint.best_model_score) == pytest.approx(best, rel=1e-6)


def test_every_logger_gets_the_numbers_at_the_right_step(tmp_path: Path) -> None:
    loggers = [CSVLogger(tmp_path, name="a"), CSVLogger(tmp_path, name="b")]
    callback = ProbeCallback(probe(), every_n_train_steps=4, name="panel")
    fit(tmp_path, callback, logger=loggers)
    assert callback.run_dir_ == tmp_path / "a/version_0/dnc/panel"
    run = read_run(callback.run_dir_)
    for logger in loggers:
        with Path(logger.log_dir, "metrics.csv").open() as file:
            rows = [r for r in csv.DictReader(file) if r["panel/label/cdnv"]]
        assert [int(r["step"]) for r in rows] == [0, 4, 8, 10]
        for row, record in zip(rows, run.records, strict=True):
            assert float(row["panel/label/cdnv"]) == record.scalars["panel/label/cdnv"]


def numbers(callback: ProbeCallback) -> list[Any]:
    assert callback.run_dir_ is not None
    run = read_run(callback.run_dir_)
    timed = ("probe/seconds", "probe/overhead")
    return [
        (r.step, r.epoch, {k: v for k, v in r.scalars.items() if k not in timed}, r.notes)
        for r in run.records
    ]


@pytest.mark.parametrize("same_folder", [True, False])
def test_a_run_resumed_between_two_probes_gives_the_records_of_an_unbroken_one(
    same_folder: bool, tmp_path: Path
) -> None:
    def run(path: Path, steps: int, ckpt: Path | None = None) -> ProbeCallback:
        pl.seed_everything(1, verbose=False)
        # Lightning restores neither random states nor the place in an epoch: use neither here.
        module, ordered = BackboneModule(), DataLoader(Floats(), 12)
        module.backbone[3] = nn.Identity()
        callback = ProbeCallback(probe(), schedule=LogSpaced(1))
        kept = ModelCheckpoint(
            tmp_path / "kept", every_n_train_steps=5, save_top_k=-1, filename="{step}"
        )
        t = trainer(path, callback, kept, max_steps=steps)
        t.fit(module, ordered, ckpt_path=ckpt, **({"weights_only": False} if ckpt else {}))
        return callback

    unbroken = numbers(run(tmp_path / "unbroken", 20))
    run(tmp_path / "broken", 14)  # probes at 8 and, being the end, 14
    ckpt = tmp_path / "kept" / "step=10-v1.ckpt"
    resumed = run(tmp_path / ("broken" if same_folder else "elsewhere"), 20, ckpt)
    assert numbers(resumed) == unbroken
    assert resumed.run_dir_ is not None
    assert sorted(p.name for p in (resumed.run_dir_ / "matrices").iterdir()) == [
        f"step-{step:09d}.npz" for step, *_ in unbroken
    ]


def test_a_new_run_never_appends_to_an_old_one(tmp_path: Path) -> None:
    first, second = ProbeCallback(probe()), ProbeCallback(probe())
    fit(tmp_path, first)
    fit(tmp_path, second)
    assert first.run_dir_ != second.run_dir_
    assert steps(first) == steps(second)


def test_fitting_on_continues_the_records(tmp_path: Path) -> None:
    callback, module = ProbeCallback(probe(), schedule=LogSpaced(1)), BackboneModule()
    t = fit(tmp_path, callback, module, max_steps=6)
    t.fit_loop.epoch_loop.max_steps = 12
    t.fit(module, loader())
    assert steps(callback) == [0, 1, 2, 4, 6, 8, 12]


def test_two_probes_and_several_encoders_in_one_trainer(tmp_path: Path) -> None:
    encoders = {"student": "student_backbone", "teacher": "teacher_backbone"}
    a = ProbeCallback(probe(), encoder=encoders)
    b = ProbeCallback(probe(5), name="small", metrics=["collapse"])
    t = trainer(tmp_path, a, b)
    t.fit(TeacherModule(), loader())
    assert "probe/teacher/label/cdnv" in t.callback_metrics
    assert "small/label/cdnv" in t.callback_metrics
    assert a.run_dir_ != b.run_dir_
    assert a.state_key != b.state_key


def test_any_metric_of_features_and_labels(tmp_path: Path) -> None:
    class Spread(torchmetrics.Metric):
        def __init__(self) -> None:
            super().__init__()
            self.add_state("total", torch.zeros(()), dist_reduce_fx="sum")

        def update(self, features: torch.Tensor, labels: torch.Tensor) -> None:
            self.total += features.std()

        def compute(self) -> torch.Tensor:
            return self.total

    t = fit(tmp_path, ProbeCallback(probe(), metrics=[Spread()]))
    assert float(t.callback_metrics["probe/label/Spread"]) > 0
    assert "probe/label/cdnv" not in t.callback_metrics


class Stream(IterableDataset):
    """The clean images, of a length that nobody knows."""

    def __iter__(self) -> Any:
        data = Floats(36)
        return (data[i] for i in range(36))


@pytest.mark.parametrize("stream", [True, False])
def test_joint_certificate_and_intervals_at_the_first_and_last_probe_alone(
    stream: bool, tmp_path: Path
) -> None:
    callback = ProbeCallback(probe(), schedule=LogSpaced(1), shots=(5,))
    t = trainer(tmp_path, callback, max_steps=-1, max_epochs=2)
    t.fit(BackboneModule(), DataLoader(Stream() if stream else Floats(36), 6))
    assert callback.run_dir_ is not None
    records = read_run(callback.run_dir_).records
    assert [r.step for r in records] == [0, 1, 2, 4, 8, 12]
    for key in ("probe/label/joint/5", "probe/label/cdnv_low", "probe/label/certificate_high/5"):
        assert [r.step for r in records if key in r.scalars] == [0, 12]


def test_fast_dev_run_leaves_no_files(tmp_path: Path) -> None:
    callback = ProbeCallback(probe())
    t = fit(tmp_path, callback, fast_dev_run=True)
    assert callback.run_dir_ is None
    assert "probe/label/cdnv" in t.callback_metrics
    assert not list(tmp_path.rglob("*.jsonl"))


@pytest.mark.parametrize("flavour", ["lightning", "pytorch_lightning"])
@pytest.mark.parametrize("style", [BackboneModule, TeacherModule, ForwardModule])
def test_modules_of_several_styles_in_trainers_of_both_flavours(
    flavour: str, style: type, tmp_path: Path
) -> None:
    callback = ProbeCallback(probe())
    if flavour == "lightning":
        fit(tmp_path, callback, style())
    else:
        import pytorch_lightning as other

        source = in_flavour(style, other.LightningModule)
        t = other.Trainer(
            max_steps=10,
            accelerator="cpu",
            default_root_dir=tmp_path,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[callback],
        )
        t.fit(source(), loader())
    assert steps(callback)[-1] == 10
    assert callback.run_dir_ is not None
    run = read_run(callback.run_dir_)
    expected = {
        BackboneModule: "backbone",
        TeacherModule: "student_backbone",
        ForwardModule: "forward",
    }
    assert run.header["encoders"] == [expected[style]]


class Diverging(BackboneModule):
    def training_step(self, batch: Any, index: int) -> Any:
        if self.global_step == 3:
            with torch.no_grad():
                self.backbone[0].weight.fill_(torch.nan)
        return super().training_step(batch, index)


def test_nan_features_are_warned_about_once_recorded_and_skipped(tmp_path: Path) -> None:
    callback = ProbeCallback(probe())
    with pytest.warns(UserWarning, match="45 of 45 feature vectors hold nan or infinity") as caught:
        fit(tmp_path, callback, Diverging())
    assert sum("nan or infinity" in str(w.message) for w in caught) == 1
    assert callback.run_dir_ is not None
    records = read_run(callback.run_dir_).records
    assert records[-1].step == 10
    assert records[-1].scalars["probe/label/cdnv"] != records[-1].scalars["probe/label/cdnv"]
    assert "nan or infinity" in records[-1].warnings[0]


def test_an_encoder_that_fails_later_does_not_stop_training(tmp_path: Path) -> None:
    calls = []

    def flaky(module: Any, images: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        if len(calls) > 3:
            raise RuntimeError("no such device")
        return module.backbone(images)

    callback = ProbeCallback(probe(), encoder=flaky)
    with pytest.warns(UserWarning, match="The probe failed and is skipped: RuntimeError"):
        t = fit(tmp_path, callback)
    assert t.global_step == 10
    assert steps(callback)[-1] == 10


def test_a_failing_logger_and_a_failing_disk_are_survived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Down(CSVLogger):
        def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
            if any(key.startswith("probe/") for key in metrics):
                raise ConnectionError("server gone")

    callback = ProbeCallback(probe())
    with pytest.warns(UserWarning, match="Down failed to log: ConnectionError"):
        fit(tmp_path, callback, logger=Down(tmp_path))
    assert steps(callback)[-1] == 10

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    callback = ProbeCallback(probe())
    monkeypatch.setattr("dnc_lightning.records.store.write_atomically", full)
    with pytest.warns(UserWarning, match="No records are written: .*No space left"):
        t = fit(tmp_path / "full", callback)
    assert "probe/label/cdnv" in t.callback_metrics


def test_out_of_memory_halves_the_batch(tmp_path: Path) -> None:
    sizes = []

    def hungry(module: Any, images: torch.Tensor) -> torch.Tensor:
        sizes.append(len(images))
        if len(images) > 20:
            raise torch.OutOfMemoryError("too many images")
        return module.backbone(images)

    callback = ProbeCallback(probe(), encoder=hungry)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*treespec")
        warnings.filterwarnings("ignore", message=".*many workers")
        warnings.filterwarnings("ignore", message=".*logging interval")
        fit(tmp_path, callback)
    assert max(sizes[-4:]) <= 20


@pytest.mark.parametrize(
    ("kwargs", "match"),
    [
        ({"probe": Clean()}, "probe must be a ProbeSet, got Clean"),
        ({"pooling": "max"}, "pooling must be"),
        ({"shots": (1, 0)}, r"at least 1, got \(1, 0\)"),
        ({"shots": (2.5,)}, "shots must be integers"),
        ({"ways": 1}, "ways must be at least 2, got 1"),
        ({"max_overhead": 1}, r"in \(0, 1\), got 1"),
        ({"name": "a/b"}, "folder name, got 'a/b'"),
        ({"metrics": ["cdnv"]}, "'cdnv' is not built in; there is collapse"),
        ({"metrics": "collapse"}, r"Write \['collapse'\]"),
        ({"metrics": [3]}, "got int"),
        ({"metrics": ["collapse", "collapse"]}, "collapse twice"),
        ({"schedule": LogSpaced(), "every_n_epochs": 1}, "schedule and every_n_epochs"),
    ],
)
def test_bad_arguments(kwargs: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        ProbeCallback(**({"probe": probe()} | kwargs))


@pytest.mark.parametrize(
    ("callback", "match"),
    [
        (lambda: ProbeCallback(probe(), encoder="bakbone"), "Near names: backbone"),
        (lambda: ProbeCallback(probe(), encoder=lambda m, x: {"z": x}), "got dict"),
        (
            lambda: ProbeCallback(probe(), encoder="head"),
            r"failed on float probe images of shape \[3, 12, 12\]",
        ),
        (lambda: ProbeCallback(probe(21)), "per_class=21 .* 'dark' has 20"),
        (lambda: ProbeCallback(probe(), ways=4), "ways=4, but task 'label' has 3 classes"),
        (lambda: ProbeCallback(ProbeSet(Clean(), labels=[0] * 60)), "at least two classes"),
    ],
)
def test_mistakes_show_before_the_first_step(callback: Any, match: str, tmp_path: Path) -> None:
    module = BackboneModule()
    with pytest.raises(ValueError, match=match):
        fit(tmp_path, callback(), module)
    assert module.losses == []


def test_the_header_is_plain_json(tmp_path: Path) -> None:
    callback = ProbeCallback(probe(), normalize=True)
    fit(tmp_path, callback)
    assert callback.run_dir_ is not None
    header = json.loads((callback.run_dir_ / "run.json").read_text())
    assert header["normalize"] is True
    assert header["probe"]["dtype"] == "uint8"
    assert header["model"] == "BackboneModule"
