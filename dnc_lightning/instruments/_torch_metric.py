"""Any torchmetrics.Metric of features and labels as an instrument."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torchmetrics import Metric

from dnc_lightning.probe.bench import Bench
from dnc_lightning.probe.instrument import Found
from dnc_lightning.probe.processes import LostError, reason_of
from dnc_lightning.series import FURTHER, Direction, Series


class TorchMetric:
    """Gives what `compute` does: one number under the metric's class name, or those of a mapping.

    What the metric says of its own plot is declared: `higher_is_better`, `plot_lower_bound` and
    `plot_upper_bound`.
    """

    def __init__(self, metric: Metric) -> None:
        self.metric = metric
        self.name = type(metric).__name__
        self.series = (_declaration(self.name, metric),)

    def measure(self, bench: Bench) -> Found:
        """Update a clone with this process's samples, and compute over all processes."""
        attempt = bench.processes.attempt
        try:
            # In two parts: some metrics sum by themselves, and wait for all processes to do so.
            fresh = attempt(partial(self._updated, bench))
            return Found(instead=attempt(partial(self._numbers, fresh)))
        except LostError:
            raise
        except Exception as error:
            return Found(warnings=[f"Metric {self.name} failed and is nan: {reason_of(error)}."])

    def _updated(self, bench: Bench) -> Metric:
        fresh, processes = self.metric.clone().to(bench.features.device), bench.processes
        if processes.size > 1:
            if processes.shards < processes.size and _sums_by_itself(fresh):
                raise ValueError(
                    "it sums over all processes, of which several hold one model together and "
                    "embed the same images. Use the instruments of the same name instead"
                )
            # As the probe's own sums: over the shards of the samples, and with its deadline.
            fresh.process_group = processes.group
            fresh.distributed_available_fn = lambda: True
            fresh.dist_sync_fn = lambda tensor, group=None: processes.gather(tensor)
        if len(bench.features):
            fresh.update(bench.features, bench.labels)
        return fresh

    def _numbers(self, fresh: Metric) -> dict[str, float]:
        value = fresh.compute()
        numbers = value if isinstance(value, Mapping) else {self.name: value}
        return {k: float(v) for k, v in numbers.items() if torch.as_tensor(v).numel() == 1}


def _sums_by_itself(metric: Metric) -> bool:
    return type(metric)._sync_dist is not Metric._sync_dist


def _declaration(name: str, metric: Metric) -> Series:
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    low, high = (_bound(metric, f"plot_{end}_bound") for end in ("lower", "upper"))
    if low is not None and high is not None and not low < high:
        low = high = None
    better: dict[Any, Direction] = {True: "higher", False: "lower"}
    return Series(
        key=name,
        title=words[:1] + words[1:].lower(),
        meaning=(type(metric).__doc__ or "").strip().partition("\n")[0]
        or f"what torchmetrics' {name} computes of features and labels",
        group=FURTHER,
        low=low,
        high=high,
        direction=better.get(metric.higher_is_better),
    )


def _bound(metric: Metric, name: str) -> float | None:
    value = getattr(metric, name, None)
    return None if value is None or not math.isfinite(value) else float(value)
