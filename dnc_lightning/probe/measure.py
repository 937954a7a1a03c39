"""From features to the numbers of a probe."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import normalize as l2_normalize
from torchmetrics import Metric

from dnc_lightning.functional import (
    COLLAPSE_KEYS,
    cdnv,
    class_geometry,
    collapse_summary,
    directional_cdnv,
)
from dnc_lightning.probe.labels import Task

BUILT_IN = ("collapse",)

Reduce = Callable[[Tensor], Tensor]


@dataclass
class Measurement:
    """What one pass over the probe found."""

    scalars: dict[str, float] = field(default_factory=dict)  # key below the prefix -> value
    matrices: dict[str, Tensor] = field(default_factory=dict)  # "cdnv", ... -> [C, C]
    warnings: list[str] = field(default_factory=list)


def measure(
    features: Tensor,
    labels: Tensor,
    task: Task,
    *,
    normalize: bool,
    metrics: Mapping[str, Metric],
    collapse: bool,
    reduce: Reduce | None,
) -> Measurement:
    """Compute every metric of one encoder and task.

    Args:
        features: [n, D], this process's shard.
        labels: [n] of the same samples.
        task: Names the C classes.
        normalize: L2-normalise the features first.
        metrics: Name -> further metrics, fresh, on the features' device.
        collapse: Whether to compute CDNV and directional CDNV.
        reduce: Sums over the shards of all processes.

    Returns:
        Scalars, matrices and warnings; all scalars of the built-in metrics are nan when a
        feature is not finite.
    """
    found = Measurement()
    broken = (~features.isfinite().all(1)).sum()
    total = torch.tensor(len(features), device=features.device)
    if reduce is not None:
        broken, total = reduce(broken), reduce(total)
    if int(broken):
        found.warnings.append(
            f"{int(broken)} of {int(total)} feature vectors hold nan or infinity: their metrics "
            "are skipped. Is the encoder diverging?"
        )
        if collapse:
            found.scalars.update(dict.fromkeys(COLLAPSE_KEYS, float("nan")))
        return found
    if normalize:
        features = l2_normalize(features.float(), dim=1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if collapse:
            classes = len(task.classes)
            geometry = class_geometry(features, labels, num_classes=classes, reduce=reduce)
            names = collapse_summary(geometry)
            values = torch.stack(list(names.values())).tolist()
            found.scalars.update(zip(names, values, strict=True))
            found.matrices["cdnv"] = cdnv(geometry)
            found.matrices["directional_cdnv"] = directional_cdnv(geometry)
        for name, metric in metrics.items():
            try:
                found.scalars.update(_compute(name, metric, features, labels))
            except Exception as error:
                found.warnings.append(f"Metric {name} failed and is skipped: {error!r}.")
    found.warnings.extend(str(warning.message) for warning in caught)
    return found


def _compute(name: str, metric: Metric, features: Tensor, labels: Tensor) -> dict[str, float]:
    if len(features):
        metric.update(features, labels)
    value = metric.compute()
    values = value if isinstance(value, Mapping) else {name: value}
    return {key: float(item) for key, item in values.items() if torch.as_tensor(item).numel() == 1}


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


def split_metrics(metrics: Sequence[str | Metric] | None) -> tuple[bool, dict[str, Metric]]:
    """Whether "collapse" is asked for, and the further metrics by class name."""
    if metrics is None:
        return True, {}
    further = {type(metric).__name__: metric for metric in metrics if isinstance(metric, Metric)}
    return any(isinstance(name, str) for name in metrics), further
