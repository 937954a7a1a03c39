"""Find out, on a few images, which axis of an output holds features and which tokens are patches.

Nothing is taken from a shape alone. In this order: what layers inside the encoder returned, by
their arithmetic; what the encoder says of itself; how the shape changes with wider images. Whether
a class token is among the tokens is seen by changing its parameter a little.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from dnc_lightning.probe.pooling import Layout, Pooling
from dnc_lightning.probe.traces import Trace

Run = Callable[[Tensor], Trace]

_PREFIX = re.compile(r"(cls|class)_?(token|embed)|tokens?\d*$")
"""Names of parameters that may be tokens, as timm, torchvision, transformers and others give."""

_CLASS = re.compile(r"cls|class")


def find_layout(
    trace: Trace,
    images: Tensor,
    pooling: Pooling,
    run: Run,
    module: nn.Module,
    source: str,
    expression: str,
) -> Layout:
    """Fix the layout of an encoder's output.

    Args:
        trace: Of the encoder on `images`; its output has passed `check_output`.
        images: The images that it was tried on, [N, C, H, W].
        pooling: As the user chose.
        run: Runs the encoder again, as often as needed, on images like these.
        module: What runs: its parameters, and what it says of itself.
        source: The encoder's name in messages.
        expression: Python that calls it, for the remedy: "module.backbone(images)".

    Raises:
        ValueError: which axis, or which tokens, cannot be told; `pooling` asks for a token that is
            not there. Names the remedy.
    """
    output: Tensor = trace.output
    if output.ndim == 2:
        return Layout(2, output.shape[1])
    last = _features_last(trace, images, run, module)
    if last is None:
        pooled = (1, 2) if output.ndim == 4 else 1
        raise ValueError(
            f"encoder {source!r} returns {_named(output)}, and nothing tells which axis holds the "
            "features: neither layers inside it, nor output_fmt or num_features, nor its output "
            f"for wider images. Pass encoder=lambda module, images: {expression}.mean({pooled}) "
            "for features on the last axis, or .mean("
            f"{(2, 3) if output.ndim == 4 else 2}) for features on the second."
        )
    features = output.shape[-1 if last else 1]
    if output.ndim == 4:
        if pooling == "cls":
            raise ValueError(
                f"encoder {source!r} returns maps {_named(output)}, which have no class token. "
                'Use pooling="auto" or "mean".'
            )
        return Layout(4, features, last)
    count = math.prod(output.shape[1:]) // features
    prefix, has_class = _prefix(trace, images, count, run, module, source, expression)
    if pooling == "cls" and not has_class:
        raise ValueError(
            f"encoder {source!r} returns {count} tokens, and no class token is among them. Use "
            f'pooling="mean" or "auto", or encoder=lambda module, images: {expression}[:, 0] if '
            "the first token is what you want."
        )
    take_first = has_class and pooling != "mean"
    if not take_first and prefix >= count:
        raise ValueError(
            f"encoder {source!r} returns no tokens of patches to average, only {count} class or "
            'register tokens. Use pooling="auto" or "cls".'
        )
    return Layout(3, features, last, prefix, take_first)


def _features_last(trace: Trace, images: Tensor, run: Run, module: nn.Module) -> bool | None:
    """Whether the last axis holds the features; None where it cannot be told."""
    output: Tensor = trace.output
    shape = output.shape[1:]
    if math.prod(shape[1:]) == 1 or math.prod(shape[:-1]) == 1:
        return math.prod(shape[:-1]) == 1  # one position: all that is left are features
    for call in trace.calls:
        if call.tensor() is output:
            return call.last
    if shape[0] != shape[-1]:
        seen = {(call.positions, call.features) for call in trace.calls}
        second_fits = (math.prod(shape[1:]), shape[0]) in seen
        last_fits = (math.prod(shape[:-1]), shape[-1]) in seen
        if second_fits != last_fits:
            return last_fits
    said = _said(module, shape)
    said = _by_wider_images(output, images, run) if said is None else said
    counts = {call.features for call in trace.calls}
    if said is None and (shape[0] in counts) != (shape[-1] in counts):
        return shape[-1] in counts  # as after a mean over some of the positions
    return said


def _said(module: nn.Module, shape: torch.Size) -> bool | None:
    formats = {"NHWC": True, "NCHW": False} if len(shape) == 3 else {"NLC": True, "NCL": False}
    for speaker in (module, *module.children()):  # a callable calls what is below the module
        stated = getattr(speaker, "output_fmt", None)
        said = formats.get(str(getattr(stated, "value", stated)))
        if said is not None:
            return said
        for name in ("num_features", "embed_dim"):
            features = getattr(speaker, name, None)
            if isinstance(features, int) and (shape[0] == features) != (shape[-1] == features):
                return bool(shape[-1] == features)
    return None


def _by_wider_images(output: Tensor, images: Tensor, run: Run) -> bool | None:
    try:
        wide = run(torch.cat([images, images], -1)).output
    except Exception:  # many encoders take images of one size only
        return None
    if not isinstance(wide, Tensor) or wide.ndim != output.ndim:
        return None
    changed = [axis for axis in range(output.ndim) if wide.shape[axis] != output.shape[axis]]
    return {output.ndim - 2: True, output.ndim - 1: False}.get(changed[0]) if changed else None


def _prefix(
    trace: Trace,
    images: Tensor,
    count: int,
    run: Run,
    module: nn.Module,
    source: str,
    expression: str,
) -> tuple[int, bool]:
    """Count the tokens before those of patches, and say whether the first is a class token.

    A token that is a parameter is among the output's only if another value of the parameter gives
    another output. It may also have acted on the patches and been cut off since: so the output must
    have as many tokens more as the parameters hold than the last layer that they did not reach.
    """
    base, output = trace.calls, trace.output
    total, names, patches = 0, [], set()
    for name, parameter in module.named_parameters():
        if not _PREFIX.search(name.rpartition(".")[2]):
            continue
        with _changed(parameter):
            other = run(images)
        if torch.equal(other.output, output):
            continue
        names.append(name)
        total += parameter.shape[-2] if parameter.ndim > 1 else 1
        same = [a.mark == b.mark for a, b in zip(base, other.calls, strict=False)]
        reached = same.index(False) if False in same else len(same)
        if reached:
            patches.add(base[reached - 1].positions)
    if not names:
        return 0, False
    has_class = any(_CLASS.search(name.rpartition(".")[2]) for name in names)
    inside, cut_off = count == total or count - total in patches, count in patches
    if inside == cut_off:
        raise ValueError(
            f"encoder {source!r} returns tokens {_named(output)} that its {', '.join(names)} "
            f"acted on, but with {total} of these and {sorted(patches)} patches it cannot be told "
            "which tokens are whose. Pass encoder=lambda module, images: "
            f"{expression}[:, 0] for the first token, or {expression}[:, {total}:].mean(1)."
        )
    return (total, has_class) if inside else (0, False)


@contextmanager
def _changed(parameter: Tensor) -> Iterator[None]:
    """Another value inside, the same bits after; a constant would vanish in a LayerNorm."""
    saved = parameter.detach().clone()
    change = torch.linspace(-1, 1, saved.numel(), device=saved.device).to(saved.dtype)
    with torch.no_grad():
        try:
            parameter.data.add_(change.view(saved.shape))
            yield
        finally:
            parameter.data.copy_(saved)


def _named(output: Tensor) -> str:
    return f"[N, {', '.join(str(size) for size in output.shape[1:])}]"
