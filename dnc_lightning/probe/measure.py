"""From features to the numbers of a probe."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torchmetrics import Metric

from dnc_lightning.functional import (
    ClassGeometry,
    bound_summary,
    cdnv,
    class_geometry,
    collapse_summary,
    debias,
    directional_cdnv,
    extreme_pairs,
    few_shot_bound,
    population_estimate,
    resolved_pairs,
    variance_decomposition,
)
from dnc_lightning.functional._scale import unit_rows
from dnc_lightning.functional._tiles import Reduce
from dnc_lightning.functional.few_shot import Shard, ncc_errors
from dnc_lightning.functional.summary import population_summary
from dnc_lightning.functional.unbiased import samples_to_resolve
from dnc_lightning.probe.keys import JOINT_CLASSES, possible_shots, task_keys
from dnc_lightning.probe.labels import Task

BUILT_IN = ("collapse", "few_shot", "orthogonality", "variance")

ENOUGH_RESOLVED = 0.9
"""Share of resolved pairs below which a probe asks for more samples."""

EPISODES = 10
"""Few-shot episodes of a probe; each classifies all samples but its supports."""


@dataclass
class Measurement:
    """What one pass over the probe found."""

    scalars: dict[str, float] = field(default_factory=dict)  # key below the prefix -> value
    matrices: dict[str, Tensor] = field(default_factory=dict)  # "cdnv", ... -> [C, C] and others
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Plan:
    """What to compute of every encoder and task."""

    normalize: bool = False  # L2-normalise the features first
    collapse: bool = True  # CDNV and directional CDNV
    few_shot: bool = True  # measured few-shot error and its bounds
    orthogonality: bool = True  # angles between the decision axes of several tasks
    variance: bool = True  # how much of a pair's variance lies on its axis
    metrics: Mapping[str, Metric] = field(default_factory=dict)  # name -> further ones
    shots: Sequence[int] = ()
    ways: int | None = None

    @classmethod
    def build(
        cls,
        metrics: Sequence[str | Metric] | None,
        normalize: bool,
        shots: Sequence[int],
        ways: int | None,
    ) -> Plan:
        """Sort the metrics of a probe into built-in and further ones."""
        names = BUILT_IN if metrics is None else [m for m in metrics if isinstance(m, str)]
        further = {type(m).__name__: m for m in metrics or () if isinstance(m, Metric)}
        collapse, few_shot, orthogonality, variance = (metric in names for metric in BUILT_IN)
        return cls(normalize, collapse, few_shot, orthogonality, variance, further, shots, ways)


def measure(
    features: Tensor,
    labels: Tensor,
    task: Task,
    plan: Plan,
    shard: Shard | None,
    *,
    thorough: bool = False,
) -> Measurement:
    """Compute every metric of one encoder and task.

    Args:
        features: [n, D], this process's shard.
        labels: [n] of the same samples.
        task: Names the C classes.
        plan: What to compute.
        shard: Where the samples stand among those of all processes; None for one process.
        thorough: Also what takes longer than all the rest: intervals for the population, and the
            joint certificate of tasks of up to `JOINT_CLASSES` classes.

    Returns:
        Scalars, matrices and warnings; every scalar is nan when a feature is not finite, and those
        of a further metric when it fails.
    """
    everyone = labels if shard is None else shard.labels
    counts = torch.bincount(everyone, minlength=len(task.classes)).tolist()
    keys = task_keys(plan, counts, thorough=thorough)
    found = Measurement(dict.fromkeys(keys, float("nan")))
    reduce = None if shard is None else shard.reduce
    broken = (~features.isfinite().all(1)).sum()
    if reduce is not None:
        broken = reduce(broken)
    if int(broken):
        found.warnings.append(
            f"{int(broken)} of {len(everyone)} feature vectors hold nan or infinity: their metrics "
            "are nan. Is the encoder diverging?"
        )
        return found
    if plan.normalize:
        features = unit_rows(features)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if plan.collapse or plan.few_shot or plan.variance:
            _built_in(found, features, labels, task, plan, shard, thorough)
        for name, metric in plan.metrics.items():
            _further(found, name, metric, features, labels, reduce)
    found.warnings.extend(str(warning.message) for warning in caught)
    return found


def _built_in(
    found: Measurement,
    features: Tensor,
    labels: Tensor,
    task: Task,
    plan: Plan,
    shard: Shard | None,
    thorough: bool,
) -> None:
    reduce = None if shard is None else shard.reduce
    classes = len(task.classes)
    joint = thorough and plan.few_shot and classes <= JOINT_CLASSES
    geometry = class_geometry(features, labels, num_classes=classes, joint=joint, reduce=reduce)
    several = int(geometry.count.min()) > 1
    scalars: dict[str, Tensor] = {}
    if plan.collapse:
        scalars |= collapse_summary(geometry)
        found.matrices["cdnv"] = cdnv(geometry)
        found.matrices["directional_cdnv"] = directional_cdnv(geometry)
        found.matrices["class_variance"] = geometry.variance  # with CDNV it gives the distances
        found.notes.extend(_advice(geometry))
    if plan.variance:
        _decompose(found, scalars, features, labels, geometry, shard)
    shots = plan.shots if plan.few_shot else ()
    if plan.few_shot:
        scalars |= bound_summary(geometry, shots, plan.ways)
        if joint:
            for m in shots:
                bound = few_shot_bound(geometry, m, kind="joint", ways=plan.ways)
                scalars[f"joint/{m}"] = bound if several else bound * torch.nan
        if possible := possible_shots(shots, geometry.count.tolist()):
            mean, error = ncc_errors(
                features,
                labels,
                shots=possible,
                ways=plan.ways,
                episodes=EPISODES,
                shard=shard,
            )
            for s, m in enumerate(possible):
                scalars[f"few_shot_error/{m}"] = mean[s]
                scalars[f"few_shot_error_se/{m}"] = error[s]
    if thorough:
        names, statistic = population_summary(shots, plan.ways)
        estimate = population_estimate(
            features, labels, statistic, num_classes=classes, reduce=reduce, geometry=geometry
        )
        for k, name in enumerate(names):
            scalars[name.format("low")] = estimate.low[k]
            scalars[name.format("high")] = estimate.high[k]
    if not scalars:
        return
    # One transfer from the device for all numbers.
    values = torch.stack([value.to(torch.float64) for value in scalars.values()]).tolist()
    found.scalars.update(zip(scalars, values, strict=True))


def _decompose(
    found: Measurement,
    scalars: dict[str, Tensor],
    features: Tensor,
    labels: Tensor,
    geometry: ClassGeometry,
    shard: Shard | None,
) -> None:
    """Split the variance of the best, median and worst pair; in units of their distance^2."""
    chosen = extreme_pairs(geometry)
    if not chosen:
        return
    distinct = list(dict.fromkeys(chosen.values()))
    split = variance_decomposition(features, labels, pairs=distinct, shard=shard)
    for name, pair in chosen.items():
        k = distinct.index(pair)
        scalars[f"axis_share/{name}"] = split.on_axis[k] / split.total[k]
    a, b = split.pairs.T
    parts = torch.cat([split.on_axis[:, None], split.orthogonal_top, split.orthogonal[:, None]], 1)
    found.matrices["variance"] = parts / geometry.distance2[a, b][:, None]
    found.matrices["variance_pairs"] = split.pairs


def _advice(geometry: ClassGeometry) -> list[str]:
    """Say so when the probe is too small to tell its classes apart."""
    if int(geometry.count.min()) == 1:
        return [
            "classes with one sample have no variance: CDNV and the bounds are nan. Take "
            "per_class=2 at least; unbiased values need 4, and about 100 resolve most pairs."
        ]
    estimate = debias(geometry)
    share = float(resolved_pairs(estimate))
    if share >= ENOUGH_RESOLVED:
        return []
    needed, smallest = samples_to_resolve(estimate, ENOUGH_RESOLVED), int(geometry.count.min())
    more = "no number of samples can be named yet" if needed is None else f"about {needed} would"
    return [
        f"per_class={smallest} cannot resolve {1 - share:.0%} of the pairs: the distances of their "
        f"means are within sampling noise, and unbiased values leave them out; {more}."
    ]


def _further(
    found: Measurement,
    name: str,
    metric: Metric,
    features: Tensor,
    labels: Tensor,
    reduce: Reduce | None,
) -> None:
    """Compute a metric that is not built in; its keys become its name, or those of its mapping."""
    fresh, failure = metric.clone().to(features.device), None
    try:
        if len(features):
            fresh.update(features, labels)
    except Exception as error:
        failure = repr(error)
    # `compute` waits for all processes: where one has failed, none may enter it.
    failed = torch.tensor(float(failure is not None), device=features.device)
    if int(failed if reduce is None else reduce(failed)):
        failure = failure or "it failed on another rank"
    else:
        try:
            value = fresh.compute()
            values = value if isinstance(value, Mapping) else {name: value}
            del found.scalars[name]
            found.scalars.update(
                (key, float(item))
                for key, item in values.items()
                if torch.as_tensor(item).numel() == 1
            )
        except Exception as error:
            failure = repr(error)
    if failure:
        found.scalars.setdefault(name, float("nan"))
        found.warnings.append(f"Metric {name} failed and is nan: {failure}.")


def check_metrics(metrics: Sequence[str | Metric] | None) -> None:
    """Check names and types of the metrics of a probe.

    Raises:
        ValueError: an unknown name, something else than a metric, or a name given twice.
    """
    if isinstance(metrics, str):
        raise ValueError(f"metrics must be a sequence, got {metrics!r}. Write [{metrics!r}].")
    names = []
    for metric in metrics or ():
        if isinstance(metric, str) and metric not in BUILT_IN:
            raise ValueError(f"metric {metric!r} is not built in; there is {', '.join(BUILT_IN)}.")
        if not isinstance(metric, str | Metric):
            raise ValueError(
                "metrics must be names or torchmetrics.Metric objects, got "
                f"{type(metric).__name__}."
            )
        names.append(metric if isinstance(metric, str) else type(metric).__name__)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"metrics name {', '.join(twice)} twice. Keep one of each.")
