"""Leave no trace: random states, train/eval flags and buffers as they were."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn


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
    """Evaluation mode inside; every submodule's own flag and every buffer restored after.

    Flags are set directly: `train()` and `eval()` may be overridden, to freeze a layer or to merge
    adapters, and must not see the probe.
    """
    flags = [(submodule, submodule.training) for submodule in module.modules()]
    buffers = [
        (owner, name, buffer, buffer.detach().clone(), buffer._version)
        for owner in module.modules()
        for name, buffer in owner._buffers.items()
        if buffer is not None
    ]
    try:
        for submodule, _ in flags:
            submodule.training = False
        yield
    finally:
        for submodule, training in flags:
            submodule.training = training
        with torch.no_grad():
            for owner, name, buffer, saved, version in buffers:
                owner._buffers[name] = buffer
                if buffer._version != version:
                    buffer.copy_(saved)
