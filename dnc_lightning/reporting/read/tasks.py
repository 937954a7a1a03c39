"""What a report shows of several tasks: angles between them, their curves, where variance goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from dnc_lightning.records.archives import ReadMatrix, read_one
from dnc_lightning.records.store import Record, Run
from dnc_lightning.reporting.read.views import (
    AVERAGES,
    METRICS,
    View,
    moments,
    recorded_averages,
    table,
    thinned,
    unique_names,
)
from dnc_lightning.reporting.theme import Metric

# Stand in the keys where else the task does
ACROSS = "orthogonality"
FEATURES = "features"
PARTS = ("On the axis", "Widest", "Next 9", "Next 90", "Rest")  # the latter orthogonal to it
EXTREMES = ("best", "median", "worst")

Table = NDArray[np.float64]


@dataclass(frozen=True)
class TaskPairs:
    """T tasks of one encoder and their P pairs, over K probes."""

    encoder: str
    tasks: tuple[str, ...]  # [T] names
    pairs: tuple[tuple[int, int], ...]  # [P] a < b, by rows of the upper triangle
    steps: NDArray[np.int64]  # [K]
    labels: tuple[str, ...]  # [K] "step 12 · epoch 0 · 33 s"
    abs_cos: Table  # [K, P] mean |cos| of all pairs of axes, nan where absent
    largest: Table  # [K, P] the largest of them
    bound: Table  # [K, P] mean of the bounds on them
    dependence: Table  # [P] of the labels, at the last probe that holds it
    floor: float  # |cos| of two random directions, nan where absent
    curves: Mapping[str, Mapping[Metric, Table]]  # average -> metric -> [K, T]


@dataclass(frozen=True)
class VarianceParts:
    """Where the variance of some pairs of classes lies, over squared distance, over K probes."""

    steps: NDArray[np.int64]  # [K]
    labels: tuple[str, ...]  # [K]
    pairs: tuple[tuple[tuple[str, str], ...], ...]  # [K][R] names of the two classes
    parts: tuple[Table, ...]  # [K] of [R, 5]: `PARTS`, in units of the pair's distance^2
    shares: Mapping[str, Table]  # name of `EXTREMES` -> [K] part of the variance on the axis

    def names(self, at: int) -> tuple[str, ...]:
        """Return what the R pairs of a probe are, best first; few pairs may coincide."""
        count = len(self.pairs[at])
        return {1: ("only",), 2: ("best", "worst")}.get(count, EXTREMES)


def task_pairs(run: Run, shown: Sequence[View], *, max_values: int) -> TaskPairs | None:
    """Gather what was recorded of the tasks of one encoder, whose views are `shown`, together.

    At most `max_values` numbers of pairs are kept, of evenly thinned probes. None for one task, or
    where no record has any.
    """
    if len(shown) < 2:
        return None
    tasks = [view.task for view in shown]
    base = f"{shown[0].prefix.removesuffix(tasks[0])}{ACROSS}"
    pairs = list(combinations(range(len(tasks)), 2))
    names = [f"{base}/{tasks[a]}-{tasks[b]}" for a, b in pairs]
    if not any(f"{name}/abs_cos" in r.scalars for r in run.records for name in names):
        return None
    keep = max(2, max_values // (3 * len(pairs)))
    records = [run.records[i] for i in thinned(list(range(len(run.records))), keep)]

    def by_pairs(part: str) -> Table:
        return table(records, [f"{name}/{part}" for name in names])

    averages = [a for a in AVERAGES if any(a in recorded_averages(run, view) for view in shown)]
    steps, labels = moments(records)
    return TaskPairs(
        encoder=shown[0].encoder,
        tasks=tuple(unique_names(tasks)),
        pairs=tuple(pairs),
        steps=steps,
        labels=labels,
        abs_cos=by_pairs("abs_cos"),
        largest=by_pairs("abs_cos_max"),
        bound=by_pairs("bound"),
        dependence=_last(by_pairs("dependence")),
        floor=float(_last(table(records, [f"{base}/floor"]))[0]),
        curves={
            average: {
                metric: table(records, [f"{v.prefix}/{metric}{AVERAGES[average]}" for v in shown])
                for metric in METRICS
            }
            for average in averages
        },
    )


def variance_parts(
    run: Run, view: View, *, max_probes: int, read_matrix: ReadMatrix | None = None
) -> VarianceParts | None:
    """Gather where the variance of a view's best, median and worst pair of classes lies.

    At most `max_probes` of those that hold any are kept, thinned evenly; None if none does.
    `read_matrix` reads one matrix of a record, default `read_one(run)`.
    """
    shares = [f"{view.prefix}/axis_share/{name}" for name in EXTREMES]
    having = [r for r in run.records if r.matrices is not None and shares[0] in r.scalars]
    kept = [having[i] for i in thinned(list(range(len(having))), max_probes)]
    matrix_of = read_matrix or read_one(run)
    read = [(record, found) for record in kept if (found := _read(matrix_of, view, record))]
    if not read:
        return None
    records = [record for record, _ in read]
    values = table(records, shares)
    steps, labels = moments(records)
    return VarianceParts(
        steps=steps,
        labels=labels,
        pairs=tuple(pairs for _, (pairs, _) in read),
        parts=tuple(parts for _, (_, parts) in read),
        shares={name: values[:, k] for k, name in enumerate(EXTREMES)},
    )


def _read(
    read_matrix: ReadMatrix, view: View, record: Record
) -> tuple[tuple[tuple[str, str], ...], Table] | None:
    """Pairs and parts of one record, None where they are missing or do not fit."""
    names = (f"{view.encoder}/{view.task}/{part}" for part in ("variance", "variance_pairs"))
    sums, pairs_of = (read_matrix(record, name) for name in names)
    if sums is None or pairs_of is None:
        return None
    sums, chosen = sums.astype(np.float64), pairs_of.astype(int)
    fits = sums.ndim == 2 and sums.shape[1] == 5 and chosen.shape == (len(sums), 2)
    if not fits or not len(sums) or chosen.min() < 0 or chosen.max() >= len(view.classes):
        return None
    axis, top, total = sums[:, 0], sums[:, 1:4], sums[:, 4]
    # Sums of the widest 1, 10 and 100 and of all, as steps; rounding may turn them by a hair.
    steps = np.diff(np.column_stack([top, total]), axis=1).clip(min=0)
    pairs = tuple((view.classes[a], view.classes[b]) for a, b in chosen)
    return pairs, np.column_stack([axis, top[:, 0], steps])


def _last(table: Table) -> Table:
    """The last finite value of each column, nan where there is none."""
    finite = np.isfinite(table)
    place = len(table) - 1 - finite[::-1].argmax(axis=0)
    return np.where(finite.any(axis=0), table[place, np.arange(table.shape[1])], np.nan)
