"""Embed a bank of images: one pass, every encoder, no trace left in the module."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dnc_lightning.probe.bank import ImageBank
from dnc_lightning.probe.calibration import calibrated
from dnc_lightning.probe.encoders import Encoder, Pooling, run_encoders
from dnc_lightning.probe.isolation import evaluating, isolated_rng

BATCH_SIZE = 256


@dataclass
class Embedder:
    """Runs encoders of one module over image banks under the trainer's precision."""

    module: nn.Module
    encoders: tuple[Encoder, ...]
    pooling: Pooling
    device: torch.device
    precision: Callable[[], AbstractContextManager[object]] = nullcontext
    convert: Callable[[Tensor], Tensor] = lambda images: images
    batch_size: int = BATCH_SIZE

    def embed(self, bank: ImageBank) -> dict[str, Tensor]:
        """Embed every image of `bank` in evaluation mode.

        No gradients, but no inference mode either: a layer that makes a table at its first forward
        pass and keeps it would keep an inference tensor, which training then cannot use. When the
        accelerator runs out of memory, the batch is halved for this and later probes.

        Returns:
            Encoder name -> features [n, D] on the device; no entries for an empty bank.
        """
        while True:
            try:
                with self._quiet():
                    return self._pass(bank)
            except torch.OutOfMemoryError:
                if self.batch_size == 1:
                    raise
                self.batch_size //= 2
                torch.cuda.empty_cache()

    def embed_calibrated(
        self, layers: list[_BatchNorm], bank: ImageBank, calibration: ImageBank
    ) -> dict[str, Tensor]:
        """The same with the statistics of BatchNorm `layers` taken from `calibration`."""
        with self._quiet():
            batches = calibration.batches(self.batch_size, self.device)
            passes = (partial(self._run, batch) for batch in batches)
            with calibrated(layers, passes):
                return self._pass(bank)

    @contextmanager
    def _quiet(self) -> Iterator[None]:
        with isolated_rng(self.device), evaluating(self.module), torch.no_grad():
            yield

    def _run(self, images: Tensor) -> dict[str, Tensor]:
        with self.precision():
            return run_encoders(self.module, self.encoders, self.convert(images), self.pooling)

    def _pass(self, bank: ImageBank) -> dict[str, Tensor]:
        parts = [self._run(images) for images in bank.batches(self.batch_size, self.device)]
        torch.clear_autocast_cache()
        names = parts[0].keys() if parts else ()
        return {name: torch.cat([part[name] for part in parts]) for name in names}
