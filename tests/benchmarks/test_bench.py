"""What docs/measurements.md says about speed. Run by `make bench`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
import torchvision
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger, WandbLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from dnc_lightning import ProbeCallback, ProbeSet, evaluate
from dnc_lightning.callbacks.publish import publish
from dnc_lightning.callbacks.tripwire import EVERY, Tripwire
from dnc_lightning.functional import (
    class_geometry,
    few_shot_bound,
    few_shot_guarantee,
    orthogonality_summary,
)
from dnc_lightning.functional.few_shot import ncc_errors
from dnc_lightning.functional.simplex import nc1, simplex
from dnc_lightning.functional.unbiased import debias
from dnc_lightning.instruments import Settings, find_instruments
from dnc_lightning.probe.encoders import Encoder
from dnc_lightning.probe.engine import ProbeEngine
from dnc_lightning.probe.instrument import expected
from dnc_lightning.probe.labels import Task
from dnc_lightning.probe.measure import measure
from dnc_lightning.probe.pooling import Layout
from dnc_lightning.probe.processes import Processes
from dnc_lightning.probe.runtime import Runtime
from recipes.backbones import build_backbone

pytestmark = pytest.mark.bench


def data(classes: int, n: int, d: int) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    labels = torch.arange(classes).repeat_interleave(n)[torch.randperm(classes * n)]
    centres = torch.randn(classes, d)
    return torch.randn(classes * n, d) + centres[labels], labels, centres


def plain_pair_loop(features: Tensor, labels: Tensor) -> Tensor:
    """CDNV and directional CDNV as one would write them first: one pair after the other."""
    classes = int(labels.max()) + 1
    out = torch.zeros(2, classes, classes)
    for i in range(classes):
        for j in range(classes):
            if i != j:
                a, b = features[labels == i], features[labels == j]
                delta = a.mean(0) - b.mean(0)
                d2 = delta.square().sum()
                out[0, i, j] = (a.var(0, correction=0).sum() + b.var(0, correction=0).sum()) / d2
                out[1, i, j] = (a @ delta).var(correction=0) / d2.square()
    return out


def test_geometry_against_a_plain_pair_loop(ratio: Callable[..., float]) -> None:
    features, labels, _ = data(100, 50, 768)
    value = ratio(
        lambda: plain_pair_loop(features, labels),
        lambda: class_geometry(features, labels),
        rounds=3,
    )
    assert value >= 100


@pytest.mark.parametrize(("classes", "n", "limit"), [(100, 50, 8.0), (1_000, 20, 2.5)])
def test_geometry_against_one_product(
    classes: int, n: int, limit: float, ratio: Callable[..., float]
) -> None:
    features, labels, centres = data(classes, n, 768)
    value = ratio(lambda: class_geometry(features, labels), lambda: features @ centres.T)
    assert value <= limit


@pytest.mark.parametrize(("n", "limit"), [(50, 2.0), (200, 1.0)])
def test_simplex_against_a_tenth_of_the_geometry_and_one_product(
    n: int, limit: float, ratio: Callable[..., float]
) -> None:
    """Ten times NC1 and NC2 of 100 classes over one geometry and ten products N x D x K.

    What does not grow with the samples, eigenvalues of 100 x 100 and the like, shows with few.
    """
    features, labels, centres = data(100, n, 768)
    ready = class_geometry(features, labels)

    def block() -> None:
        for _ in range(10):
            simplex(debias(ready))
            nc1(features, labels, ready)

    def baseline() -> None:
        class_geometry(features, labels)
        for _ in range(10):
            features @ centres.T

    assert ratio(block, baseline, rounds=9) <= limit


CPU = Runtime(torch.device("cpu"), nullcontext, lambda images: images, Processes(), True)


def test_layers_against_forward_passes(ratio: Callable[..., float]) -> None:
    """Embedding by every layer of a ResNet-18 at 32 px over embedding by its output alone."""
    module = Watched(torchvision.models.resnet18())
    images = torch.randint(256, (1_000, 3, 32, 32), dtype=torch.uint8)
    probe = ProbeSet(TensorDataset(images, torch.arange(1_000) % 10), per_class=100)

    def embedding(encoder: str) -> Callable[[], Any]:
        engine = ProbeEngine.build(
            probe, module, encoder=encoder, pooling="auto", prefix="probe", settings=Settings(),
            instruments=find_instruments(["collapse"]), runtime=CPU,
        )  # fmt: skip
        return lambda: engine.embedder.embed(engine.bank)

    assert ratio(embedding("backbone:*"), embedding("backbone"), rounds=5) <= 1.15


def test_certificates_against_the_geometry(ratio: Callable[..., float]) -> None:
    features, labels, _ = data(100, 50, 768)
    ready = class_geometry(features, labels)
    value = ratio(
        lambda: few_shot_bound(ready, 10), lambda: class_geometry(features, labels), rounds=30
    )
    assert value <= 0.05


def test_joint_certificate_of_a_hundred_classes(benchmark: Any) -> None:
    features, labels, _ = data(100, 50, 768)
    ready = class_geometry(features, labels, joint=True)
    benchmark.pedantic(lambda: few_shot_bound(ready, 10, kind="joint"), rounds=1)
    assert benchmark.stats.stats.max < 10


def test_measured_errors_of_a_hundred_classes(benchmark: Any) -> None:
    """100 classes, 100 episodes, 5 numbers of shots, 10,000 features of length 512."""
    features, labels, _ = data(100, 100, 512)
    benchmark.pedantic(
        lambda: ncc_errors(features, labels, shots=(1, 5, 10, 50, 99), episodes=100), rounds=1
    )


def test_orthogonality_of_three_tasks_against_their_geometries(
    ratio: Callable[..., float],
) -> None:
    """10, 5 and 2 classes, 10,000 features of length 512: |cos|, intervals and dependence."""
    features, labels, _ = data(10, 1_000, 512)
    tasks = {"a": labels, "b": torch.randint(5, (10_000,)), "c": torch.arange(10_000) % 2}
    value = ratio(
        lambda: orthogonality_summary(features, tasks),
        lambda: [class_geometry(features, y) for y in tasks.values()],
    )
    assert value <= 1


class Watched(pl.LightningModule):
    """An encoder to probe; the step does nothing, so that the probe stands alone."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        for layer in self.backbone.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.num_batches_tracked += 1000
        self.head = nn.Linear(1, 1)

    def training_step(self, batch: Any, _: int) -> Tensor:
        return self.head(torch.ones(1, 1)).sum()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.head.parameters(), 0.0)


