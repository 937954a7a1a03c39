"""Small recipes and short runs of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, Trainer, seed_everything
from torch import Tensor, nn

from recipes.augment import Views
from recipes.base import Recipe
from recipes.data import Factors
from recipes.dino import DINO
from recipes.dinov2 import DINOv2
from recipes.mae import MAE
from recipes.optim import Optimization
from recipes.simclr import SimCLR
from recipes.supervised import Supervised
from recipes.vicreg import VICReg

RECIPES: dict[str, Callable[..., Recipe]] = {
    "simclr": partial(SimCLR, backbone="small_resnet8", projection_dim=16),
    "vicreg": partial(VICReg, backbone="small_resnet8", projection_dim=16),
    "dino": partial(DINO, backbone="small_resnet8", hidden_dim=32, output_dim=16),
    "dinov2": partial(DINOv2, hidden_dim=32, output_dim=16),
    "mae": partial(MAE, decoder_dim=32),
    "supervised": partial(Supervised, num_classes=4, task="colour", backbone="small_resnet8"),
}
STILL = Views(min_scale=1.0, flip=0.0, jitter=0.0)  # a view that is the image
SGD = Optimization(name="sgd", learning_rate=1.0, warmup=0.0)


def make(name: str, **changes: Any) -> Recipe:
    """A small recipe, the same on every call."""
    seed_everything(3, verbose=False)
    return RECIPES[name](**changes)


def make_trainer(root: Path, callbacks: Sequence[Callback] = (), **changes: Any) -> Trainer:
    """A quiet Trainer on the CPU that saves and logs nothing unless asked."""
    settings = {
        "accelerator": "cpu",
        "devices": 1,
        "max_steps": 2,
        "default_root_dir": root,
        "logger": False,
        "enable_checkpointing": any(hasattr(c, "save_last") for c in callbacks),
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return Trainer(callbacks=list(callbacks), **(settings | changes))


def fit(module: Recipe, root: Path, data: Factors | None = None, **changes: Any) -> Trainer:
    """Train for two steps of 16 images, unless told otherwise."""
    trainer = make_trainer(root, **changes)
    trainer.fit(module, data or Factors(batch_size=16, num_images=96))
    return trainer


def copies(module: nn.Module) -> dict[str, Tensor]:
    """Everything a module stores, apart from it."""
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def two_different(images: Tensor) -> list[Tensor]:
    """Views without randomness: the images, and their mirror images."""
    images = images.float() / 255
    return [images, images.flip(3)]


def without_batch_norm(module: nn.Module) -> None:
    """Take out what mixes the images of one process only."""
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
                setattr(parent, name, nn.Identity())


def assert_same(mine: Any, other: Any) -> None:
    """Compare nested containers bit by bit."""
    if isinstance(mine, Tensor):
        assert torch.equal(mine, other)
    elif isinstance(mine, dict):
        assert mine.keys() == other.keys()
        for key, value in mine.items():
            assert_same(value, other[key])
    elif isinstance(mine, list | tuple):
        assert len(mine) == len(other)
        for a, b in zip(mine, other, strict=True):
            assert_same(a, b)
    else:
        assert mine == other
