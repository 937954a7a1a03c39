"""Any torchmetrics.Metric of features and labels as an instrument."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torchmetrics import Metric

from dnc_lightning.probe.bench import Bench
from dnc_lightning.probe.instrument import Found
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
        fresh, failure = self.metric.clone().to(bench.features.device), None
        try:
            if len(bench.features):
                fresh.update(bench.features, bench.labels)
        except Exception as error:
            failure = repr(error)
        # `compute` waits for all processes: where one has failed, none may enter it.
        failed = torch.tensor(float(failure is not None), device=bench.features.device)
        if int(bench.total(failed)):
            return self._failed(failure or "it failed on another rank")
        try:
            value = fresh.compute()
            if not isinstance(value, Mapping):
                value = {self.name: value}
            numbers = {
                key: float(item)
                for key, item in value.items()
                if torch.as_tensor(item).numel() == 1
            }
        except Exception as error:
            return self._failed(repr(error))
        return Found(instead=numbers)

    def _failed(self, reason: str) -> Found:
        return Found(warnings=[f"Metric {self.name} failed and is nan: {reason}."])


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
