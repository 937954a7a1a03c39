"""What a curve belongs to: a run that is resumed with another probe is another experiment."""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Callable, Mapping
from functools import partial
from textwrap import shorten
from types import CodeType, FunctionType, MethodType
from typing import Any

import torch
import torchmetrics

from dnc_lightning.instruments import BUILT_IN, TorchMetric
from dnc_lightning.probe.bank import ImageBank
from dnc_lightning.probe.codes import as_float
from dnc_lightning.probe.engine import ProbeEngine
from dnc_lightning.probe.probe_set import ProbeSet

IMAGES, PIXELS = 8, 6  # of the probe that stand for all: those of a changed transform differ

CLOSE = 1e-3
"""Difference of pixels that another machine's arithmetic may make."""

SUMS, BATCH = 16, 256  # of all images, and images of a batch

_FACTS = {
    "tasks and classes": ("tasks",),
    "samples of each class": ("probe", "per_class"),
    "image shape": ("probe", "image_shape"),
    "encoders": ("sources",),
    "keys": ("prefixes",),
    "pooling": ("pooling",),
    "normalize": ("normalize",),
    "ways": ("ways",),
    "unit of steps": ("steps",),
}
"""Part -> where a header holds it. Shots and metrics are none: they only add keys."""


def fingerprint(
    engine: ProbeEngine, probe: ProbeSet, preprocess: Callable[..., Any] | None
) -> dict[str, Any]:
    """Describe what the values depend on and the rest of the header does not tell.

    The same for any number of processes, batch size and precision.

    Args:
        engine: Of the run.
        probe: Its images and labels.
        preprocess: What images pass through before the encoder.

    Returns:
        Part -> a short hash, numbers, or a dict of these; plain JSON.
    """
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    encoders = engine.embedder.encoders
    code = {e.name: code_of(e.function) for e in encoders if e.function is not None}
    parts: dict[str, Any] = {
        "chosen samples": short_hash(probe.indices.tolist()),
        "labels": {name: short_hash(task.labels.tolist()) for name, task in probe.tasks.items()},
        "width of the features": {name: value.shape[1] for name, value in engine.empty.items()},
        "images": pixels_of(probe),
        # What it says is comparable between equal versions alone.
        f"code of the encoders (Python {python})": code,
        f"preprocess (Python {python})": preprocess and code_of(preprocess),
    }
    if engine.processes.shards == 1 and engine.bank.images is not None:
        parts["images, some of them"] = _sums(engine.bank, engine.device)
    for instrument in engine.instruments:
        if instrument.name not in BUILT_IN:
            name, owner = f"metric {instrument.name}", getattr(instrument, "__dict__", {})
            if isinstance(instrument, TorchMetric):
                name += f" (torchmetrics {torchmetrics.__version__})"
                owner = vars(instrument.metric)
            parts[name] = short_hash(_plain(owner))
    return parts


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Say what makes the records of two headers values of two experiments.

    Args:
        old: A header, also of an earlier version: what it does not hold is not compared.
        new: The header of the run that would go on.

    Returns:
        "part: from -> to" of each part that differs, "other part" of those that only a hash or
        a sample stands for.
    """
    before, after = _parts(old), _parts(new)
    return [
        f"{part}: {_short(before[part])} -> {_short(after[part])}"
        if part in _FACTS
        else f"other {part}"
        for part in before
        if part in after and not _same(before[part], after[part])
    ]


def _parts(header: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for part, path in _FACTS.items():
        value: Any = header
        for key in path:
            value = value.get(key, _parts) if isinstance(value, Mapping) else _parts
        if value is not _parts:
            found[part] = value
    marks = header.get("fingerprint")
    return found | (dict(marks) if isinstance(marks, Mapping) else {})


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float | int):
        return math.isclose(one, other, rel_tol=CLOSE, abs_tol=CLOSE)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(one[k], other[k]) for k in one)
    return bool(one == other)


def _short(value: Any) -> str:
    return shorten(str(value), 80, placeholder=" ...")


def short_hash(value: Any) -> str:
    """Twelve digits that stand for what a value prints as."""
    return hashlib.sha256(repr(value).encode()).hexdigest()[:12]


def pixels_of(probe: ProbeSet) -> list[list[float]]:
    """Mean, standard deviation and some pixels of some images, as they are decoded."""
    found = []
    for position in sorted(set(torch.linspace(0, len(probe) - 1, IMAGES).long().tolist())):
        try:
            values = as_float(probe.image(position)).float().flatten()
            values = values.nan_to_num(0.0, 0.0, 0.0)
        except Exception:
            continue  # the probe itself says what is wrong with it
        some = values[torch.linspace(0, len(values) - 1, PIXELS).long()]
        numbers = torch.cat([torch.stack([values.mean(), values.std(correction=0)]), some])
        found.append([round(number, 5) for number in numbers.tolist()])
    return found


def code_of(function: Any) -> str:
    """Hash what a function does and is set to, not where it stands; of an object, its call.

    Functions that it calls by a global name are not looked into.
    """
    return short_hash(_meaning(function))


def _meaning(function: Any) -> Any:
    if isinstance(function, partial):
        arguments = [*function.args, *sorted(function.keywords.items())]
        return _meaning(function.func), [_setting(value) for value in arguments]
    code = getattr(function, "__code__", None)
    if code is None:
        call = getattr(type(function).__call__, "__code__", None)
        return _instructions(call, None), _settings(function)
    owner = getattr(function, "__self__", None)
    cells = [_content(cell) for cell in getattr(function, "__closure__", None) or ()]
    given = [*(function.__defaults__ or ()), *sorted((function.__kwdefaults__ or {}).items())]
    settings = [_setting(value) for value in [*cells, *given]]
    return _instructions(code, function.__doc__), settings, _settings(owner)


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return None


def _setting(value: Any) -> Any:
    """A value where it is plain or a function, else its type."""
    if isinstance(value, bool | int | float | str | None):
        return repr(value)
    if isinstance(value, list | tuple):
        return [_setting(item) for item in value]
    if isinstance(value, FunctionType | MethodType | partial):
        return _meaning(value)
    return type(value).__qualname__


def _settings(owner: Any) -> list[Any]:
    """The plain attributes of an object; not of a module, which training itself changes."""
    found = {} if isinstance(owner, torch.nn.Module) else getattr(owner, "__dict__", {})
    return _plain(found)


def _sums(bank: ImageBank, device: torch.device) -> list[float]:
    """Sums over all images, which tell of a change of a single one.

    Signs alternate, so that what another decoder rounds otherwise in all of them cancels out, and
    pixels have unequal weights, so that a mirrored image is another.
    """
    found = []
    for images in bank.batches(BATCH, device):
        pixels = images.float().flatten(1).nan_to_num(0.0, 0.0, 0.0)
        weights = torch.linspace(0.5, 1.5, pixels.shape[1], device=pixels.device)
        found.append((pixels @ weights / pixels.shape[1]).double().cpu())
    each = torch.cat(found)
    each[1::2] *= -1
    return [round(float(part.sum()), 4) for part in each.chunk(SUMS)]


def _plain(attributes: Mapping[str, Any]) -> list[Any]:
    plain = {k: v for k, v in attributes.items() if isinstance(v, bool | int | float | str)}
    return sorted((k, repr(v)) for k, v in plain.items() if not k.startswith("_"))


def _instructions(code: CodeType | None, doc: str | None) -> Any:
    if code is None:
        return None
    constants = [_constant(value) for value in code.co_consts if value is None or value != doc]
    return code.co_code, code.co_names, code.co_freevars, constants


def _constant(value: Any) -> Any:
    if isinstance(value, CodeType):
        return _instructions(value, None)
    # The order of a set is another one in every process.
    return sorted(map(repr, value)) if isinstance(value, frozenset) else repr(value)
