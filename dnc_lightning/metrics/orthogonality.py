"""Orthogonality of the decision axes of several tasks as a torchmetrics metric."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from dnc_lightning.functional import orthogonality_summary
from dnc_lightning.functional.orthogonality import check_tasks
from dnc_lightning.metrics.base import FeatureMetric


class TaskOrthogonality(FeatureMetric):
    """How far the decision axes of several tasks are from orthogonal, beside bound and floor.

    Accumulates features [N, D] and the labels [N] of every task; `compute` returns the scalars of
    `functional.orthogonality_summary`. A process without samples updates with features [0, D] and
    empty labels of every task.

    Args:
        num_classes: Task -> number of classes; default the largest label seen + 1.
        normalize: See `FeatureMetric`.
        kwargs: For `torchmetrics.Metric`.

    Examples:
        >>> metric = TaskOrthogonality()
        >>> labels = {"shape": torch.arange(60) % 2, "colour": torch.arange(60) % 3}
        >>> metric.update(torch.randn(60, 8), labels)
        >>> sorted(metric.compute())[-1]
        'shape-colour/dependence'
    """

    def __init__(
        self,
        num_classes: Mapping[str, int] | None = None,
        normalize: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(None, normalize, **kwargs)
        self.task_classes = num_classes
        self.tasks: tuple[str, ...] = ()

    def update(  # type: ignore[override]  # labels of several tasks instead of one
        self, features: Tensor, labels: Mapping[str, Tensor]
    ) -> None:
        """Add features [N, D], floating point, with task -> labels [N], integers in [0, C).

        The first update names the tasks for good, also after a reset.

        Raises:
            ValueError: fewer than two tasks, other tasks than before, features or labels of the
                wrong shape, type or range; the task is named.
        """
        check_tasks(features, labels, self.task_classes)
        if self.tasks and set(labels) != set(self.tasks):
            raise ValueError(
                f"labels must be of the tasks {list(self.tasks)} of the first update, got "
                f"{list(labels)}. Use a metric for each set of tasks."
            )
        self.tasks = self.tasks or tuple(labels)
        self.features.append(features.detach())
        columns = [labels[task].detach().long().to(features.device) for task in self.tasks]
        self.labels.append(torch.stack(columns, 1))

    def compute(self) -> dict[str, Tensor]:
        """Return name -> scalar, float32 on the metric's device."""
        features, labels, _ = self.seen()
        found = orthogonality_summary(
            features,
            dict(zip(self.tasks, labels.T, strict=True)),
            num_classes=self._classes(labels),
            matrices=False,
            reduce=self._sum if self._sharded else None,
        )
        return {name: value.float() for name, value in found.scalars.items()}

    def _classes(self, labels: Tensor) -> dict[str, int]:
        """Number of classes of each task on all processes."""
        largest = labels.new_full((len(self.tasks),), -1)
        if len(labels):
            largest = labels.amax(0)
        if self._sharded:
            dist.all_reduce(largest, op=dist.ReduceOp.MAX, group=self.process_group)
        found = dict(zip(self.tasks, (largest + 1).tolist(), strict=True))
        return found | dict(self.task_classes or {})
