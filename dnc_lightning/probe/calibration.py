"""Honest first points: BatchNorm statistics of an encoder that has hardly been trained."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import is_lazy

CALIBRATION_IMAGES = 1024
"""Probe images, at most, that the statistics are taken from; the same on every rank."""

SETTLED = 0.01
"""Share of the initial values in running statistics from which on they are taken as they are."""


def unsettled_batch_norms(
    modules: Iterable[nn.Module], given: Collection[nn.Module] = ()
) -> list[_BatchNorm]:
    """BatchNorm layers in training mode whose running statistics still hold their initial values.

    The statistics decide: mean 0 and variance 1 throughout are those of a layer that has seen
    nothing, whatever it has counted. After n batches a running average with momentum m is
    (1 - m)^n initial value; layers are taken while the counter says that this is more than 1 %, 43
    batches at torch's default m = 0.1, unless a variance is smaller than what would be left of the
    initial one: then the counter was averaged, copied or lost. A counter at 0 beside other
    statistics is the same, and `given` are layers that were seen so when the fit began. A frozen
    layer is in evaluation mode, which means the statistics that it holds. Call it before the
    modules are put into evaluation mode.
    """
    return [
        layer
        for module in modules
        for layer in batch_norms(module).values()
        if layer.training and (is_initial(layer) or (layer not in given and _is_young(layer)))
    ]


def holds_initial(average: _BatchNorm, trained: _BatchNorm) -> bool:
    """Whether averaged statistics still hold initial values that those in training do not.

    The counter of an average tells nothing: it is averaged too, or not at all. So the statistics
    are looked at: what part of the way they are from the trained layer's to the initial ones, mean
    0 and variance 1, by least squares over all channels.
    """
    now = torch.cat([_mean(trained), _variance(trained)]).double()
    initial = torch.cat([torch.zeros_like(_mean(trained)), torch.ones_like(_variance(trained))])
    away = initial.to(now) - now
    moved = torch.cat([_mean(average), _variance(average)]).to(now) - now
    return bool(moved @ away > AVERAGED * (away @ away).clamp(min=1e-12))


AVERAGED = 0.05
"""Part of the way back to the initial values; what the weights moved meanwhile is less."""


def given_statistics(module: nn.Module) -> dict[str, _BatchNorm]:
    """BatchNorm layers, by name, that hold statistics without having counted a batch.

    Weight files may leave out the counters, as torchvision's *_V1 and many converted ones do. When
    training goes on from such a file, the counters begin at 0 beside statistics that are real.
    """
    named = batch_norms(module).items()
    return {n: layer for n, layer in named if not is_initial(layer) and not _batches(layer)}


def batch_norms(module: nn.Module) -> dict[str, _BatchNorm]:
    """BatchNorm layers with running statistics, by their names without those of torch.compile."""
    return {
        name.replace("_orig_mod.", ""): layer
        for name, layer in module.named_modules()
        if isinstance(layer, _BatchNorm)
        and layer.running_mean is not None
        and not is_lazy(layer.running_mean)
    }


@contextmanager
def calibrated(layers: list[_BatchNorm], passes: Iterable[Callable[[], Any]]) -> Iterator[None]:
    """Let `layers` hold the mean statistics of `passes` inside; restore them after.

    Each pass runs the encoder on one batch, in evaluation mode: a hook sets a layer's statistics to
    those of its input just before it runs, so that later layers see normalised features and
    synchronised layers need no other process.
    """
    saved = [(_mean(layer).clone(), _variance(layer).clone()) for layer in layers]
    sums: dict[nn.Module, tuple[Tensor, Tensor, int]] = {}

    def take_statistics(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, _BatchNorm)
        features = inputs[0].float()
        variance, mean = torch.var_mean(features, [0, *range(2, features.ndim)], correction=0)
        _mean(layer).copy_(mean)
        _variance(layer).copy_(variance)
        old_mean, old_variance, count = sums.get(layer, (mean * 0, variance * 0, 0))
        sums[layer] = (old_mean + mean, old_variance + variance, count + 1)

    hooks = [layer.register_forward_pre_hook(take_statistics) for layer in layers]
    try:
        for run in passes:
            run()
        for hook in hooks:
            hook.remove()
        for layer, (mean, variance, count) in sums.items():
            assert isinstance(layer, _BatchNorm)
            _mean(layer).copy_(mean / count)
            _variance(layer).copy_(variance / count)
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for layer, (mean, variance) in zip(layers, saved, strict=True):
            _mean(layer).copy_(mean)
            _variance(layer).copy_(variance)


def is_initial(layer: _BatchNorm) -> bool:
    """Whether the running statistics are those of a layer that has seen nothing."""
    return bool((_mean(layer) == 0).all()) and bool((_variance(layer) == 1).all())


def _is_young(layer: _BatchNorm) -> bool:
    # A momentum of None averages over all batches; one of 0 keeps what the layer was given.
    if _batches(layer) == 0 or not layer.momentum:
        return False
    share = float((1 - layer.momentum) ** _batches(layer))
    # With a margin for the rounding of the variance's own type.
    return share > SETTLED and float(_variance(layer).min()) >= share * 0.99


def _batches(layer: _BatchNorm) -> int:
    return 0 if layer.num_batches_tracked is None else int(layer.num_batches_tracked)


def _mean(layer: _BatchNorm) -> Tensor:
    assert layer.running_mean is not None
    return layer.running_mean


def _variance(layer: _BatchNorm) -> Tensor:
    assert layer.running_var is not None
    return layer.running_var
