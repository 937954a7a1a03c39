"""Embed a bank of images: one pass, every encoder, no trace left in the module."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dnc_lightning.probe.attributes import parameters_kept
from dnc_lightning.probe.bank import ImageBank
from dnc_lightning.probe.calibration import calibrated
from dnc_lightning.probe.encoders import (
    Encoder,
    EncoderError,
    encoder_modules,
    encoder_outputs,
    run_encoders,
)
from dnc_lightning.probe.isolation import evaluating, isolated_rng
from dnc_lightning.probe.traces import Trace, traced

BATCH_SIZE = 256
CPU_PIXELS = 2**18
"""Of a batch on a CPU: what its caches do not hold is slower, at 224 pixels by half."""
LEAST = 8  # images of a batch there


@dataclass
class Embedder:
    """Runs encoders of one module over image banks under the trainer's precision."""

    module: nn.Module
    encoders: tuple[Encoder, ...]
    device: torch.device
    precision: Callable[[], AbstractContextManager[object]] = nullcontext
    convert: Callable[[Tensor], Tensor] = lambda images: images
    preprocess: Callable[[Any, Tensor], Tensor] | None = None
    batch_size: int = BATCH_SIZE
    image: torch.Size | None = None  # [C, H, W]; None where it is not known yet
    writes: bool = False  # an encoder was seen to write to parameters
    watch: Callable[[Iterable[Tensor], int], Iterable[Tensor]] = lambda batches, total: batches

    def modules(self) -> list[nn.Module]:
        """The submodules whose state a probe may use, outermost only.

        Raises:
            AttributeError: the module has lost an encoder.
        """
        if self.preprocess is not None:  # it may use any
            return [self.module]
        return encoder_modules(self.module, self.encoders)

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
    def differentiable(self) -> Iterator[None]:
        """Inside, `encode` passes gradients to images, and parameters ask for none."""
        with self._quiet(), torch.enable_grad():
            for parameter in self.module.parameters():
                parameter.requires_grad_(False)  # put back by `_quiet`
            yield

    def encode(self, name: str, images: Tensor) -> Tensor:
        """Features [B, D] of float images by the encoder of that name."""
        return self._run(images)[name].to(self.device)

    def images(self, bank: ImageBank) -> Iterator[Tensor]:
        """Float images of a bank in the batches that `embed` takes."""
        return bank.batches(min(self.batch_size, self._fitting()), self.device)

    def trace(self, encoder: Encoder, images: Tensor) -> Trace:
        """Run one encoder on images [N, C, H, W] as a probe does, and watch it.

        Raises:
            ValueError: `preprocess` returns no images.
        """
        with self._quiet(), parameters_kept(self.module) as written:
            images = self._prepare(images.clone())
            with traced(self.module, len(images)) as trace, self.precision():
                trace.output = encoder_outputs(self.module, (encoder,), images)[encoder.name]
        self.writes |= bool(written)
        torch.clear_autocast_cache()
        return trace

    @contextmanager
    def _quiet(self) -> Iterator[None]:
        with (
            isolated_rng(self.device),
            evaluating(self.module),
            torch.no_grad(),
            parameters_kept(self.module) if self.writes else nullcontext(),
        ):
            yield

    def _run(self, images: Tensor) -> dict[str, Tensor]:
        images = self._prepare(images)
        with self.precision():
            return run_encoders(self.module, self.encoders, images)

    def _prepare(self, images: Tensor) -> Tensor:
        # Lightning, too, converts a batch first and runs transfer hooks without autocast.
        converted = self.convert(images)
        if self.preprocess is None:
            return converted
        made = self.preprocess(self.module, converted)
        if not isinstance(made, Tensor) or made.ndim != 4 or len(made) != len(images):
            got = list(made.shape) if isinstance(made, Tensor) else type(made).__name__
            raise EncoderError(
                f"preprocess must return images [N, C, H, W] for N={len(images)} images, got "
                f"{got}. Return the tensor of images alone, such as batch[0]."
            )
        return made

    def _pass(self, bank: ImageBank) -> dict[str, Tensor]:
        size = min(self.batch_size, self._fitting())
        batches, number = self.images(bank), -(-len(bank.positions) // size)
        parts = [self._run(images) for images in self.watch(batches, number)]
        torch.clear_autocast_cache()
        names = parts[0].keys() if parts else ()
        return {name: torch.cat([part[name] for part in parts]) for name in names}

    def _fitting(self) -> int:
        if self.device.type != "cpu" or self.image is None:
            return BATCH_SIZE
        return max(LEAST, CPU_PIXELS // self.image[1:].numel())
