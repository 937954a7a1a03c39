"""Images that cannot be read stop a run before it begins, or are left out on every process."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, Subset

from dnc_lightning import ProbeCallback, ProbeSet
from dnc_lightning.callbacks.building import _loader_workers
from dnc_lightning.probe import bank as bank_module
from dnc_lightning.reporting import Run, read_run
from tests.callbacks.fits import data
from tests.callbacks.modules import BackboneModule, Clean, Floats

BROKEN = (1, 7, 10, 31)


class Broken(Clean):
    """Some images cannot be read; labels are told by `targets`, or only by the items."""

    def __init__(self, broken: tuple[int, ...] = BROKEN, targets: bool = True) -> None:
        super().__init__()
        self.broken, self.y = broken, self.targets
        if not targets:
            del self.targets

    def __getitem__(self, index: int) -> Any:
        if index in self.broken:
            raise OSError("image file is truncated")
        return self.x[index], int(self.y[index])


class Dump(pl.Callback):
    """Writes every rank's callback_metrics."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        values = {k: float(v) for k, v in trainer.callback_metrics.items()}
        (self.path / f"rank{trainer.global_rank}.json").write_text(json.dumps(values))


def fit(path: Path, probe: ProbeSet, devices: int = 1) -> Run:
    pl.seed_everything(3, verbose=False)
    module = BackboneModule()
    for layer in module.modules():  # so that one and two processes hold the same weights
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 0.0
    module.configure_optimizers = lambda: torch.optim.SGD(  # type: ignore[method-assign]
        module.parameters(), lr=0.0
    )
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
        callbacks=[ProbeCallback(probe), Dump(path)],
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*could not be read and are left out")
        trainer.fit(module, DataLoader(Floats(24), 6))
    return read_run(path / "dnc" / "probe")


@pytest.mark.parametrize("targets", [True, False])
def test_a_run_stops_before_it_begins(tmp_path: Path, targets: bool) -> None:
    with pytest.raises(ValueError, match=r"sample \d+ .*truncated.*on_error=\"skip\""):
        fit(tmp_path, ProbeSet(Broken(targets=targets), per_class=15))


@pytest.mark.parametrize("stream", [False, True])
def test_skipped_samples_are_counted_and_the_others_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    if stream:
        monkeypatch.setattr(bank_module, "HOST_SHARE", 0.0)
    probe = ProbeSet(Broken(), per_class=20, on_error="skip")
    run = fit(tmp_path / "skip", probe)
    assert probe.skipped == list(BROKEN)
    assert run.header["probe"]["skipped"] == 4
    assert run.header["probe"]["size"] == len(probe) == 56
    assert run.header["probe"]["per_class"] == {"label": [20, 16, 20]}
    for record in run.records:
        (note,) = [note for note in record.notes if "left out" in note]
        assert note == (
            "4 samples of the probe's data set could not be read and are left out: sample 1, "
            "sample 7, sample 10, sample 31."
        )
    left = [index for index in range(60) if index not in BROKEN]
    assert sorted(probe.indices.tolist()) == left
    labels = Clean().targets[probe.indices]
    assert torch.equal(probe.tasks["label"].labels, labels)
    whole = ProbeSet(Subset(Clean(), probe.indices.tolist()), per_class=16, labels=labels)
    whole.__dict__["indices"] = torch.arange(56)
    expected = fit(tmp_path / "whole", whole)
    assert expected.header["probe"]["skipped"] == 0
    for a, b in zip(run.records, expected.records, strict=True):
        for key, value in b.scalars.items():
            if not key.endswith(("seconds", "overhead")):
                assert a.scalars[key] == pytest.approx(value, rel=1e-6, nan_ok=True), key


@pytest.mark.parametrize("targets", [True, False])
def test_two_processes_leave_out_the_same(tmp_path: Path, targets: bool) -> None:
    runs = {
        devices: fit(
            tmp_path / str(devices),
            ProbeSet(
                Broken(targets=targets),
                per_class=20 if targets else 16,
                on_error="skip",
                transform=lambda image: image / 255 + 1e-3,  # kept as codes
                num_workers=2 * (devices - 1),
            ),
            devices,
        )
        for devices in (1, 2)
    }
    one, two = (runs[devices] for devices in (1, 2))
    assert two.header["world_size"] == 2
    for key in ("size", "skipped", "per_class"):
        assert one.header["probe"][key] == two.header["probe"][key]
    assert one.header["probe"]["skipped"] == 4
    assert one.header["fingerprint"]["images"] == two.header["fingerprint"]["images"]
    for a, b in zip(one.records, two.records, strict=True):
        assert [n for n in a.notes if "left out" in n] == [n for n in b.notes if "left out" in n]
        for key, value in a.scalars.items():
            if not key.endswith(("seconds", "overhead")):
                assert b.scalars[key] == pytest.approx(value, rel=1e-4, nan_ok=True), key
    ranks = [json.loads((tmp_path / "2" / f"rank{r}.json").read_text()) for r in range(2)]
    assert ranks[0].keys() == ranks[1].keys()


def test_a_class_that_loses_too_many_is_named(tmp_path: Path) -> None:
    broken = tuple(range(1, 60, 3))[1:]  # all but one of the middle class
    probe = ProbeSet(Broken(broken), per_class=20, on_error="skip")
    match = r"class 'middle' of task 'label' keeps 1: among others sample \d+ cannot be read"
    with pytest.raises(ValueError, match=match):
        fit(tmp_path, probe)


def test_other_mistakes_are_not_skipped(tmp_path: Path) -> None:
    probe = ProbeSet(Clean(), per_class=20, on_error="skip", transform=lambda image: image[0])
    with pytest.raises(ValueError, match="must be one PIL image, array or tensor"):
        fit(tmp_path, probe)
    probe = ProbeSet(Broken(tuple(range(60))), per_class=20, labels=Clean().targets)
    probe.on_error = "skip"
    with pytest.raises(ValueError, match="none of the first 13 probe images can be read"):
        fit(tmp_path, probe)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"num_workers": -1}, "num_workers must be None or at least 0, got -1"),
        ({"num_workers": 1.5}, r"num_workers .* got 1\.5"),
        ({"on_error": "ignore"}, '"raise" or "skip", got \'ignore\''),
    ],
)
def test_arguments(options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        ProbeSet(Clean(), **options)


def test_workers_of_the_training_loader(tmp_path: Path) -> None:
    class Module(BackboneModule):
        def train_dataloader(self) -> Any:
            return data()

    found = {}

    class Look(pl.Callback):
        def on_fit_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
            found["start"] = _loader_workers(trainer)

        def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
            found["train"] = _loader_workers(trainer)

    def run(module: Any, loader: Any) -> dict[str, int | None]:
        trainer = pl.Trainer(
            max_steps=1,
            accelerator="cpu",
            default_root_dir=tmp_path,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[Look()],
        )
        trainer.fit(module, loader)
        return found

    class Several(BackboneModule):
        def training_step(self, batch: Any, index: int) -> Any:
            return super().training_step(batch["a"], index)

    class Stream(IterableDataset[Any]):
        def __iter__(self) -> Any:
            return iter(Floats(24))

    several = {"a": DataLoader(Floats(24), 6), "b": [DataLoader(Floats(24), 6, num_workers=1)]}
    assert run(BackboneModule(), data()) == {"start": 0, "train": 0}
    assert run(Several(), several) == {"start": 1, "train": 1}
    assert run(BackboneModule(), DataLoader(Stream(), 6)) == {"start": 0, "train": 0}
    assert run(Module(), None) == {"start": None, "train": 0}
