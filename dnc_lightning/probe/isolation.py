"""Leave no trace: random states, and what the modules hold, as they were."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from dnc_lightning.probe.attributes import attributes_of


@contextmanager
def isolated_rng(device: torch.device | None) -> Iterator[None]:
    """Restore the random states of python, numpy, torch and `device` on the way out."""
    python, array = random.getstate(), np.random.get_state()  # noqa: NPY002 - the global state
    cuda = [device] if device is not None and device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=cuda):
            mps = torch.mps.get_rng_state() if device is not None and device.type == "mps" else None
            try:
                yield
            finally:
                if mps is not None:
                    torch.mps.set_rng_state(mps)
    finally:
        random.setstate(python)
        np.random.set_state(array)  # noqa: NPY002


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode inside, eager and without logging; what the submodules hold restored after.

    Flags are set directly: `train()` and `eval()` may be overridden, to freeze a layer or to merge
    adapters, and must not see the probe. `log` and `log_dict` of LightningModules do nothing, for a
    probe may run where Lightning allows no logging, and its batches are not training's. For what is
    restored see `attributes_of`.
    """
    flags = [(submodule, submodule.training) for submodule in module.modules()]
    learning = [(parameter, parameter.requires_grad) for parameter in module.parameters()]
    put_back, logging = attributes_of(module), _lightning_modules()
    try:
        for submodule, training in flags:
            if training:
                submodule.training = False
            if isinstance(submodule, logging):
                vars(submodule).update(log=_silent, log_dict=_silent)
        with _eager(module):
            yield
    finally:
        for submodule, training in flags:
            if submodule.training != training:
                submodule.training = training
        put_back()
        for parameter, requires_grad in learning:
            if parameter.requires_grad != requires_grad:
                parameter.requires_grad_(requires_grad)


@contextmanager
def _eager(module: nn.Module) -> Iterator[None]:
    """Run what torch.compile has wrapped as it was written.

    Compiled code does not see hooks that came after it, and the probe's batches would compile more
    of it, with dynamic shapes from then on, for training too.
    """
    if "torch._dynamo" not in sys.modules:
        yield
    elif hasattr(torch.compiler, "set_stance"):
        with torch.compiler.set_stance("force_eager"):
            yield
    else:
        _unwrap(module)
        yield


def _unwrap(module: nn.Module) -> None:
    """Put the original in place of compiled calls, for torch before 2.6."""
    for submodule in module.modules():
        attributes = vars(submodule)
        if attributes.get("_compiled_call_impl") is not None:
            attributes["_compiled_call_impl"] = None
        original = getattr(attributes.get("forward"), "_torchdynamo_orig_callable", None)
        if original is not None:
            attributes["forward"] = original


def _lightning_modules() -> tuple[type, ...]:
    flavours = (sys.modules.get(name) for name in ("lightning.pytorch", "pytorch_lightning"))
    return tuple(flavour.LightningModule for flavour in flavours if flavour is not None)


def _silent(*_args: Any, **_kwargs: Any) -> None:
    """Stands in for `LightningModule.log` and `log_dict`."""
