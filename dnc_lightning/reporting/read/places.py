"""Where the keys of a run lie, and what the places in a declared key stand for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from dnc_lightning.records.declarations import further_declarations
from dnc_lightning.reporting.read.tasks import ACROSS, FEATURES
from dnc_lightning.series import PAIR, SHOTS, Scope, Series


@dataclass(frozen=True)
class Place:
    """Where keys of one scope lie."""

    scope: Scope
    encoder: str | None  # None: of the probe
    task: str | None  # None: of none or of all
    prefix: str  # of logged keys, with its "/"

    @property
    def folder(self) -> str:
        """Where its arrays lie among those of the records."""
        return f"{self.encoder}/{self.task or _FOLDERS[self.scope]}"


_FOLDERS: Mapping[Scope, str] = {"features": FEATURES, "tasks": ACROSS}


def places(header: Mapping[str, Any]) -> list[Place]:
    """Return where keys may lie: of every task, of features, across tasks, of the probe itself."""
    prefixes = header.get("prefixes") or {}
    found: list[Place] = []
    root = f"{header.get('name') or 'probe'}/"
    for encoder, tasks in prefixes.items():
        found += [Place("task", encoder, task, f"{p}/") for task, p in tasks.items()]
        for task, prefix in list(tasks.items())[:1]:
            base = prefix.removesuffix(task)
            found.append(Place("features", encoder, None, f"{base}{FEATURES}/"))
            found.append(Place("tasks", encoder, None, f"{base}{ACROSS}/"))
            root = base.removesuffix(f"{encoder}/") if len(prefixes) > 1 else base
    return [*found, Place("probe", None, None, root)]


def expanded(key: str, place: Place, header: Mapping[str, Any]) -> dict[str, str]:
    """Return the keys below a prefix, and what tells each from the others."""
    shots = sorted({int(m) for m in header.get("shots") or ()}) if SHOTS in key else [None]
    tasks = list((header.get("prefixes") or {}).get(place.encoder) or {})
    pairs = [f"{a}-{b}" for a, b in combinations(tasks, 2)] if PAIR in key else [None]
    return {
        key.replace(SHOTS, str(m)).replace(PAIR, str(pair)): ", ".join(
            str(part) for part in (pair, m) if part is not None
        )
        for pair in pairs
        for m in shots
    }


def classes_of(place: Place, header: Mapping[str, Any]) -> int:
    """Return the number of classes of a place's task; 0 where there is none."""
    return len((header.get("tasks") or {}).get(place.task) or ())


def along(axis: str, size: int, place: Place, header: Mapping[str, Any]) -> tuple[str, ...]:
    """Return names along an axis: of classes, shots or tasks if there are as many, else counts."""
    known: dict[str, Sequence[Any]] = {
        "class": (header.get("tasks") or {}).get(place.task) or (),
        "shots": header.get("shots") or (),
        "task": list((header.get("prefixes") or {}).get(place.encoder) or {}),
    }
    names = known.get(axis, ())
    return tuple(map(str, names if len(names) == size else range(1, size + 1)))


def further_keys(header: Mapping[str, Any]) -> list[tuple[Series, Place, list[str]]]:
    """Return the numbers that a header declares and no special chart shows, with logged keys."""
    return [
        (series, place, [place.prefix + key for key in expanded(series.key, place, header)])
        for series in further_declarations(header)
        for place in places(header)
        if place.scope == series.scope and not series.axes
    ]
