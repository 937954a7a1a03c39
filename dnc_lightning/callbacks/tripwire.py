"""What shows between two probes, for next to nothing: the loss, and one batch's features."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dnc_lightning.probe.encoders import Encoder
from dnc_lightning.probe.inputs import is_compiled
from dnc_lightning.probe.pooling import pool

EVERY = 32
"""Steps between two looks: one copy of so many losses, and the features of one batch."""

LOST = 3
"""Latest losses that must all be nan or infinite; mixed precision skips single steps."""

STILL = 1e-6
"""Spread of all losses of two looks over their mean size, up to which the loss does not move."""

AT_LOG = 1e-3
"""Distance of those losses from the log of a number of prototypes, in nats."""

FALL = 0.5
"""Dimensions that a batch uses, over the least of the latest looks: below this a probe is asked
for."""

SPREAD_FALL = 0.1
"""The same for the variance of a batch's features over their mean square."""

SAMPLES = 64
"""Of a batch, that are looked at."""

HISTORY = 4
"""Looks that a batch is compared with."""


class Tripwire:
    """Watches a training step for what cannot wait for the next probe.

    Args:
        module: The LightningModule.
        encoders: Of the probe; the first that is a submodule is watched while it trains.
    """

    def __init__(self, module: nn.Module, encoders: tuple[Encoder, ...]) -> None:
        self._watched = _submodule(module, encoders)
        self._widths = {
            name: part.out_features
            for name, part in module.named_modules()
            if isinstance(part, nn.Linear) and part.out_features > 1
        }
        self._losses: list[Tensor] = []  # since the last look
        self._before: list[float] = []  # losses of the look before
        self._dimensions: list[float] = []  # of the latest batches looked at
        self._spreads: list[float] = []  # of the same
        self._features: Tensor | None = None  # [n, D] of the batch to look at
        self._hook: Any = None
        self._steps = 0

    def begin(self) -> None:
        """Watch the step that is about to run, if it is one to look at."""
        if self._steps % EVERY == EVERY - 1 and self._watched is not None:
            self._hook = self._watched[1].register_forward_hook(self._take)

    def end(self, outputs: Any) -> bool:
        """Take a step's loss down, as the Trainer hands it out; whether it is time to look."""
        if self._hook is not None:
            self._hook.remove()
            self._hook = None
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if isinstance(loss, Tensor) and loss.numel() == 1:
            self._losses.append(loss.detach())  # read later: reading waits for the device
        self._steps += 1
        return self._steps % EVERY == 0

    def look(self) -> tuple[str | None, bool]:
        """What is wrong with the loss, in words, and whether the features call for a probe."""
        kept, self._losses = self._losses, []
        losses = torch.stack([loss.reshape(()) for loss in kept]).tolist() if kept else []
        told = self._of_losses(losses)
        self._before = losses
        return told, self._fell()

    def _of_losses(self, losses: list[float]) -> str | None:
        if len(losses) >= LOST and not any(map(math.isfinite, losses[-LOST:])):
            return f"the loss is not finite: {losses[-1]} at each of the last {LOST} steps"
        both = [*self._before, *losses]
        if len(both) < 2 * EVERY or not all(map(math.isfinite, both)):
            return None
        mean, ends = float(np.mean(both)), max(both) - min(both)
        for path, width in self._widths.items():
            if max(abs(value - math.log(width)) for value in both) <= AT_LOG:
                return (
                    f"the loss has been log {width:,} = {math.log(width):.4f} for {len(both)} "
                    f"steps, that of guessing among as many prototypes ({path} has {width:,} "
                    "outputs)"
                )
        if ends <= STILL * abs(mean):
            return f"the loss has been {mean:.6g} for {len(both)} steps and does not move"
        return None

    def _fell(self) -> bool:
        """Whether the batch just seen uses far fewer dimensions, or spreads less, than before."""
        features, self._features = self._features, None
        if features is None or len(features) < 2:
            return False
        dimensions, spread = _dimensions(features.float())
        fell = _below(dimensions, self._dimensions, FALL) or _below(
            spread, self._spreads, SPREAD_FALL
        )
        self._dimensions = [*self._dimensions, dimensions][-HISTORY:]
        self._spreads = [*self._spreads, spread][-HISTORY:]
        return fell

    def _take(self, module: nn.Module, inputs: Any, output: Any) -> None:
        """Keep the features of a batch; what is not like those of the probe is left alone."""
        if self._features is None and self._watched is not None:
            layout, source = self._watched[0].layout, self._watched[0].source
            # Not a tensor, or not one like that of the trial.
            with suppress(ValueError, TypeError, AttributeError, RuntimeError):
                if layout is not None:
                    self._features = pool(output.detach(), len(output), layout, source)[:SAMPLES]


def _submodule(
    module: nn.Module, encoders: tuple[Encoder, ...]
) -> tuple[Encoder, nn.Module] | None:
    """The first encoder that is a submodule, unless a hook would compile it anew."""
    if is_compiled(module):
        return None
    for encoder in encoders:
        if encoder.root is not None:
            path = ".".join(filter(None, (encoder.root, encoder.layer)))
            return encoder, module.get_submodule(path)
    return None


def _dimensions(features: Tensor) -> tuple[float, float]:
    """The participation ratio of the covariance of features [N, D], and their relative variance.

    The ratio is tr(C)^2 / tr(C^2), between 1 and the rank, and needs no eigenvalues.
    """
    centred = features - features.mean(0)
    gram = centred @ centred.T
    total, square = float(gram.trace()), float(features.square().sum())
    ratio = total**2 / float(gram.square().sum()) if total > 0 else 0.0
    return ratio, total / square if square > 0 else 0.0


def _below(value: float, before: list[float], share: float) -> bool:
    return len(before) == HISTORY and not value >= share * min(before)
