"""Measured few-shot error beside its certificate, as a torchmetrics metric."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from dnc_lightning.functional import bound_summary, class_geometry
from dnc_lightning.functional.few_shot import Shard, ncc_errors
from dnc_lightning.metrics.base import FeatureMetric


class FewShotError(FeatureMetric):
    """Error of the nearest-class-centre classifier with m labels per class, and bounds on it.

    Accumulates features [N, D] and labels [N]. `compute` returns, for every m, the measured
    "few_shot_error/{m}" with its standard error "few_shot_error_se/{m}", and the scalars of
    `functional.bound_summary`.

    Args:
        shots: Labelled samples per class, each at least 1 and below every class's count.
        ways: Classes of an episode, drawn at random; None is all.
        episodes: Random episodes, at least 2.
        seed: Of the episodes.
        num_classes: See `FeatureMetric`.
        normalize: See `FeatureMetric`.
        kwargs: For `torchmetrics.Metric`.

    Raises:
        ValueError: shots < 1; in `compute`, a class with too few samples, or ways > classes.

    Examples:
        >>> metric = FewShotError(shots=(1, 5), num_classes=3)
        >>> metric.update(torch.randn(60, 8), torch.arange(60) % 3)
        >>> 0 <= float(metric.compute()["few_shot_error/5"]) <= 1
        True
    """

    def __init__(
        self,
        shots: Sequence[int] = (1, 5, 10),
        ways: int | None = None,
        episodes: int = 100,
        seed: int = 0,
        num_classes: int | None = None,
        normalize: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_classes, normalize, **kwargs)
        if not shots or any(m < 1 for m in shots):
            raise ValueError(f"shots must be integers of at least 1, got {tuple(shots)}.")
        self.shots = tuple(shots)
        self.ways = ways
        self.episodes = episodes
        self.seed = seed

    def compute(self) -> dict[str, Tensor]:
        """Return name -> scalar, float32 on the metric's device."""
        features, labels, classes = self.seen()
        reduce = self._sum if self._sharded else None
        mean, error = ncc_errors(
            features,
            labels,
            shots=self.shots,
            ways=self.ways,
            episodes=self.episodes,
            generator=torch.Generator().manual_seed(self.seed),
            shard=self._shard(labels) if self._sharded else None,
        )
        geometry = class_geometry(features, labels, num_classes=classes, reduce=reduce)
        found = bound_summary(geometry, self.shots, self.ways)
        for s, m in enumerate(self.shots):
            found |= {f"few_shot_error/{m}": mean[s], f"few_shot_error_se/{m}": error[s]}
        return {name: value.float() for name, value in found.items()}

    def _shard(self, labels: Tensor) -> Shard:
        parts: list[Any] = [None] * dist.get_world_size(self.process_group)
        dist.all_gather_object(parts, labels.cpu(), group=self.process_group)
        rank = dist.get_rank(self.process_group)
        begin = sum(len(part) for part in parts[:rank])
        rows = torch.arange(begin, begin + len(labels))
        return Shard(torch.cat(parts).to(labels.device), rows, self._sum)
