"""What a Trainer's strategy means for a probe: who embeds what, and what cannot be probed."""

from __future__ import annotations

from typing import Any

import torch.distributed as dist
from lightning.pytorch import Trainer

from dnc_lightning.probe.processes import DEADLINE, Processes, gloo

_WAY_OUT = (
    "Use ModelParallelStrategy with torch's fully_shard in configure_model, or "
    'strategy="ddp", or remove the ProbeCallback.'
)


def check_strategy(trainer: Trainer) -> None:
    """Refuse strategies under which an encoder cannot run by itself.

    Raises:
        ValueError: naming the strategy, the reason and the way out.
    """
    strategy: Any = trainer.strategy
    # By name: the strategies of lightning and of pytorch_lightning are different classes.
    names = {base.__name__ for base in type(strategy).__mro__}
    reason = None
    if "FSDPStrategy" in names:
        reason = (
            "it flattens parameters, which are whole only while the root module runs, and the "
            "encoder is a part of it"
        )
    elif "DeepSpeedStrategy" in names and strategy.zero_stage_3:
        reason = (
            "ZeRO stage 3 splits parameters and gathers them layer by layer, so that a process "
            "with fewer probe images, or one that fails, would leave the others waiting (stages "
            "1 and 2 are fine)"
        )
    elif trainer.world_size > 1 and not dist.is_available():
        reason = "its processes cannot meet: torch.distributed is not available"
    if reason is not None:
        raise ValueError(f"{type(strategy).__name__} cannot be probed: {reason}. {_WAY_OUT}")


def processes_of(trainer: Trainer) -> Processes:
    """Let the processes of a Trainer that has set up its strategy meet.

    The shard of the samples is that of the strategy's own sampler: the rank among the processes
    that get different data, so that those which hold one model together embed the same images.

    Raises:
        ValueError: a strategy of several processes that does not use torch.distributed.
        RuntimeError: the processes cannot meet.
    """
    if trainer.world_size == 1:
        return Processes()
    strategy: Any = trainer.strategy
    if not dist.is_initialized():
        raise ValueError(
            f"{type(strategy).__name__} cannot be probed: its processes do not use "
            f"torch.distributed. {_WAY_OUT}"
        )
    # Who gives up must come back to training before the others lose patience there.
    given = getattr(strategy, "_timeout", None)
    exchange, group = gloo(DEADLINE if given is None else min(DEADLINE, given / 2))
    sampler = strategy.distributed_sampler_kwargs
    return Processes.join(
        trainer.global_rank,
        trainer.world_size,
        exchange,
        sampler["rank"],
        sampler["num_replicas"],
        group,
    )
