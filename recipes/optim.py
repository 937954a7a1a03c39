"""The optimizer and schedule that the recipes share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from lightly.models.utils import get_weight_decay_parameters
from lightly.utils.lars import LARS
from lightly.utils.scheduler import CosineWarmupScheduler
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

REFERENCE_BATCH = 256
"""Images per step that learning rates are given for."""


@dataclass(frozen=True)
class Optimization:
    """Optimizer with linear warm-up and cosine decay to zero over the whole run."""

    name: Literal["adamw", "lars", "sgd"] = "adamw"
    learning_rate: float = 1e-3  # at the peak, per 256 images of the global batch
    weight_decay: float = 1e-4  # of matrices and kernels
    decay_all: bool = False  # of biases and norms too, as torch's optimizers do
    warmup: float = 0.05  # part of all steps until the peak


def configure(
    module: nn.Module, settings: Optimization, *, global_batch: int, total_steps: int
) -> dict:
    """Return optimizer and per-step schedule, as Lightning expects them.

    Args:
        module: The module to train; frozen parameters are left out.
        settings: What to use.
        global_batch: Images per optimizer step over all processes; the learning rate is
            proportional to it (Goyal et al., arXiv:1706.02677).
        total_steps: Steps until the learning rate is zero.
    """
    groups = [
        # A weight that two layers share is named twice.
        {
            "params": list(dict.fromkeys(p for p in parameters if p.requires_grad)),
            "weight_decay": decay,
        }
        for parameters, decay in zip(
            get_weight_decay_parameters(
                [module], decay_norm=settings.decay_all, decay_bias=settings.decay_all
            ),
            (settings.weight_decay, 0.0),
            strict=True,
        )
    ]
    rate = settings.learning_rate * global_batch / REFERENCE_BATCH
    schedule = CosineWarmupScheduler(
        optimizer := _optimizer(settings.name, groups, rate),
        warmup_epochs=round(settings.warmup * total_steps),
        max_epochs=total_steps,
        end_value=0.0,
    )
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _optimizer(name: str, groups: list[dict], rate: float) -> Optimizer:
    if name == "adamw":
        return AdamW(groups, lr=rate, fused=True)
    if name == "lars":
        return LARS(groups, lr=rate, momentum=0.9)
    return SGD(groups, lr=rate, momentum=0.9)


torch.serialization.add_safe_globals([Optimization])
