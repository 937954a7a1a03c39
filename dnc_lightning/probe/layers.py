"""The layers of an encoder, one after the other, as they run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from dnc_lightning.probe.encoders import EVERY_LAYER, Encoder, EncoderError
from dnc_lightning.probe.pooling import check_output

NORMALISATIONS = (_NormBase, nn.LayerNorm, nn.GroupNorm)
"""Layers that show what the one before shows, in other units."""


def expanded(
    module: nn.Module, encoder: Encoder, images: Tensor, run: Callable[[Encoder, Tensor], Any]
) -> list[Encoder]:
    """Put the layers of an encoder "root:*" in its place, in the order in which they run.

    A layer is a child of the root with parameters that is no normalisation; containers and the one
    child of a wrapper are looked into. The last entry is what the root itself returns.

    Args:
        module: The LightningModule.
        encoder: Any; another one than of all layers is returned as it is.
        images: [N, C, H, W] to try it on.
        run: Runs an encoder as a probe does.

    Raises:
        EncoderError: no layer gives features.
    """
    if encoder.layer != EVERY_LAYER or encoder.root is None:
        return [encoder]
    root, order = module.get_submodule(encoder.root), dict[str, None]()

    def note(path: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            try:
                check_output(output, len(images), path)
            except ValueError:
                return  # a mask, a tuple, the tokens of something else
            order.setdefault(path)

        return hook

    hooks = [part.register_forward_hook(note(path)) for path, part in _layers(root)]
    whole = replace(encoder, layer=None)
    try:
        run(whole, images)
    finally:
        for hook in hooks:
            hook.remove()
    if not order:
        raise EncoderError(
            f"encoder {encoder.source!r}: no layer below {encoder.root!r} gives features. Name "
            'layers, such as {"early": "backbone:layer1"}.'
        )
    base, name = encoder.source.removesuffix(f":{EVERY_LAYER}"), encoder.name
    short = name.removesuffix(f":{EVERY_LAYER}")
    found = [
        replace(encoder, name=f"{short}:{path}", source=f"{base}:{path}", layer=path, profile=short)
        for path in order
    ]
    return [*found, replace(whole, name=short, source=base, profile=short)]


def _layers(root: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    prefix, children = "", list(_with_parameters(root))
    while len(children) == 1 and not isinstance(root, nn.Sequential | nn.ModuleList):
        name, root = children[0]
        prefix, children = f"{prefix}{name}.", list(_with_parameters(root))
    for name, child in children:
        if isinstance(child, nn.Sequential | nn.ModuleList):
            yield from ((f"{prefix}{name}.{path}", part) for path, part in _layers(child))
        elif not isinstance(child, NORMALISATIONS):
            yield f"{prefix}{name}", child


def _with_parameters(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, child in module.named_children():
        if next(child.parameters(), None) is not None:
            yield name, child
