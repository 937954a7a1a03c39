"""What a report shows of a run: curves and pair matrices of one encoder and one task."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnc_lightning.records.archives import ReadMatrix, read_one
from dnc_lightning.records.store import Record, Run
from dnc_lightning.reporting.theme import Metric

METRICS: tuple[Metric, Metric] = ("cdnv", "directional_cdnv")
AVERAGES = {"mean": "", "median": "_median", "unbiased": "_unbiased"}  # name -> key suffix
SMALLEST_SPAN = 0.3  # decades of a colour scale: less would blow rounding up into a picture
WORST_PAIRS = 10  # rows of a page's table
UNDEFINED, ZERO, LOWEST, HIGHEST = 0, 1, 2, 65535  # codes of a quantised matrix


@dataclass(frozen=True)
class View:
    """One encoder and one task of a run."""

    encoder: str
    task: str
    prefix: str  # of its scalar keys
    classes: tuple[str, ...]  # names, [C]


@dataclass(frozen=True)
class Curves:
    """CDNV and directional CDNV over training, by one way of averaging over the pairs."""

    steps: NDArray[np.int64]  # [K]
    labels: tuple[str, ...]  # [K] "step 12 · epoch 0 · 33 s"
    cdnv: NDArray[np.float64]  # [K]
    directional_cdnv: NDArray[np.float64]  # [K]
    uncalibrated: tuple[int, float, float] | None  # step, CDNV, directional, before calibration


@dataclass(frozen=True)
class PairStack:
    """The pair matrices of K probes, log-quantised to 16 bits a value.

    Code 0 is undefined, 1 is zero, and 2 to 65,535 are evenly spaced in log10 between the bounds:
    over six decades a value is off by at most 0.02 %.
    """

    positions: tuple[int, ...]  # [K] indices into the run's records
    chosen: tuple[int, ...]  # [C'] indices of the classes that are kept
    codes: dict[Metric, NDArray[np.uint16]]  # each [K, C', C']
    bounds: dict[Metric, tuple[float, float]]  # log10 of the smallest and largest positive value

    def values(self, metric: Metric, at: Any) -> NDArray[np.float64]:
        """Return what the codes at an index say, nan where undefined."""
        codes, (low, high) = self.codes[metric][at].astype(np.float64), self.bounds[metric]
        logs = low + (codes - LOWEST) / (HIGHEST - LOWEST) * (high - low)
        return np.select([codes == UNDEFINED, codes == ZERO], [np.nan, 0.0], 10.0**logs)

    def worst(self, at: int, count: int = WORST_PAIRS) -> list[tuple[int, int]]:
        """Return the ordered pairs of largest directional CDNV, as places in `chosen`."""
        codes = self.codes["directional_cdnv"][at].astype(np.int64)
        np.fill_diagonal(codes, UNDEFINED)
        flat = codes.ravel()
        least = np.partition(flat, -count)[-count] if count < len(flat) else UNDEFINED
        large = np.flatnonzero((flat >= least) & (flat != UNDEFINED))
        order = large[np.argsort(-flat[large], kind="stable")][:count]
        rows, columns = np.unravel_index(order, codes.shape)
        return list(zip(rows.tolist(), columns.tolist(), strict=True))


def views(run: Run) -> list[View]:
    """Return every encoder and task of a run, in the header's order."""
    tasks = run.header.get("tasks", {})
    return [
        View(encoder, task, prefix, tuple(str(name) for name in tasks.get(task) or ()))
        for encoder, prefixes in run.header.get("prefixes", {}).items()
        for task, prefix in prefixes.items()
    ]


def recorded_averages(run: Run, view: View) -> list[str]:
    """Return the keys of `AVERAGES` that some record of the run holds."""
    held = {key for record in run.records for key in record.scalars}
    prefixes = [f"{view.prefix}/{metric}" for metric in METRICS]
    return [name for name, suffix in AVERAGES.items() if any(p + suffix in held for p in prefixes)]


def curves(run: Run, view: View, average: str) -> Curves:
    """Gather one view's curves by a key of `AVERAGES`, nan where a record lacks the value."""
    keys = [f"{view.prefix}/{metric}{AVERAGES[average]}" for metric in METRICS]
    before = next((record for record in run.records if keys[0] in record.uncalibrated), None)
    steps, labels = moments(run.records)
    cdnv, directional = table(run.records, keys).T
    uncalibrated = None
    if before is not None:
        first, second = (before.uncalibrated.get(key, math.nan) for key in keys)
        uncalibrated = before.step, first, second
    return Curves(steps, labels, cdnv, directional, uncalibrated)


def table(records: Sequence[Record], keys: Sequence[str]) -> NDArray[np.float64]:
    """Return numbers by record and key, [K, keys], nan where a record lacks one."""
    rows = [[record.scalars.get(key, math.nan) for key in keys] for record in records]
    return np.array(rows, dtype=np.float64).reshape(len(records), len(keys))


