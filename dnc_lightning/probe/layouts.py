"""Find out, on a few images, which axis of an output holds features and which tokens are patches.

Nothing is taken from a shape alone. In this order: what layers inside the encoder returned, by
their arithmetic; what the encoder says of itself; how the shape changes with wider images. `tokens`
tells which tokens are patches.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor, nn

from dnc_lightning.probe.pooling import Layout, Pooling
from dnc_lightning.probe.tokens import Roles, Run, find_roles
from dnc_lightning.probe.traces import Trace


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
    if count == 1 and pooling == "auto":
        return Layout(3, features, last)
    return _of_tokens(
        Layout(3, features, last),
        count,
        find_roles(images, count, run, module),
        pooling,
        f"encoder {source!r} returns {count} tokens {_named(output)}",
        f"encoder=lambda module, images: {expression}{'' if last else '.mT'}",
    )


def _of_tokens(
    layout: Layout, count: int, roles: Roles, pooling: Pooling, head: str, call: str
) -> Layout:
    """Choose the class token, or the mean of what is left without tokens that are no patches."""
    if not roles.sure and count == 1:
        roles = Roles((0,), 0)  # one token is all there is to take, and no mean of patches
    if not roles.sure:
        raise ValueError(
            f"{head} that class or register tokens were mixed into, and how many of these are "
            f"left, and where, cannot be told. Pass {call}[:, 0] for the first token, {call}"
            f"[:, 1:].mean(1) for the mean of the others, or {call}.mean(1) for that of all."
        )
    others, take = roles.others, roles.first_class
    if take is None and pooling == "cls" and len(roles.unnamed) == 1:
        (take,) = roles.unnamed
    if pooling == "cls" and take is None:
        raise ValueError(
            f"{head}, and no class token is among them. Use "
            f'pooling="mean" or "auto", or {call}[:, 0] if the first token is what you want.'
        )
    if take is not None and pooling != "mean":
        return replace(layout, others=others, take=take)
    all_fixed = len(others) >= count
    if all_fixed and (take is not None or len(roles.unnamed) < count):
        raise ValueError(
            f"{head}, which are no tokens of patches to average, only class or register tokens. "
            'Use pooling="auto" or "cls".'
        )
    if all_fixed:
        return layout  # queries: parameters that have gathered something of the patches each
    if pooling == "auto" and roles.unnamed:
        at = ", ".join(map(str, roles.unnamed))
        token = 'pooling="cls"' if len(roles.unnamed) == 1 else f"{call}[:, {roles.unnamed[0]}]"
        raise ValueError(
            f"{head}, of which those at {at} are no patches, but no name tells whether they are "
            f'class tokens. Use {token} for the class token, or pooling="mean" for the mean of the '
            "patches."
        )
    return replace(layout, others=others)


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


def _named(output: Tensor) -> str:
    return f"[N, {', '.join(str(size) for size in output.shape[1:])}]"
