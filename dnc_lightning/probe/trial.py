"""Try the encoders on a few images before training: which runs, what goes in, what comes out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from dnc_lightning.probe.encoders import Encoder, EncoderError, Lookup
from dnc_lightning.probe.inputs import Watched
from dnc_lightning.probe.layers import expanded
from dnc_lightning.probe.layouts import find_layout
from dnc_lightning.probe.pooling import Pooling, check_output, pool
from dnc_lightning.probe.traces import Trace

TRIAL_IMAGES = 13
"""Images that the encoders are tried on; few, but no number that an axis often has."""

Run = Callable[[Encoder, Tensor], Trace]


@dataclass(frozen=True)
class Trial:
    """Encoders that work, and what is known of them."""

    encoders: tuple[Encoder, ...]  # with their layouts
    empty: dict[str, Tensor]  # encoder -> [0, D]
    watched: tuple[Watched, ...]  # what each encoder is given by the probe
    message: str  # which encoders were taken, and why
    failed: bool  # some that come first by their names did not run


def try_encoders(
    module: nn.Module, lookup: Lookup, images: Tensor, pooling: Pooling, run: Run
) -> Trial:
    """Take the first alternative that gives features of `images`, and fix its layouts.

    Args:
        module: The LightningModule.
        lookup: The alternatives.
        images: [N, C, H, W], as the bank gives them.
        pooling: As the user chose.
        run: Runs one encoder on images as a probe does, and traces it.

    Raises:
        ValueError: none works; an output whose layout cannot be told.
    """
    failed: dict[str, str] = {}
    for given in lookup.alternatives:
        encoders = tuple(e for one in given for e in expanded(module, one, images, run))
        try:
            traces = [_first_run(encoder, images, run) for encoder in encoders]
        except ValueError as error:
            if len(lookup.alternatives) == 1:
                raise
            failed[encoders[0].source] = str(error.__cause__ or error)
            continue
        settled, empty = [], {}
        for encoder, trace in zip(encoders, traces, strict=True):
            target = module if encoder.root is None else module.get_submodule(encoder.root)
            try:
                layout = find_layout(
                    trace,
                    images,
                    pooling,
                    partial(run, encoder),
                    target,
                    encoder.source,
                    encoder.expression,
                )
            except ValueError as error:
                if encoder.profile is None:
                    raise
                failed[encoder.source] = str(error)  # one layer of many
                continue
            settled.append(replace(encoder, layout=layout))
            empty[encoder.name] = pool(trace.output, len(images), layout, encoder.source)[:0]
        return Trial(
            tuple(settled),
            empty,
            tuple(w for w in map(Watched.of, traces) if w is not None),
            lookup.message(tuple(settled), failed),
            bool(failed),
        )
    reasons = " ".join(f"{name}: {reason}" for name, reason in failed.items())
    raise ValueError(f"no encoder of {type(module).__name__} gives features of images. {reasons}")


def _first_run(encoder: Encoder, images: Tensor, run: Run) -> Trace:
    try:
        trace = run(encoder, images)
    except (EncoderError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise ValueError(
            f"encoder {encoder.source!r} failed on float probe images of shape "
            f"{list(images.shape[1:])}: {error}. Pass ProbeSet(transform=...) or "
            "ProbeCallback(preprocess=...) that makes the images it expects, or another encoder=."
        ) from error
    check_output(trace.output, len(images), encoder.source, encoder.expression)
    return trace
