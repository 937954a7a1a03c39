"""The line that passes a probe's images through the code that prepares those of training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from dnc_lightning.probe.isolation import evaluating, isolated_rng

HOOKS = ("on_before_batch_transfer", "on_after_batch_transfer")

AS_BYTES = "(images * 255).round().to(torch.uint8)"

LABELS = "torch.zeros(len(images), dtype=torch.int64)"


@dataclass(frozen=True)
class TransferHook:
    """A hook by which a module or data module changes batches on their way to the device."""

    name: str
    owner: str  # Python that names it, given `module`
    function: Callable[[Any, int], Any]


def transfer_hooks(module: nn.Module, datamodule: Any) -> tuple[TransferHook, ...]:
    """List those that do something, in the order in which they run.

    As Lightning does, a data module's own hook is taken in place of the module's.
    """
    found = []
    for name in HOOKS:
        for owner, named in ((datamodule, "module.trainer.datamodule"), (module, "module")):
            function = getattr(owner, name, None)
            home = getattr(getattr(function, "__func__", function), "__module__", "")
            if function is not None and not home.startswith(
                ("lightning.pytorch.core", "pytorch_lightning.core")
            ):
                found.append(TransferHook(f"{named}.{name}", named, function))
                break
    return tuple(found)


def image_of(batch: Any, channels: int) -> tuple[str, Tensor] | None:
    """Return the first images [N, channels, H, W] of a batch, behind Python that gets them."""
    if isinstance(batch, Tensor):
        return ("", batch) if batch.ndim == 4 and batch.shape[1] == channels else None
    for key, value in _items(batch):
        if (found := image_of(value, channels)) is not None:
            return f"[{key!r}]{found[0]}", found[1]
    return None


def find_remedy(
    module: nn.Module,
    sample: Tensor,
    batch: Any,
    hooks: Sequence[TransferHook],
    *,
    fed_bytes: bool,
    alike: Callable[[Tensor, Tensor], bool],
) -> str | None:
    """Return an argument of ProbeCallback that was seen to work, as Python, or None.

    Transfer hooks are tried on the probe's images, as floats and as bytes: those that make them
    like the images of the training batch, and draw nothing at random, do it. A batch may have had
    another structure before the hooks, so that a pair and a tensor are tried as well.

    Args:
        module: The LightningModule.
        sample: Images of the probe, [N, C, H, W].
        batch: That the training step was given.
        hooks: From `transfer_hooks`.
        fed_bytes: Training gives integers to what the probe gives these images.
        alike: Whether two batches of images may have been prepared in the same way.
    """
    argument = "ProbeCallback(preprocess=lambda module, images: {})"
    trained = image_of(batch, sample.shape[1])
    if hooks and trained is not None:
        values = {"images": sample, AS_BYTES: _as_bytes(sample)}
        labels = {"None": None, LABELS: torch.zeros(len(sample), dtype=torch.int64)}
        pair, alone = (trained[1], None), trained[1]
        for like, label, text in product((batch, pair, alone), labels, values):
            packed = partial(_packed, like, sample.shape[1], values[text], labels[label])
            made = _through(module, hooks, packed, sample.shape[1], sample.device)
            if made is not None and len(made[1]) == len(sample) and alike(made[1], trained[1]):
                written = _written(like, sample.shape[1], text, label)
                for hook in hooks:
                    written = f"{hook.name}({written}, 0)"
                return argument.format(written + made[0])
    unit = sample.is_floating_point() and 0 <= float(sample.min()) <= float(sample.max()) <= 1
    return argument.format(AS_BYTES) if fed_bytes and unit else None


def _through(
    module: nn.Module,
    hooks: Sequence[TransferHook],
    packed: Callable[[], Any],
    channels: int,
    device: torch.device,
) -> tuple[str, Tensor] | None:
    """What the hooks make of a batch; None where they cannot, or make another each time."""
    found = []
    try:
        with isolated_rng(device), evaluating(module), torch.no_grad():
            for _ in range(2):  # two draws from one stream
                made = packed()
                for hook in hooks:
                    made = hook.function(made, 0)
                found.append(image_of(made, channels))
    except Exception:  # a hook may need more than a batch
        return None
    one, other = found
    return one if one and other and torch.equal(one[1], other[1]) else None


def _as_bytes(images: Tensor) -> Tensor:
    return (images * 255).round().clamp(0, 255).to(torch.uint8)


def _items(batch: Any) -> Iterable[tuple[Any, Any]]:
    if isinstance(batch, dict):
        return batch.items()
    return enumerate(batch) if isinstance(batch, (tuple, list)) else ()


def _packed(like: Any, channels: int, images: Tensor, label: Any) -> Any:
    """Put copies of images in the place of those of a batch, and a label in that of the rest."""
    if image_of(like, channels) is None:
        return label
    if isinstance(like, Tensor):
        return images.clone()
    made = {key: _packed(value, channels, images, label) for key, value in _items(like)}
    if isinstance(like, dict):
        return made
    return tuple(made.values()) if isinstance(like, tuple) else list(made.values())


def _written(like: Any, channels: int, images: str, label: str) -> str:
    """Write the same in Python."""
    if image_of(like, channels) is None:
        return label
    if isinstance(like, Tensor):
        return images
    made = {key: _written(value, channels, images, label) for key, value in _items(like)}
    if isinstance(like, dict):
        return f"{{{', '.join(f'{key!r}: {value}' for key, value in made.items())}}}"
    parts = ", ".join(made.values())
    if isinstance(like, list):
        return f"[{parts}]"
    return f"({parts}{',' * (len(made) == 1)})"
