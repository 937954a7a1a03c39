"""What each layer of an encoder shows at the last probe."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from dnc_lightning.records.store import Run
from dnc_lightning.reporting.read.few_shot import MEASURED, few_shot
from dnc_lightning.reporting.read.views import METRICS, View, views
from dnc_lightning.reporting.theme import Metric

Values = tuple[float, ...]

SLACK = 0.01
"""By which a layer may err more than the best and still counts as deep enough."""


@dataclass(frozen=True)
class Profile:
    """One task through the layers of one encoder, at the last probe."""

    encoder: str
    task: str
    layers: tuple[str, ...]  # in the order in which they run, short
    values: dict[Metric, Values]  # "cdnv", "directional_cdnv" -> [L], nan where undefined
    noise: dict[Metric, Values]  # the same of as many samples of noise in as many dimensions
    error: Values  # measured, with the middle number of shots
    shots: int | None  # that number; None where no error was measured
    nc1: Values  # [L], nan where it was not recorded: of the instrument "simplex"
    nc1_noise: Values  # [L] the same of noise


@dataclass(frozen=True)
class Law:
    """How evenly a number falls from layer to layer."""

    factor: float  # by which a layer divides it, geometric mean
    correlation: float  # of its logarithm with depth; -1 where every layer divides it alike


def law_of(values: Sequence[float]) -> Law | None:
    """Fit a constant factor a layer, by least squares of the logarithm; None below three values.

    The law of data separation says that NC1 has one: He and Su, arXiv:2210.17020. Layers of other
    dimensions have other floors of noise, which can look like it. An output with exactly the value
    of the last layer is that layer pooled, and does not count.
    """
    layers = values[:-1] if len(values) > 1 and values[-1] == values[-2] else values
    known = [(place, math.log(v)) for place, v in enumerate(layers) if 0 < v < math.inf]
    if len(known) < 3:
        return None
    depth, logs = np.array(known).T
    slope = float(np.polyfit(depth, logs, 1)[0])
    spread = float(logs.std())
    correlation = float(np.corrcoef(depth, logs)[0, 1]) if spread > 0 else math.nan
    return Law(math.exp(-slope), correlation)


def effective_depth(errors: Sequence[float]) -> int | None:
    """Place of the first layer that errs at most `SLACK` more than the best one; None without two.

    After Galanti, Galanti and Ben-Shaul, arXiv:2202.09028, who take the first layer that separates
    the training samples by their nearest class centre; here it is the measured error on the probe,
    which need not reach any fixed value.
    """
    known = [(place, error) for place, error in enumerate(errors) if math.isfinite(error)]
    if len(known) < 2:
        return None
    least = min(error for _, error in known)
    return next(place for place, error in known if error <= least + SLACK)


def layers_within(run: Run) -> set[str]:
    """Names of the layers of encoders whose output is probed too."""
    found = run.header.get("profiles") or {}
    inner = {layer for root, layers in found.items() if root in layers for layer in layers}
    return inner - set(found)


def profiles(run: Run) -> Iterator[Profile]:
    """Yield every encoder whose layers were all probed, task by task."""
    if not run.records:
        return
    here = {(view.encoder, view.task): view for view in views(run)}
    for encoder, layers in (run.header.get("profiles") or {}).items():
        for task in run.header.get("tasks") or {}:
            found = [here[layer, task] for layer in layers if (layer, task) in here]
            if len(found) > 1:
                yield _profile(run, encoder, task, found)


def _profile(run: Run, encoder: str, task: str, found: list[View]) -> Profile:
    scalars = run.records[-1].scalars
    values = {
        metric: tuple(scalars.get(f"{view.prefix}/{metric}", math.nan) for view in found)
        for metric in METRICS
    }
    dimensions = run.header.get("dimensions") or {}
    counts = ((run.header.get("probe") or {}).get("per_class") or {}).get(task) or []
    n = len(counts) / sum(1 / c for c in counts) if counts and min(counts) > 0 else math.nan
    noise: dict[Metric, Values] = {
        # Means of n samples of noise are 2 v / n apart, v the variance of all D dimensions.
        "cdnv": tuple(n for _ in found),
        "directional_cdnv": tuple(
            n / (2 * dimensions[view.encoder]) if dimensions.get(view.encoder) else math.nan
            for view in found
        ),
    }
    errors, middle = [], None
    for view in found:
        numbers = few_shot(run, view, max_probes=2)
        if numbers is None:
            errors.append(math.nan)
            continue
        middle = numbers.shots[numbers.middle] if middle is None else middle
        column = numbers.shots.index(middle) if middle in numbers.shots else numbers.middle
        errors.append(float(numbers.values[MEASURED][-1, column]))
    nc1, nc1_noise = (
        tuple(scalars.get(f"{view.prefix}/{key}", math.nan) for view in found)
        for key in ("nc1", "nc1_noise")
    )
    names = _short([view.encoder.removeprefix(f"{encoder}:") for view in found], encoder)
    return Profile(encoder, task, names, values, noise, tuple(errors), middle, nc1, nc1_noise)


def _short(layers: list[str], encoder: str) -> tuple[str, ...]:
    """Names without the wrapper that they all lie in, "net." of "net.blocks.0"."""
    below = [name.split(".") for name in layers if name != encoder]
    shared = 0
    while len({tuple(parts[: shared + 1]) for parts in below}) == 1 and all(
        len(parts) > shared + 1 for parts in below
    ):
        shared += 1
    return tuple(
        (name or "output") if name == encoder else ".".join(name.split(".")[shared:])
        for name in layers
    )