def moments(records: Sequence[Record]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return the steps of probes, and when they ran in words."""
    steps = np.array([record.step for record in records], dtype=np.int64)
    return steps, tuple(moment(record) for record in records)


def moment(record: Record) -> str:
    """Return when a probe ran, "step 12 · epoch 0 · 33 s"."""
    parts = [f"step {record.step:,}", f"epoch {record.epoch}"]
    return " · ".join([*parts, duration(record.time)] if math.isfinite(record.time) else parts)


def duration(seconds: float) -> str:
    """Return a time span in the unit that suits it: "0.4 s", "33 s", "12 min", "5.2 h"."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def pair_stack(
    run: Run,
    view: View,
    *,
    max_values: int,
    max_classes: int,
    read_matrix: ReadMatrix | None = None,
) -> PairStack | None:
    """Read, thin and quantise the pair matrices of one view; None where no record has any.

    Args:
        run: The run.
        view: Encoder and task.
        max_values: Most matrix entries to keep over all probes and both metrics.
        max_classes: Most classes to keep: those of the worst pairs of the last probe.
        read_matrix: How to read one matrix of a record; default `read_one(run)`.
    """
    having = [i for i, record in enumerate(run.records) if record.matrices is not None]
    matrix_of = read_matrix or read_one(run)

    def pair_at(position: int) -> _Pairs | None:
        return _matrices(matrix_of, run.records[position], view)

    last = next((pair for i in reversed(having) if (pair := pair_at(i))), None)
    if last is None:
        return None
    worst = worst_classes(last.matrices["directional_cdnv"], max_classes)
    chosen = [last.classes[k] for k in worst]
    keep = max(2, max_values // (2 * len(chosen) ** 2))
    read = {
        i: {metric: pair.among(chosen, metric) for metric in METRICS}
        for i in thinned(having, keep)
        if (pair := pair_at(i))
    }
    bounds: dict[Metric, tuple[float, float]] = {}
    codes: dict[Metric, NDArray[np.uint16]] = {}
    for metric in METRICS:
        stack = np.stack([pair[metric] for pair in read.values()])
        bounds[metric] = log_bounds(stack)
        codes[metric] = quantised(stack, bounds[metric])
    return PairStack(tuple(read), tuple(chosen), codes, bounds)


@dataclass(frozen=True)
class _Pairs:
    """The pairs that one record holds: of all classes, or of the worst of many."""

    classes: list[int]  # [K] in rising order
    matrices: dict[Metric, NDArray[np.float32]]  # each [K, K]

    def among(self, chosen: list[int], metric: Metric) -> NDArray[np.float32]:
        """The pairs of the chosen classes, nan where the record lacks one of them."""
        place = {c: k for k, c in enumerate(self.classes)}
        there = [k for k, c in enumerate(chosen) if c in place]
        own = [place[chosen[k]] for k in there]
        out = np.full((len(chosen), len(chosen)), np.nan, dtype=np.float32)
        out[np.ix_(there, there)] = self.matrices[metric][np.ix_(own, own)]
        return out


def _matrices(read_matrix: ReadMatrix, record: Record, view: View) -> _Pairs | None:
    prefix = f"{view.encoder}/{view.task}"
    classes, suffix = list(range(len(view.classes))), ""
    kept = read_matrix(record, f"{prefix}/worst_classes")
    if kept is not None:
        classes, suffix = [int(c) for c in kept.ravel()], "_worst_classes"
    found = {metric: read_matrix(record, f"{prefix}/{metric}{suffix}") for metric in METRICS}
    shape = (len(classes), len(classes))
    named = set(classes) <= set(range(len(view.classes)))
    if not named or any(matrix is None or matrix.shape != shape for matrix in found.values()):
        return None
    return _Pairs(classes, {m: matrix for m, matrix in found.items() if matrix is not None})


def worst_classes(matrix: NDArray[np.floating], count: int) -> list[int]:
    """Return at most `count` classes of the worst pairs of [C, C], rising indices.

    A class counts by the largest entry of its row and column, so the `count // 2` worst pairs keep
    both of their classes.
    """
    filled = np.where(np.isfinite(matrix), matrix, -1.0)
    score = np.maximum(filled.max(axis=0), filled.max(axis=1))
    return sorted(np.argsort(-score, kind="stable")[:count].tolist())


def thinned(items: list[int], count: int) -> list[int]:
    """Keep at most `count` (at least 2) items, evenly spaced, with the first and the last."""
    if len(items) <= count:
        return items
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)]


def log_bounds(values: NDArray[np.floating]) -> tuple[float, float]:
    """Return log10 of the least and greatest positive finite value, at least 0.3 decades apart."""
    positive = values[np.isfinite(values) & (values > 0)]
    if positive.size == 0:
        return -1.0, 1.0
    low, high = math.log10(float(positive.min())), math.log10(float(positive.max()))
    missing = max(0.0, SMALLEST_SPAN - (high - low)) / 2
    return low - missing, high + missing


def quantised(values: NDArray[np.floating], bounds: tuple[float, float]) -> NDArray[np.uint16]:
    """Map values to the 16-bit codes of `PairStack`; any shape in, the same shape out."""
    low, high = bounds
    positive = np.isfinite(values) & (values > 0)
    logs = np.log10(np.where(positive, values, 1.0).astype(np.float64))
    scaled = np.rint(LOWEST + (logs - low) / (high - low) * (HIGHEST - LOWEST))
    codes = np.where(positive, np.clip(scaled, LOWEST, HIGHEST), UNDEFINED)
    return np.where(values == 0, ZERO, codes).astype(np.uint16)


def unique_names(names: Iterable[str]) -> list[str]:
    """Return the names with repeats numbered, "cat", "cat (2)": axis categories must differ."""
    seen: dict[str, int] = {}
    result = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        result.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return result
