"""NC3 and NC4 of a module's own head, in a real fit, and why they are nan where they are."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from dnc_lightning import ProbeCallback, ProbeSet, read_run
from dnc_lightning.functional import class_geometry
from dnc_lightning.functional.duality import duality, head_decisions
from dnc_lightning.instruments import Duality

KEYS = ("nc3", "nc3/cosine", "nc3/cosine_spread", "nc4", "nc4/head", "nc4/centre")


class Classifier(LightningModule):
    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Flatten(), nn.Linear(48, 12), nn.ReLU(), nn.Linear(12, 8))
        self.classifier = nn.Linear(8, classes)

    def training_step(self, batch: Any, _: int) -> Tensor:
        return nn.functional.cross_entropy(self.classifier(self.backbone(batch[0])), batch[1])

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), 0.02)


def images() -> TensorDataset:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(320) % 4
    base = torch.rand(4, 3, 4, 4, generator=generator)
    noise = torch.rand(320, 3, 4, 4, generator=generator)
    return TensorDataset((base[labels] + noise) / 2, labels)


def fit(
    module: LightningModule, folder: Path, *metrics: Any, normalize: bool = False, **options: Any
) -> Any:
    probe = ProbeSet(images(), per_class=60, **options)
    watch = ProbeCallback(probe, metrics=list(metrics), normalize=normalize)
    trainer = Trainer(
        max_steps=60, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder,
        callbacks=[watch],
    )  # fmt: skip
    trainer.fit(module, DataLoader(images(), 32, shuffle=True))
    return read_run(watch.run_dir_), probe


def test_a_classifier_in_training_comes_to_agree_with_its_means(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Classifier()
    run, probe = fit(module, tmp_path, Duality("classifier"))
    first, last = (run.records[at].scalars for at in (0, -1))
    assert last["probe/label/nc3"] < first["probe/label/nc3"] / 2
    assert last["probe/label/nc4"] < 0.1 < first["probe/label/nc4"]
    assert last["probe/label/nc4/head"] > 0.9
    assert math.isfinite(last["probe/label/ls_duality"])
    module.eval()
    pixels = torch.stack([probe.image(i) for i in range(len(probe))]).float()
    with torch.no_grad():
        features = module.backbone(pixels)
    labels, head = probe.tasks["label"].labels, module.classifier
    found = duality(head.weight.detach(), class_geometry(features, labels, unbiased=True))
    decided = head_decisions(features, labels, head.weight.detach(), head.bias.detach())
    assert last["probe/label/nc3"] == pytest.approx(float(found.distance), rel=1e-5)
    assert last["probe/label/nc4"] == pytest.approx(float(decided.mismatch), abs=1e-9)


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        ("fc", "the module has no 'fc'"),
        ("backbone.1", "'backbone.1' is [12, 48], here are [4, 8]"),
        ("backbone.2", "is a ReLU, which is no linear layer"),
    ],
)
def test_a_head_that_does_not_fit_is_nan_and_told(tmp_path: Path, head: str, reason: str) -> None:
    run, _ = fit(Classifier(), tmp_path, Duality(head))
    last = run.records[-1]
    assert all(math.isnan(last.scalars[f"probe/label/{key}"]) for key in KEYS)
    notes = [note for note in last.notes if "NC3 and NC4 are nan" in note]
    assert len(notes) == 1
    assert reason in notes[0]


def test_features_that_the_head_is_not_given_say_nothing_of_it(tmp_path: Path) -> None:
    run, _ = fit(Classifier(), tmp_path, Duality("classifier"), normalize=True)
    last = run.records[-1]
    assert all(math.isnan(last.scalars[f"probe/label/{key}"]) for key in KEYS)
    assert any("the probe normalises features" in note for note in last.notes)


def test_other_tasks_of_as_many_classes_are_left_alone(tmp_path: Path) -> None:
    labels = {"kind": torch.arange(320) % 4, "place": torch.arange(320) // 80}
    run, _ = fit(Classifier(), tmp_path, Duality("classifier", task="kind"), labels=labels)
    last = run.records[-1].scalars
    assert math.isfinite(last["probe/kind/nc3"])
    assert math.isnan(last["probe/place/nc3"])
    assert math.isfinite(last["probe/place/ls_duality"])


def test_without_a_head_there_is_the_anisotropy_alone(tmp_path: Path) -> None:
    run, _ = fit(Classifier(), tmp_path, "duality")
    keys = {key for key in run.records[-1].scalars if key.startswith("probe/label")}
    assert keys == {"probe/label/ls_duality"}
