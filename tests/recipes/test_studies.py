"""What the studies train on, each recipe for two steps, and each page from runs of a few steps."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dnc_lightning.losses import DirectionalCollapseLoss, FixedETFHead
from recipes.data import Factors, FactorsDataset, FactorsPlaces, FashionKinds, FashionSubset
from recipes.data.fashion_studies import KINDS, mislabelled, sizes
from recipes.directional import Directional, stratified_share
from recipes.language import Language, PythonSource
from recipes.modular_addition import Adder, ModularAddition
from recipes.regression import Regression
from tests.recipes.runs import copies, fit, make

SMALL = {"backbone": "small_resnet8"}


def test_sizes_of_imbalanced_classes() -> None:
    assert sizes(400, 100, "tail", 3) == [400, 40, 4]
    assert sizes(400, 100, "step", 5) == [400, 400, 4, 4, 4]
    assert sizes(5, 100, "tail", 3) == [5, 1, 1]
    assert sizes(7, 1, "tail", 4) == [7] * 4


def test_wrong_labels_are_as_many_as_asked_for_and_all_wrong() -> None:
    labels = torch.arange(1000) % 5
    moved = mislabelled(labels, 0.2, 5, seed=1)
    wrong = moved != labels
    assert int(wrong.sum()) == 200
    assert set((moved - labels)[wrong].remainder(5).tolist()) == {1, 2, 3, 4}
    assert torch.equal(moved, mislabelled(labels, 0.2, 5, seed=1))


def test_places_are_where_the_object_stands() -> None:
    images = FactorsDataset(192, seed=1)
    pixels = images.images.float()
    strength = pixels.amax(1) - pixels.amin(1)  # of colour; the background is grey
    axis = torch.arange(32) - 15.5
    right = (strength.sum(1) * axis).sum(1) / strength.sum((1, 2))
    below = (strength.sum(2) * axis).sum(1) / strength.sum((1, 2))
    for seen, told in ((right, images.centres[:, 0]), (below, images.centres[:, 1])):
        assert float(torch.corrcoef(torch.stack([seen, told]))[0, 1]) > 0.8
    assert float(images.centres.abs().max()) <= 3


def test_batches_hold_places_and_the_probe_has_them_as_targets() -> None:
    data = FactorsPlaces(batch_size=8, num_images=96, num_probe_images=96, probe_per_class=5)
    data.setup("fit")
    images, targets = data.train_set_.take([3, 5])
    assert images.shape == (2, 3, 32, 32)
    assert torch.equal(targets["place"], data.train_set_.places[[3, 5]])
    assert targets["across"].shape == (2, 1)
    probe = data.probe_set
    assert set(probe.targets) == {"place", "across"}
    bins = ((probe.targets["across"][:, 0] + 1) / 2 * 7).long().clamp(0, 6)
    assert torch.equal(probe.tasks["column"].labels, bins)


def test_regression_learns_and_refuses_what_is_no_target(tmp_path: Path) -> None:
    data = FactorsPlaces(batch_size=16, num_images=96, num_probe_images=96, probe_per_class=10)
    trainer = fit(Regression(**SMALL), tmp_path, data)
    assert math.isfinite(trainer.callback_metrics["train/loss"])
    with pytest.raises(ValueError, match=r"predicts 'place' \[16, 2\], the data has no such"):
        fit(Regression(**SMALL), tmp_path)
    with pytest.raises(ValueError, match=r"the data has a target \[16, 1\]"):
        fit(Regression(target="across", **SMALL), tmp_path, data)


def test_sums_are_sums() -> None:
    data = ModularAddition(modulus=7, share=0.5)
    data.setup("fit")
    assert len(data.train_set_) == round(0.5 * 49)
    for index in range(len(data.train_set_)):
        image, label = data.train_set_[index]
        a, b = image[0].argmax(1).tolist()
        assert (a + b) % 7 == label
        assert image.sum() == 2 * 255
    assert len(data.probe_set) == 49
    with pytest.raises(ValueError, match="modulus >= 5"):
        ModularAddition(modulus=3)


def test_the_adder_and_the_language_model_train_all_they_have(tmp_path: Path) -> None:
    adder = Adder(modulus=7, width=8, hidden_dim=16)
    language = Language(width=16, layers=1, heads=2, length=32)
    text = PythonSource(length=32, megabytes=0.01, context=8, batch_size=4)
    for module, data in ((adder, ModularAddition(modulus=7, batch_size=16)), (language, text)):
        before = copies(module)
        trainer = fit(module, tmp_path, data)
        assert math.isfinite(trainer.callback_metrics["train/loss"])
        after = module.state_dict()
        names = [name for name, p in module.named_parameters() if p.requires_grad]
        assert [name for name in names if torch.equal(before[name], after[name])] == []


def test_held_out_text_is_not_trained_on() -> None:
    text = PythonSource(length=32, megabytes=1e3, context=8, probe_per_class=20)
    train, probe = text.train_images().windows, text.probe_set
    windows = {tuple(row) for row in train.tolist()}
    held = text.probe_images().windows
    assert sum(tuple(row) in windows for row in held.tolist()) < 0.2 * len(held)
    assert probe.image(0).shape == (8,)
    assert "e" in probe.tasks["next_token"].classes


@pytest.mark.parametrize("share", [0.01, 0.1, 1.0])
def test_a_share_of_every_class_at_least_two(share: float) -> None:
    labels = torch.repeat_interleave(torch.arange(3), torch.tensor([5, 100, 300]))
    chosen = stratified_share(labels, share)
    counts = torch.bincount(labels[chosen]).tolist()
    assert counts == [max(2, round(share * n)) for n in (5, 100, 300)]
    assert len(chosen.unique()) == len(chosen)


def test_simclr_with_labels_sees_those_alone_and_with_views_none(tmp_path: Path) -> None:
    few = Directional(weight=2.0, labels=0.1, task="shape", batch=16)
    module = make("simclr", directional=few)
    trainer = fit(module, tmp_path, Factors(batch_size=16, num_images=960))
    assert 0 < float(trainer.callback_metrics["train/directional"]) <= 2
    shape = trainer.datamodule.train_set_.targets["shape"]
    assert torch.equal(module.directional.chosen_, stratified_share(shape, 0.1))
    assert isinstance(module.directional.loss, DirectionalCollapseLoss)
    views = make("simclr", directional=Directional(weight=1.0))
    trainer = fit(views, tmp_path)
    assert not hasattr(views.directional, "chosen_")
    assert 0 < float(trainer.callback_metrics["train/directional"]) <= 1


@pytest.mark.parametrize(
    ("settings", "changes", "words"),
    [
        ({"labels": 0.1, "task": "age"}, {}, "no task 'age'"),
        ({"labels": 0.1, "task": "shape"}, {"augment": "workers"}, 'needs model.augment="device"'),
    ],
)
def test_labels_that_cannot_be_seen_are_refused(
    settings: dict, changes: dict, words: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=words):
        fit(make("simclr", directional=Directional(1.0, **settings), **changes), tmp_path)


@pytest.mark.parametrize("settings", [{"weight": 0}, {"weight": 1, "labels": 2}])
def test_a_term_that_makes_no_sense_is_refused(settings: dict) -> None:
    with pytest.raises(ValueError, match="directional needs"):
        Directional(**settings)


def test_a_fixed_head_stays_as_it_is(tmp_path: Path) -> None:
    module = make("supervised", head="etf")
    assert isinstance(module.classifier, FixedETFHead)
    before = module.classifier.weight.clone()
    fit(module, tmp_path)
    assert torch.equal(module.classifier.weight, before)


def test_subsets_and_kinds_of_fashion_mnist(fashion_folder: Path) -> None:
    subset = FashionSubset(per_class=4, ratio=4, data_dir=str(fashion_folder), probe_per_class=1)
    assert torch.bincount(subset.train_images().targets).tolist() == sizes(4, 4, "tail", 10)
    assert len(subset.probe_images()) == sum(sizes(4, 4, "tail", 10))
    kinds = FashionKinds(data_dir=str(fashion_folder), num_images=60).train_images()
    named = list(KINDS)
    for label, kind in zip(kinds.targets["label"], kinds.targets["kind"], strict=True):
        assert int(label) in KINDS[named[kind]]
    with pytest.raises(ValueError, match="ratio >= 1"):
        FashionSubset(ratio=0.5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("study", "page", "sections"),
    [
        ("terminal_phase", "terminal_phase.md", ["NC1 to NC4", "Layers", "Rare classes"]),
        ("other_targets", "other_targets.md", ["Regression", "Ordered classes", "Language"]),
        ("ablation", "training.md", ["Factors", "Fashion-MNIST"]),
    ],
)
def test_a_study_writes_its_page(
    study: str, page: str, sections: list[str], tmp_path: Path
) -> None:
    command = [sys.executable, "-m", f"recipes.{study}", f"--runs={tmp_path / 'runs'}"]
    command += [f"--out={tmp_path}", "--max-steps=3"]
    command += ["--seeds=1"] if study == "ablation" else []
    subprocess.run(command, check=True, capture_output=True, timeout=500)
    text = (tmp_path / page).read_text()
    for section in sections:
        assert f"## {section}" in text
    for name in [part.split(")")[0] for part in text.split("](")[1:]]:
        if name.endswith(".png"):
            assert (tmp_path / name).stat().st_size > 10_000
