"""The line that passes a probe's images through the code that prepares those of training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dnc_lightning.probe.isolation import evaluating, isolated_rng

HOOKS = ("on_before_batch_transfer", "on_after_batch_transfer")

AS_BYTES = "(images * 255).round().to(torch.uint8)"


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


def image_of(batch: Any) -> Tensor | None:
    """Return the images [N, C, H, W] of a batch, where they are not inside something else."""
    if isinstance(batch, (tuple, list)) and batch:
        batch = batch[0]
    if isinstance(batch, dict):
        batch = next((v for v in batch.values() if isinstance(v, Tensor) and v.ndim == 4), None)
    return batch if isinstance(batch, Tensor) and batch.ndim == 4 else None


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
    like the images of the training batch do it.

    Args:
        module: The LightningModule.
        sample: Images of the probe, [N, C, H, W].
        batch: That the training step was given.
        hooks: From `transfer_hooks`.
        fed_bytes: Training gives integers to what the probe gives these images.
        alike: Whether two batches of images may have been prepared in the same way.
    """
    argument = "ProbeCallback(preprocess=lambda module, images: {})"
    trained = image_of(batch)
    if hooks and trained is not None:
        for text, images in (("images", sample), (AS_BYTES, _as_bytes(sample))):
            made = _through(module, hooks, images, batch)
            if made is not None and alike(made, trained):
                for hook in hooks:
                    wrapped, item = _packed(text, batch)
                    text = f"{hook.name}({wrapped}, 0){item}"
                return argument.format(text)
    unit = sample.is_floating_point() and 0 <= float(sample.min()) <= float(sample.max()) <= 1
    return argument.format(AS_BYTES) if fed_bytes and unit else None


def _through(
    module: nn.Module, hooks: Sequence[TransferHook], images: Tensor, batch: Any
) -> Tensor | None:
    try:
        with isolated_rng(images.device), evaluating(module), torch.no_grad():
            for hook in hooks:
                made = image_of(hook.function(_pack(images, batch), 0))
                if made is None:
                    return None
                images = made
            return images
    except Exception:  # a hook may need labels, or more than a batch
        return None


def _as_bytes(images: Tensor) -> Tensor:
    return (images * 255).round().clamp(0, 255).to(torch.uint8)


def _key(batch: dict[Any, Any]) -> Any:
    return next(k for k, v in batch.items() if isinstance(v, Tensor) and v.ndim == 4)


def _pack(images: Tensor, batch: Any) -> Any:
    """Give images the structure of a batch, without labels."""
    if isinstance(batch, dict):
        return {_key(batch): images}
    return images if isinstance(batch, Tensor) else (images, None)


def _packed(text: str, batch: Any) -> tuple[str, str]:
    """Write the same in Python, and how to get the images out again."""
    if isinstance(batch, dict):
        return f"{{{_key(batch)!r}: {text}}}", f"[{_key(batch)!r}]"
    return (text, "") if isinstance(batch, Tensor) else (f"({text}, None)", "[0]")
