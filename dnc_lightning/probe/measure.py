"""From features to the numbers of a probe: every instrument on its own, at every place of keys."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from dnc_lightning.functional._scale import unit_rows
from dnc_lightning.functional._tiles import wide
from dnc_lightning.functional.few_shot import Shard
from dnc_lightning.probe.bench import Bench, Settings
from dnc_lightning.probe.heads import Heads
from dnc_lightning.probe.instrument import Expected, Found, at
from dnc_lightning.probe.labels import Task
from dnc_lightning.probe.passes import Passes
from dnc_lightning.probe.processes import LostError, Processes, reason_of


@dataclass
class Measurement:
    """What one pass over the probe found at one place of keys."""

    scalars: dict[str, float] = field(default_factory=dict)  # key below the prefix -> value
    matrices: dict[str, Tensor] = field(default_factory=dict)  # "cdnv", ... -> [C, C] and others
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def measure(
    features: Tensor,
    tasks: Mapping[str, Task],
    places: Mapping[str, Sequence[Expected]],
    settings: Settings,
    shards: Mapping[str, Shard] | None = None,
    processes: Processes | None = None,
    *,
    thorough: bool = False,
    heads: Heads | None = None,
    targets: Mapping[str, Tensor] | None = None,
    passes: Passes | str = "the encoder cannot be run again",
) -> dict[str, Measurement]:
    """Let every instrument measure one encoder; what fails is nan, with the reason.

    Args:
        features: [n, D], this process's shard.
        tasks: With labels [n] of the same samples.
        places: What `expected` gives.
        settings: Of the probe.
        shards: Task -> where the samples stand among those of all processes; empty for one.
        processes: This one among the others; None for one.
        thorough: At the first or last probe.
        heads: Of the module, by their names.
        targets: Name -> continuous targets [n, k] of the same samples.
        passes: Of the encoder over the same images, or why there can be none.

    Returns:
        Place -> its numbers, arrays and warnings. Every number is nan when a feature is not finite,
        and those of an instrument when it fails, on whichever process.

    Raises:
        OtherRankError: another process has given up the whole measurement.
        LostError: the other processes are lost.
    """
    found = {
        place: Measurement({key: math.nan for one in here for key in one.numbers})
        for place, here in places.items()
    }
    shards, processes = shards or {}, processes or Processes()
    broken = int(processes.sum((~features.isfinite().all(1)).sum()))
    if settings.normalize and not broken:
        features = unit_rows(features)
    for place, here in places.items():
        if broken:
            if place in tasks:
                samples = len(shards[place].labels if shards else features)
                found[place].warnings.append(
                    f"{broken} of {samples} feature vectors hold nan or infinity: their metrics "
                    "are nan. Is the encoder diverging?"
                )
            continue
        bench = Bench(
            features=features,
            tasks=at(place, tasks),
            settings=settings,
            thorough=thorough,
            wanted=frozenset(found[place].scalars),
            shards=shards,
            processes=processes,
            heads=heads or {},
            targets=targets or {},
            passes=passes,
        )
        _measure(found[place], bench, here, processes)
    return found


def _measure(
    into: Measurement, bench: Bench, here: Sequence[Expected], processes: Processes
) -> None:
    numbers: dict[str, Tensor] = {}
    failed: dict[str, list[str]] = {}  # reason -> instruments
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for one in here:
            try:
                given, tensors, arrays = processes.attempt(partial(_ask, one, bench))
            except LostError:
                raise
            except Exception as error:
                failed.setdefault(reason_of(error), []).append(one.instrument.name)
                error.__traceback__ = None  # its frames hold features
                continue
            numbers |= tensors
            into.matrices |= arrays
            into.notes += given.notes
            into.warnings += given.warnings
            if given.instead is not None:
                for key in one.numbers:
                    into.scalars.pop(key, None)
                into.scalars |= given.instead
    if numbers:
        # One transfer from the device for all numbers.
        into.scalars.update(zip(numbers, torch.stack(list(numbers.values())).tolist(), strict=True))
    into.warnings += [str(warning.message) for warning in caught]
    into.warnings += [_failure(reason, ", ".join(names)) for reason, names in failed.items()]


def _ask(one: Expected, bench: Bench) -> tuple[Found, dict[str, Tensor], dict[str, Tensor]]:
    given = one.instrument.measure(bench)
    return given, _numbers(given, one, bench), _arrays(given, one, bench)


def _failure(reason: str, names: str) -> str:
    return f"Measuring failed: {reason} in {names}. Its values are nan; training goes on."


def _numbers(given: Found, one: Expected, bench: Bench) -> dict[str, Tensor]:
    """Its numbers, each a scalar on the features' device."""
    device = bench.features.device
    found = {}
    for key, value in given.scalars.items():
        if key not in one.numbers:
            raise ValueError(_undeclared(one, "number", key, one.numbers))
        tensor = torch.as_tensor(value, dtype=wide(device), device=device).detach()
        if tensor.numel() != 1:
            raise ValueError(f"number {key!r} has shape {list(tensor.shape)}. Declare its axes.")
        found[key] = tensor.reshape(())
    return found


def _arrays(given: Found, one: Expected, bench: Bench) -> dict[str, Tensor]:
    """Its arrays, as numpy can take them."""
    sizes = {"shots": len(bench.settings.shots)}
    if len(bench.tasks) == 1:
        sizes["class"] = len(bench.classes)
    found = {}
    for key, value in given.arrays.items():
        if key not in one.arrays:
            raise ValueError(_undeclared(one, "array", key, one.arrays))
        axes = one.arrays[key]
        fits = value.ndim == len(axes) and all(
            sizes.get(axis, size) == size for axis, size in zip(axes, value.shape, strict=True)
        )
        if not fits:
            wanted = ", ".join(f"{axis} {sizes[axis]}" if axis in sizes else axis for axis in axes)
            raise ValueError(f"array {key!r} has shape {list(value.shape)}, its axes are {wanted}.")
        small = value.is_floating_point() and value.dtype.itemsize < 4
        found[key] = value.detach().float() if small else value.detach()
    return found


def _undeclared(
    one: Expected, kind: str, key: str, declared: Sequence[str] | Mapping[str, object]
) -> str:
    return (
        f"{kind} {key!r} is not declared here by {one.instrument.name}, but {', '.join(declared)}."
    )
