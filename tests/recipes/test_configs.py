"""Every configuration trains a step as it stands, on small data of the form that it names."""

from __future__ import annotations

import importlib
import pickle
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from dnc_lightning import ProbeCallback
from dnc_lightning.records.store import read_run
from recipes.base import Recipe
from recipes.cli import main

CONFIGS = sorted((Path(__file__).parents[2] / "recipes" / "configs").glob("*.yaml"))
SETS = ("factors", "fashion", "cifar10", "mini_imagenet", "terminal", "pairs", "python")

pytestmark = [
    # Lightning's command line calls a method that jsonargparse 4.49 deprecated.
    pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning"),
    # One batch, of a few images, is no run: small classes and short logs are meant.
    pytest.mark.filterwarnings("ignore:.*pairs of classes"),
]


def module_of(config: Path) -> str:
    """A configuration is named by its module, and by its data last."""
    return next(path.stem for path in config.parents[1].glob("*.py")
                if config.stem.startswith(f"{path.stem}_"))  # fmt: skip


def recipe(config: Path) -> type[Recipe]:
    """The module class of a configuration, whose file name begins with its module's."""
    module = importlib.import_module(f"recipes.{module_of(config)}")
    return next(
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Recipe)
        and value.__module__ == module.__name__
    )


def small_cifar(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    base = folder / "cifar-10-batches-py"
    base.mkdir()
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    for name in names:
        data = rng.integers(0, 256, (40, 3072), dtype=np.uint8)
        content = {b"data": data, b"labels": [i % 10 for i in range(40)]}
        (base / name).write_bytes(pickle.dumps({k.decode(): v for k, v in content.items()}))
    labels = [f"class {i}" for i in range(10)]
    (base / "batches.meta").write_bytes(pickle.dumps({"label_names": labels}))
    return folder


def small_hub_folder(folder: Path, classes: int = 4) -> Path:
    rng = np.random.default_rng(0)
    names = datasets.ClassLabel(names=[f"class {i}" for i in range(classes)])
    features = datasets.Features(image=datasets.Image(), label=names)

    def split(count: int) -> datasets.Dataset:
        pictures = [
            Image.fromarray(rng.integers(0, 256, (80, 100, 3), dtype=np.uint8))
            for _ in range(count)
        ]
        labels = [i % classes for i in range(count)]
        return datasets.Dataset.from_dict({"image": pictures, "label": labels}, features=features)

    datasets.DatasetDict(train=split(12), validation=split(12)).save_to_disk(folder / "hub")
    return folder / "hub"


@pytest.fixture
def overrides(tmp_path: Path, fashion_folder: Path, monkeypatch: pytest.MonkeyPatch):
    """What makes a configuration of each data set small and local, and nothing else."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    datasets.disable_progress_bars()

    def of(data: str) -> list[str]:
        if data == "factors":
            return ["--data.num_images=192", "--data.num_probe_images=192"]
        if data == "fashion":
            return [f"--data.data_dir={fashion_folder}", "--data.num_images=60"]
        if data == "terminal":
            return [f"--data.data_dir={fashion_folder}", "--data.per_class=4"]
        if data == "pairs":
            return ["--data.modulus=7", "--model.modulus=7"]
        if data == "python":
            return ["--data.megabytes=0.01", "--data.context=8"]
        if data == "cifar10":
            return [f"--data.data_dir={small_cifar(tmp_path)}", "--data.num_workers=0"]
        return [f"--data.name={small_hub_folder(tmp_path)}", "--data.num_workers=0"]

    return of


@pytest.mark.slow
@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_one_step_of_every_configuration(config, overrides, tmp_path):
    data = next(name for name in SETS if config.stem.endswith(name))
    large = data == "mini_imagenet"
    arguments = ["fit", f"--config={config}", *overrides(data), "--trainer.max_steps=1"]
    arguments += [f"--data.batch_size={2 if large else 8}"]
    few = {"pairs": [], "python": ["--data.probe_per_class=4"]}
    arguments += few.get(data, ["--data.probe_per_class=2"])
    arguments += ["--probe.shots=[1]", "--trainer.accelerator=cpu", "--trainer.devices=1"]
    arguments += ["--trainer.num_nodes=1", "--trainer.strategy=auto", "--trainer.precision=32"]
    arguments += ["--trainer.logger=false", f"--trainer.default_root_dir={tmp_path / 'run'}"]
    arguments += ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
    # Checkpoints of ViT-B and its optimizer are gigabytes; saving is tested elsewhere.
    arguments += ["--trainer.fast_dev_run=1"] if large else []
    if config.stem == "supervised_mini_imagenet":
        arguments += ["--model.num_classes=4"]
    cli = main(recipe(config), arguments)
    assert cli.trainer.global_step == 1
    assert torch.isfinite(cli.trainer.callback_metrics["train/loss"])
    probe = next(c for c in cli.trainer.callbacks if isinstance(c, ProbeCallback))
    if not large:
        assert [record.step for record in read_run(probe.run_dir_).records] == [0, 1]
    assert any(key.endswith("/directional_cdnv") for key in cli.trainer.callback_metrics)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_the_head_says_command_cost_and_expectation(config):
    head = [line for line in config.read_text().splitlines() if line.startswith("#")]
    text = "\n".join(head)
    module = module_of(config)
    assert f"python -m recipes.{module} fit --config recipes/configs/{config.name}" in text
    assert "# Cost" in text
    assert "# Expected" in text
    assert "@" not in text
