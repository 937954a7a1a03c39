"""The numbers of a run, or of the seeds of a method, that a line of a table holds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dnc_lightning.records.store import Run
from dnc_lightning.reporting.compare_runs import Method, Named
from dnc_lightning.reporting.read.few_shot import LabelsNeeded, Series, few_shot
from dnc_lightning.reporting.read.views import AVERAGES, METRICS, View

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Band:
    """Seeds of one method over steps or shots: their mean and their extremes."""

    x: tuple[float, ...]  # [K]
    mean: Values  # [K], nan where no seed has a value
    low: Values  # [K] the lowest seed
    high: Values  # [K] the highest seed


@dataclass(frozen=True)
class Fall:
    """One quantity of one run from its first probe to its last; nan where undefined."""

    first: float
    last: float

    @property
    def factor(self) -> float:
        """How many times smaller it became; nan where that means nothing."""
        return self.first / self.last if self.first > 0 and self.last > 0 else math.nan


@dataclass(frozen=True)
class Numbers:
    """What a table says of one encoder and one task of a run."""

    view: View
    cdnv: Fall
    directional_cdnv: Fall
    shots: tuple[int, ...]  # [M]
    certificate: Values  # [M] at the last probe, nan where absent
    error: Values  # [M]
    error_se: Values  # [M]
    middle: int  # position in `shots` to show; -1 where there are none
    needed: float  # shots for the target error; nan where none suffice or none were asked for
    target: float
    labels_needed: LabelsNeeded | None  # at the last probe that asked

    @property
    def ratio(self) -> float:
        """How many times further directional CDNV fell than CDNV."""
        return self.directional_cdnv.factor / self.cdnv.factor


def numbers(run: Run, view: View, average: str = "mean") -> Numbers:
    """Gather the numbers of one encoder and task of a run with at least one record.

    Args:
        run: The run.
        view: Encoder and task.
        average: A key of `AVERAGES`.
    """
    first, last = run.records[0].scalars, run.records[-1].scalars
    keys = [f"{view.prefix}/{metric}{AVERAGES[average]}" for metric in METRICS]
    cdnv, directional = (Fall(first.get(k, math.nan), last.get(k, math.nan)) for k in keys)
    found = few_shot(run, view, max_probes=2)
    nothing = np.zeros(0)
    return Numbers(
        view=view,
        cdnv=cdnv,
        directional_cdnv=directional,
        shots=() if found is None else found.shots,
        certificate=nothing if found is None else found.values["certificate"][-1],
        error=nothing if found is None else found.values["few_shot_error"][-1],
        error_se=nothing if found is None else found.error_se[-1],
        middle=-1 if found is None else found.middle,
        needed=math.nan if found is None else float(found.needed[-1]),
        target=math.nan if found is None else found.target,
        labels_needed=None if found is None else found.labels_needed,
    )


def overhead(run: Run) -> float:
    """Return the part of the wall time that probing took; nan where unknown."""
    last = run.records[-1].scalars
    return next((v for key, v in last.items() if key.endswith("/overhead")), math.nan)


def orthogonality(run: Run, encoder: str) -> tuple[NDArray[np.int64], Values, float]:
    """Return steps [K], |cos| averaged over all two tasks [K], and what chance gives, or nan."""
    tasks = run.header.get("prefixes", {}).get(encoder) or {}
    if not tasks:
        return np.zeros(0, np.int64), np.zeros(0), math.nan
    start = f"{next(iter(tasks.values())).rsplit('/', 1)[0]}/orthogonality/"
    steps, means, floor = [], [], math.nan
    for record in run.records:
        values = [
            value
            for key, value in record.scalars.items()
            if key.startswith(start) and key.endswith("/abs_cos") and math.isfinite(value)
        ]
        if values:
            steps.append(record.step)
            means.append(sum(values) / len(values))
            floor = record.scalars.get(f"{start}floor", math.nan)
    return np.array(steps, np.int64), np.array(means), floor


def over_training(runs: Sequence[Named], key: str) -> Band:
    """Average one scalar of several seeds over training, by the geometric mean."""
    return band([finite(*named.run.series(key)) for named in runs], geometric=True)


def over_shots(method: Method, task: str, series: Series) -> Band:
    """Average an error or bound at the last probe of several seeds against shots."""
    view = method.view(task)
    found = [few_shot(n.run, view, max_probes=2) for n in method.runs] if view is not None else []
    curves = [(np.array(f.shots), f.values[series][-1]) for f in found if f is not None]
    return band([finite(*curve) for curve in curves], geometric=False)


def band(curves: Sequence[tuple[NDArray[np.int64], Values]], *, geometric: bool) -> Band:
    """Average curves, each interpolated to the positions of all of them.

    A schedule that is stretched to save time probes each seed at steps of its own. The band covers
    what every seed covers; nothing is extrapolated.

    Args:
        curves: Rising positions [Ki] and finite values [Ki] of each seed; empty ones are left out.
        geometric: Average and interpolate the logarithms of the values.

    Returns:
        The positions common to all, empty if there are none.
    """
    if geometric:
        curves = [(x[y > 0], np.log(y[y > 0])) for x, y in curves]
    curves = [(x, y) for x, y in curves if len(x)]
    if not curves:
        return Band((), np.zeros(0), np.zeros(0), np.zeros(0))
    first, last = max(x[0] for x, _ in curves), min(x[-1] for x, _ in curves)
    every = np.unique(np.concatenate([x for x, _ in curves]))
    at = every[(every >= first) & (every <= last)]
    stack = np.stack([np.interp(np.log1p(at), np.log1p(x), y) for x, y in curves])
    middle, low, high = stack.mean(axis=0), stack.min(axis=0), stack.max(axis=0)
    if geometric:
        middle, low, high = np.exp(middle), np.exp(low), np.exp(high)
    return Band(tuple(at.tolist()), middle, low, high)


def geometric_mean(values: Sequence[float]) -> float:
    """Return the geometric mean of those values that are positive; nan if none is."""
    logs = [math.log(v) for v in values if math.isfinite(v) and v > 0]
    return math.exp(sum(logs) / len(logs)) if logs else math.nan


def plain_mean(values: Sequence[float]) -> float:
    """Return the mean of those values that are finite; nan if none is."""
    finite = [v for v in values if math.isfinite(v)]
    return sum(finite) / len(finite) if finite else math.nan


def finite(x: NDArray[np.int64], y: Values) -> tuple[NDArray[np.int64], Values]:
    """Leave out the positions where a curve is undefined."""
    kept = np.isfinite(y)
    return x[kept], y[kept]