@pytest.mark.parametrize(
    ("encoder", "limit"),
    [
        pytest.param(torchvision.models.resnet18, 1.15, id="resnet18 at 32 px"),
        # Several times faster: what does not depend on the encoder shows.
        pytest.param(
            partial(build_backbone, "small_resnet32", 32), 1.4, id="the recipes' small net at 32 px"
        ),
    ],
)
def test_probe_against_bare_forward_passes(
    encoder: Callable[[], nn.Module], limit: float, ratio: Callable[..., float], tmp_path: Path
) -> None:
    """The whole probe (embedding, all metrics, logging, records) over the same forward passes."""
    images = torch.randint(256, (2_000, 3, 32, 32), dtype=torch.uint8)
    labels = torch.arange(2_000) % 10
    module = Watched(encoder())
    callback = ProbeCallback(ProbeSet(TensorDataset(images, labels), labels=labels, per_class=200))
    trainer = pl.Trainer(
        max_steps=10**6, max_time={"seconds": 1}, accelerator="cpu",
        default_root_dir=tmp_path, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
        callbacks=[callback],
    )  # fmt: skip
    trainer.fit(module, DataLoader(TensorDataset(images[:2]), 1))
    bank = images.float() / 255

    def forward_passes() -> None:
        with torch.no_grad():
            module.backbone.eval()
            for batch in bank.split(256):
                module.backbone(batch)

    def probe() -> None:
        callback.last_step_ -= 1  # as at a step that has not been probed
        callback._probe(trainer)

    assert ratio(probe, forward_passes) <= limit


PROBES = 40
"""Probes of the default schedule in 10,000 steps."""


