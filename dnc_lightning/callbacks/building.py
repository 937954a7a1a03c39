"""From a callback's arguments and a Trainer to the engine that probes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from dnc_lightning.callbacks.averaging import averages_of
from dnc_lightning.instruments import Settings, find_instruments
from dnc_lightning.probe.engine import ProbeEngine

if TYPE_CHECKING:
    from dnc_lightning.callbacks.probe_callback import ProbeCallback


def build_engine(
    callback: ProbeCallback, trainer: Trainer, pl_module: LightningModule
) -> ProbeEngine:
    """Find the encoders, decode the images, and try both on a few of them.

    Raises:
        MissingEncoderError: an encoder that does not exist, or not yet.
        ValueError: an encoder or images that cannot work.
    """
    engine = ProbeEngine.build(
        callback.probe,
        pl_module,
        encoder=callback.encoder,
        pooling=callback.pooling,
        instruments=find_instruments(callback.metrics),
        settings=Settings(callback.normalize, tuple(callback.shots), callback.ways),
        prefix=callback.log_prefix or callback.name,
        device=trainer.strategy.root_device,
        precision=trainer.precision_plugin.forward_context,
        convert=trainer.precision_plugin.convert_input,
        rank=trainer.global_rank,
        world_size=trainer.world_size,
        reduce=_sum_over_ranks(trainer),
        replicated=_is_replicated(trainer.strategy.model),
        preprocess=callback.preprocess,
    )
    engine.averages = averages_of(callback, trainer, pl_module)
    engine.known.further.update(callback._further_)
    engine.given |= callback._given_  # a resumed run cannot see what it began with
    return engine


def _sum_over_ranks(trainer: Trainer) -> Callable[[Tensor], Tensor] | None:
    if trainer.world_size == 1:
        return None
    return lambda tensor: trainer.strategy.reduce(tensor.contiguous(), reduce_op="sum")


def _is_replicated(model: Any) -> bool:
    return isinstance(getattr(model, "_orig_mod", model), DistributedDataParallel)
