"""From a callback's arguments and a Trainer to the engine that probes."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from torch.nn.parallel import DistributedDataParallel
from torch.nn.parameter import is_lazy
from torch.utils._pytree import tree_leaves
from torch.utils.data import DataLoader

from dnc_lightning.callbacks.averaging import averages_of
from dnc_lightning.callbacks.run_state import RunState
from dnc_lightning.callbacks.strategies import processes_of
from dnc_lightning.instruments import Settings, find_instruments
from dnc_lightning.probe.engine import ProbeEngine
from dnc_lightning.probe.processes import Processes
from dnc_lightning.probe.runtime import Runtime


def build_engine(callback: RunState, trainer: Trainer, pl_module: LightningModule) -> ProbeEngine:
    """Find the encoders, decode the images, and try both on a few of them.

    Raises:
        MissingEncoderError: an encoder that does not exist, or not yet.
        ValueError: an encoder or images that cannot work.
        OtherRankError: on the other processes, where one has raised.
    """
    lazy, processes = _lazy_layers(pl_module), processes_of(trainer)
    try:
        engine = processes.attempt(
            lambda: ProbeEngine.build(
                callback.probe,
                pl_module,
                encoder=callback.encoder,
                pooling=callback.pooling,
                instruments=find_instruments(callback.metrics),
                settings=Settings(callback.normalize, tuple(callback.shots), callback.ways),
                prefix=callback.name,
                runtime=_runtime(trainer, processes),
                preprocess=callback.preprocess,
            )
        )
    except BaseException:
        processes.close()
        raise
    engine.averages = averages_of(callback, trainer, pl_module)
    engine.known.further.update(callback._further_)
    engine.given |= callback._given_  # a resumed run cannot see what it began with
    if settled := [name for name in lazy if name not in _lazy_layers(pl_module)]:
        caution = (
            f"Lazy layers ({', '.join(settled[:3])}) have got their shapes and first weights from "
            "the probe's images: without the callback the first batch would draw other ones. Run "
            "the module once on a batch before fit, in __init__ or configure_model, so that "
            "training is bitwise the same with the callback and without."
        )
        engine.cautions = (caution, *engine.cautions)
    return engine


def _runtime(trainer: Trainer, processes: Processes) -> Runtime:
    """Where and how a trainer runs its module."""
    return Runtime(
        device=trainer.strategy.root_device,
        precision=trainer.precision_plugin.forward_context,
        convert=trainer.precision_plugin.convert_input,
        processes=processes,
        replicated=_is_replicated(trainer.strategy.model),
        neighbours=trainer.num_devices,
        loader_workers=_loader_workers(trainer),
    )


def _loader_workers(trainer: Trainer) -> int | None:
    """Of the training loader, if it was given to `fit` or has been made already."""
    given = trainer.train_dataloader
    if given is None:  # a loader of a stream has no truth value
        given = trainer.fit_loop._data_source.instance
    loaders = [leaf for leaf in tree_leaves(given) if isinstance(leaf, DataLoader)]
    return max((loader.num_workers for loader in loaders), default=None)


def _lazy_layers(module: LightningModule) -> list[str]:
    return [
        name
        for name, layer in module.named_modules()
        if any(map(is_lazy, (*layer._parameters.values(), *layer._buffers.values())))
    ]


def _is_replicated(model: Any) -> bool:
    return isinstance(getattr(model, "_orig_mod", model), DistributedDataParallel)