@pytest.mark.parametrize(
    ("ends", "limit"),
    [
        pytest.param(False, 0.03, id="every probe"),
        # Charts at the first probe, charts and pictures at the last, spread over a run.
        pytest.param(True, 0.02 * PROBES, id="first and last probe"),
    ],
)
def test_logging_against_the_probe(
    ends: bool,
    limit: float,
    ratio: Callable[..., float],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """CSV, TensorBoard, W&B and the record, over the probe of ResNet-18 and 1,000 images: 5 %."""
    monkeypatch.setenv("WANDB_SILENT", "true")
    images = torch.randint(256, (1_000, 3, 32, 32), dtype=torch.uint8)
    labels = torch.arange(1_000) % 10
    callback = ProbeCallback(ProbeSet(TensorDataset(images, labels), labels=labels, per_class=100))
    board = WandbLogger(project="bench", save_dir=tmp_path, offline=True)
    trainer = pl.Trainer(
        max_steps=2, accelerator="cpu", default_root_dir=tmp_path,
        logger=[CSVLogger(tmp_path), TensorBoardLogger(tmp_path), board],
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[callback],
    )  # fmt: skip
    trainer.fit(Watched(torchvision.models.resnet18()), DataLoader(TensorDataset(images[:2]), 1))
    result = callback.engine_.probe(thorough=ends)

    def log() -> None:
        for pictures in (False, True)[: 1 + ends]:
            callback.last_step_ += 1
            publish(
                trainer, callback._recorder_, result, callback.last_step_, 1.0,
                before=None, charts=ends, pictures=pictures,
            )  # fmt: skip

    value = ratio(log, callback.engine_.probe, rounds=3)
    board.experiment.finish()
    assert value <= limit


def test_what_is_asked_for_by_name_against_forward_passes(ratio: Callable[..., float]) -> None:
    """Guarantee, health, kNN and linear probes of 10,000 features over embedding their images."""
    features, labels, _ = data(100, 100, 512)
    tasks = {"label": Task(labels, tuple(map(str, range(100))))}
    names = ["guarantee", "health", "knn", "linear"]
    settings = Settings(shots=(1, 5, 10, 50))
    places = expected(
        find_instruments(names), {"label": [100] * 100}, settings.shots, thorough=True
    )
    encoder = torchvision.models.resnet18().eval()
    images = torch.rand(1_000, 3, 32, 32)

    def forward_passes() -> None:
        with torch.no_grad():
            for batch in images.split(250) * 10:
                encoder(batch)

    value = ratio(
        lambda: measure(features, tasks, places, settings, thorough=True), forward_passes, rounds=3
    )
    assert value <= 0.25


def test_guarantee_of_a_hundred_classes(benchmark: Any) -> None:
    """One number of shots, 10,000 features of length 512."""
    features, labels, _ = data(100, 100, 512)
    benchmark.pedantic(lambda: few_shot_guarantee(features, labels, 5), rounds=5)
    assert benchmark.stats.stats.median < 1


def test_evaluate_against_a_bare_loop(ratio: Callable[..., float], tmp_path: Path) -> None:
    """All of `evaluate` (decoding, embedding, numbers, records, page) over passes of the data."""
    images = torch.randint(256, (1_000, 3, 224, 224), dtype=torch.uint8)
    data = TensorDataset(images, torch.arange(1_000) % 10)
    probe = ProbeSet(data, per_class=100)
    encoder = torchvision.models.resnet18().eval()
    for layer in encoder.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.num_batches_tracked += 1000

    def loop() -> None:
        with torch.no_grad():
            for batch, _ in DataLoader(data, 8):  # the fastest size here
                encoder(batch / 255)

    def whole() -> None:
        evaluate(encoder, probe, out=tmp_path, accelerator="cpu", fresh=True)

    assert ratio(whole, loop, rounds=2) <= 1 / 0.9


def test_the_alarm_between_probes(benchmark: Any) -> None:
    """32 steps of what is read of the loss and one batch's features [256, 512]."""
    module = nn.ModuleDict({"backbone": nn.Identity(), "head": nn.Linear(512, 4096)})
    encoder = Encoder("backbone", "backbone", "backbone", layout=Layout(2, 512))
    tripwire, features = Tripwire(module, (encoder,)), torch.randn(256, 512)
    losses = list(torch.rand(EVERY))

    def steps() -> None:
        for loss in losses:
            tripwire.begin()
            module["backbone"](features)
            if tripwire.end(loss):
                tripwire.look()

    benchmark.pedantic(steps, rounds=50, warmup_rounds=5)
    assert benchmark.stats.stats.median / EVERY < 30e-6
