"""What a report shows of few-shot learning: measured error and its bounds, by shots and step."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dnc_lightning.records.store import Run
from dnc_lightning.reporting.read.views import View, moments, table, thinned
from dnc_lightning.series import chance

Series = Literal[
    "few_shot_error",
    "certificate",
    "joint",
    "conditional",
    "guarantee",
    "theorem_4_1",
    "luthra_2025",
]

MEASURED: Series = "few_shot_error"
GUARANTEE: Series = "guarantee"
ENDS: tuple[Series, ...] = ("joint", "conditional", GUARANTEE)
"""What the first and last probe alone record."""
BOUNDS: tuple[Series, ...] = ("certificate", *ENDS, "theorem_4_1", "luthra_2025")
SERIES: tuple[Series, ...] = (MEASURED, *BOUNDS)
TRACKED = tuple(name for name in SERIES if name not in ENDS)
"""What every probe records."""
ERROR_SE, LOW, HIGH = "few_shot_error_se", "certificate_low", "certificate_high"
TARGET_ERROR = 0.1  # where the header names none


@dataclass(frozen=True)
class LabelsNeeded:
    """Labels per class for the target error, at the last probe that asked; nan where none do."""

    measured: float
    measured_low: float  # of its 95 % interval
    measured_high: float
    guaranteed: float  # for new data, with 95 % confidence
    certified: float  # for the probe's own samples
    more_samples: float  # per class in the probe, until a guarantee may be expected


@dataclass(frozen=True)
class FewShot:
    """Few-shot numbers of one encoder and one task, over K probes and M numbers of shots."""

    shots: tuple[int, ...]  # [M] labelled samples per class, rising
    steps: NDArray[np.int64]  # [K]
    labels: tuple[str, ...]  # [K] "step 12 · epoch 0 · 33 s"
    chance: float | None  # error of guessing; None where the classes are unknown
    target: float  # error that `needed` speaks of
    values: Mapping[Series, NDArray[np.float64]]  # each [K, M], nan where absent
    error_se: NDArray[np.float64]  # [K, M] standard error of the measured error
    low: NDArray[np.float64]  # [K, M] 95 % interval of the population certificate
    high: NDArray[np.float64]  # [K, M]
    needed: NDArray[np.float64]  # [K] least shots for `target`, nan where none suffice
    asked: bool  # whether the last probe recorded `needed`
    labels_needed: LabelsNeeded | None  # None where no probe asked

    def holds(self, name: Series) -> bool:
        """Whether some probe recorded a series."""
        return bool(np.isfinite(self.values[name]).any())

    def shown(self, names: Iterable[Series]) -> list[Series]:
        """Return the names without those of the first and last probe that none recorded."""
        return [name for name in names if name not in ENDS or self.holds(name)]

    @property
    def middle(self) -> int:
        """Position in `shots` to start with: the middle one of those measured, or held."""
        for names in ((MEASURED,), SERIES):
            held = [np.isfinite(self.values[name]).any(axis=0) for name in names]
            having = np.flatnonzero(np.any(held, axis=0))
            if having.size:
                return int(having[having.size // 2])
        return len(self.shots) // 2


def few_shot(run: Run, view: View, *, max_probes: int) -> FewShot | None:
    """Gather the few-shot numbers of one view at those probes that hold any; None if none does.

    The run's header names the "shots", and may name "ways" and "target_error". At most `max_probes`
    are kept, thinned evenly.
    """
    shots = sorted({int(m) for m in run.header.get("shots") or ()})
    keys = {f"{view.prefix}/{name}/{m}" for name in SERIES for m in shots}
    having = [i for i, record in enumerate(run.records) if not keys.isdisjoint(record.scalars)]
    if not having:
        return None
    records = [run.records[i] for i in thinned(having, max_probes)]
    held = set().union(*(record.scalars for record in records))
    shots = [m for m in shots if any(f"{view.prefix}/{name}/{m}" in held for name in SERIES)]
    needed = f"{view.prefix}/shots_needed"

    steps, labels = moments(records)

    def by_shots(name: str) -> NDArray[np.float64]:
        return table(records, [f"{view.prefix}/{name}/{m}" for m in shots])

    return FewShot(
        shots=tuple(shots),
        steps=steps,
        labels=labels,
        chance=chance(run.header.get("ways"), len(view.classes)),
        target=float(run.header.get("target_error") or TARGET_ERROR),
        values={name: by_shots(name) for name in SERIES},
        error_se=by_shots(ERROR_SE),
        low=by_shots(LOW),
        high=by_shots(HIGH),
        needed=table(records, [needed])[:, 0],
        asked=needed in records[-1].scalars,
        labels_needed=_labels_needed(run, f"{view.prefix}/labels_needed"),
    )


def _labels_needed(run: Run, prefix: str) -> LabelsNeeded | None:
    keys = {field.name: f"{prefix}/{field.name}" for field in fields(LabelsNeeded)}
    for record in reversed(run.records):
        if not record.scalars.keys().isdisjoint(keys.values()):
            found = {name: record.scalars.get(key, math.nan) for name, key in keys.items()}
            return LabelsNeeded(**found)
    return None
