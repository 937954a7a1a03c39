"""The optimizer that the recipes share."""

from __future__ import annotations

import math

from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR


def adamw_cosine(
    module: nn.Module,
    *,
    learning_rate: float,
    weight_decay: float,
    warmup_steps: int,
    total_steps: int,
) -> dict:
    """Return AdamW with linear warm-up and cosine decay, as Lightning expects it.

    Args:
        module: The module to train. Biases and normalisation scales are not decayed.
        learning_rate: Peak learning rate.
        weight_decay: Decoupled weight decay of matrices and kernels.
        warmup_steps: Steps until the peak.
        total_steps: Steps until the learning rate is zero.

    Returns:
        Optimizer and per-step schedule.
    """
    parameters = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))

    optimizer = AdamW(groups, lr=learning_rate, fused=True)
    schedule = {"scheduler": LambdaLR(optimizer, factor), "interval": "step"}
    return {"optimizer": optimizer, "lr_scheduler": schedule}
