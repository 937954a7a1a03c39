"""What the recipes share: random views, reproducible steps, optimizer and schedule."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Sequence
from dataclasses import asdict, is_dataclass
from typing import Any, Literal

import numpy as np
import torch
from lightning import LightningModule
from torch import Tensor

from recipes.augment import DeviceViews, Views, WorkerViews
from recipes.optim import Optimization, configure

Augment = Literal["device", "workers"]


class Recipe(LightningModule):
    """A self-supervised method: subclasses turn the views of a batch into a loss.

    Args:
        views: The views that a step sees.
        optimization: Optimizer and schedule.
        augment: Draw views on the device, a batch at a time (kornia), or in the loader's workers,
            an image at a time (lightly's transforms).

    Attributes:
        worker_views: For the data module: what its workers apply to an image; None for "device".
        min_batch_size: Images per process that the method needs.
    """

    min_batch_size = 1

    def __init__(
        self, views: Sequence[Views], optimization: Optimization, augment: Augment
    ) -> None:
        super().__init__()
        self.optimization = optimization
        self.device_views = DeviceViews(views) if augment == "device" else None
        self.worker_views = WorkerViews(views) if augment == "workers" else None

    def setup(self, stage: str) -> None:
        """Refuse a batch that is too small for the method.

        Raises:
            ValueError: If it is.
        """
        if self.batch_size < self.min_batch_size:
            raise ValueError(
                f"{type(self).__name__} needs at least {self.min_batch_size} images per batch and "
                f"process; got batch_size={self.batch_size}. Raise data.init_args.batch_size."
            )

    @property
    def batch_size(self) -> int:
        """Images per batch and process, as the data module says.

        Raises:
            ValueError: If there is no data module.
        """
        if self.trainer.datamodule is None:
            raise ValueError(
                "A recipe asks its data module for the batch size, but got a bare loader. Fit with "
                "trainer.fit(model, datamodule=...), for example one of recipes.data."
            )
        return self.trainer.datamodule.batch_size

    @property
    def hparams_initial(self) -> dict[str, Any]:
        """The arguments as loggers are told them: plain data, which all of them can store."""
        arguments = super().hparams_initial
        plain = {k: asdict(v) for k, v in arguments.items() if is_dataclass(v)}
        return type(arguments)(arguments | plain)

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run.

        Raises:
            ValueError: If the run has no end.
        """
        steps = self.trainer.estimated_stepping_batches
        if not math.isfinite(steps):
            raise ValueError(
                "Learning rate and momentum follow the whole run, but this one has no end: "
                "max_steps and max_epochs are both -1. Set trainer.max_steps."
            )
        return int(steps)

    def views(self, batch: tuple) -> list[Tensor]:
        """Return the views of a batch `(images [B, 3, H, W] uint8 or a list of views, labels)`."""
        return batch[0] if self.device_views is None else self.device_views(batch[0])

    def on_train_batch_start(self, batch: tuple, batch_index: int) -> None:
        """Give every step random numbers of its own.

        They depend on the seed, the step, the batch within it and the rank alone, so a resumed run
        draws what an unbroken one would have drawn.
        """
        seed = int(os.environ.get("PL_GLOBAL_SEED", 0))
        part = batch_index % self.trainer.accumulate_grad_batches
        seed_everything((seed, self.trainer.global_step, part, self.global_rank))

    def configure_optimizers(self) -> dict:
        """Return the optimizer with warm-up and cosine decay over the whole run."""
        trainer = self.trainer
        return configure(
            self,
            self.optimization,
            global_batch=self.batch_size * trainer.world_size * trainer.accumulate_grad_batches,
            total_steps=self.total_steps,
        )


def seed_everything(entropy: Sequence[int]) -> None:
    """Seed the generators of python, numpy and torch from several numbers."""
    seeds = np.random.SeedSequence(entropy).generate_state(3)
    random.seed(int(seeds[0]))
    np.random.seed(seeds[1])  # noqa: NPY002  what libraries draw from
    torch.manual_seed(int(seeds[2]))
