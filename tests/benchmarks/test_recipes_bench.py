"""Training speed of the recipes against lightly's examples, and what probing adds to a long run."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightly.transforms import DINOTransform, MAETransform, SimCLRTransform, VICRegTransform
from lightning import Trainer
from torch.utils.data import DataLoader, Dataset

from dnc_lightning import LogSpaced, ProbeCallback, ProbeSet
from recipes.augment import Views
from recipes.base import Recipe
from recipes.data import Factors, FactorsDataset
from recipes.dino import DINO
from recipes.dinov2 import DINOv2
from recipes.mae import MAE
from recipes.optim import Optimization
from recipes.simclr import SimCLR
from recipes.vicreg import VICReg

pytestmark = pytest.mark.bench

IMAGES, BATCH = 3_840, 256
COLOUR = {"jitter": 0.8, "brightness": 0.8, "contrast": 0.8, "saturation": 0.8, "hue": 0.2}
FULL = Views(min_scale=0.08, **COLOUR, grayscale=0.2, blur=0.5)
MILD = COLOUR | {"brightness": 0.4, "contrast": 0.4, "saturation": 0.2, "hue": 0.1}
GLOBAL = Views(min_scale=0.4, **MILD, grayscale=0.2, blur=0.5, solarize=0.1)
LOCAL = Views(4, 16, 0.05, 0.4, **MILD, grayscale=0.2, blur=0.5)
LIGHTLYS_DINO = DINOTransform(32, local_crop_size=16, n_local_views=4, normalize=None)

# recipe, lightly's own transform of that method, least factor that we promise
PAIRS = {
    "SimCLR": (lambda: SimCLR(views=FULL), SimCLRTransform(32, normalize=None), 2.0),
    "VICReg": (
        lambda: VICReg(views=Views(min_scale=0.08, **MILD, grayscale=0.2, blur=0.5, solarize=0.1)),
        VICRegTransform(32, normalize=None),
        2.0,
    ),
    "DINO": (lambda: DINO(global_views=GLOBAL, local_views=LOCAL), LIGHTLYS_DINO, 1.0),
    "DINOv2": (
        lambda: DINOv2(patch_size=8, global_views=GLOBAL, local_views=LOCAL),
        LIGHTLYS_DINO,
        1.0,
    ),
    "MAE": (MAE, MAETransform(32, min_scale=0.2, normalize=None), 0.5),
}


class Pictures(Dataset):
    """PIL images with a transform, as lightly's examples load them."""

    def __init__(self, source: FactorsDataset, transform: Callable[[Any], list[Any]]) -> None:
        self.source, self.transform = source, transform

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> list[Any]:
        return self.transform(self.source.picture(index))


def plain_loop(module: Recipe, loader: DataLoader, steps: int) -> None:
    """One epoch as in lightly's examples for plain torch."""
    module.device_views = None  # the batch holds the views already
    module.log = module.log_dict = lambda *args, **kwargs: None
    module._trainer = SimpleNamespace(
        estimated_stepping_batches=steps, global_step=0, accumulate_grad_batches=1
    )
    optimizer = torch.optim.AdamW(module.parameters(), 1e-3)
    for views in loader:
        loss = module.training_step((views, None), 0)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def quiet_trainer(folder: Path, **options: Any) -> Trainer:
    """A trainer on the CPU that shows nothing and writes below `folder` alone."""
    return Trainer(
        accelerator="cpu", default_root_dir=folder, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, **options,
    )  # fmt: skip


@pytest.mark.parametrize("name", PAIRS)
def test_training_against_lightlys_example(
    name: str, ratio: Callable[..., float], tmp_path: Path
) -> None:
    """3,840 images at 32 px, batches of 256, the same networks and loss on both sides."""
    build, transform, promised = PAIRS[name]
    data = Factors(BATCH, num_images=IMAGES)
    data.setup("fit")
    # Their examples start eight workers; more than cores would only slow this machine down.
    pictures = DataLoader(
        Pictures(data.train_set_, transform),
        BATCH,
        shuffle=True,
        drop_last=True,
        num_workers=len(os.sched_getaffinity(0)),
    )

    def ours() -> None:
        quiet_trainer(tmp_path, max_epochs=1).fit(build(), datamodule=data)

    def theirs() -> None:
        plain_loop(build(), pictures, IMAGES // BATCH)

    assert 1 / ratio(ours, theirs, rounds=3) >= promised


def test_probing_of_a_run_of_the_papers_length(
    benchmark: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """1,000 epochs of 50,000 images in batches of 256, from measured probe and step times."""
    held_out = FactorsDataset(960, seed=1)
    probe = ProbeCallback(ProbeSet(held_out, per_class=100))
    module = SimCLR("resnet18", views=FULL, optimization=Optimization())
    steps: list[float] = []
    module.on_train_batch_start = lambda *args: steps.append(time.perf_counter())
    quiet_trainer(tmp_path, max_steps=4).fit(module, datamodule=Factors(BATCH, num_images=960))
    step = min(b - a for a, b in itertools.pairwise(steps))
    trainer = quiet_trainer(tmp_path, max_steps=1, callbacks=[probe])
    trainer.fit(module, datamodule=Factors(BATCH, num_images=960))
    benchmark.pedantic(lambda: probe._probe(trainer), rounds=3)
    one = benchmark.stats.stats.mean
    total, at, probes = 1_000 * 50_000 // BATCH, 0, 1
    while (at := LogSpaced().next_after(at)) <= total:
        probes += 1
    share = probes * one / (total * step)
    with capsys.disabled():
        print(f"\n{probes} probes of {one:.2f} s in {total} steps of {step:.2f} s: {share:.4%}")
    assert share < 0.01
