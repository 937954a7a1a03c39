"""State that stays on its process: features and labels of one shard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat
from torchmetrics.utilities.plot import _AX_TYPE, _PLOT_OUT_TYPE

from dnc_lightning.functional._checks import check_features
from dnc_lightning.functional._scale import unit_rows


class FeatureMetric(Metric):
    """A metric of all features [N, D] and labels [N] seen so far.

    Under distributed data parallel nothing is gathered: `compute` sums per-class moments over the
    processes, so that uneven shards count each sample once. A process without samples updates with
    features [0, D].

    Args:
        num_classes: C; default the largest label seen + 1.
        normalize: L2-normalise features first, as in the training curves of arXiv:2603.03530
            (its bounds use raw features).
        kwargs: For `torchmetrics.Metric`.
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False

    features: list[Tensor]
    labels: list[Tensor]

    def __init__(
        self, num_classes: int | None = None, normalize: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.normalize = normalize
        self.add_state("features", [], dist_reduce_fx=None)
        self.add_state("labels", [], dist_reduce_fx=None)
        self._sharded = False

    def update(self, features: Tensor, labels: Tensor) -> None:
        """Add features [N, D], floating point, with labels [N], integers in [0, C).

        Raises:
            ValueError: features or labels of the wrong shape, type or range.
        """
        if len(labels):
            check_features(features, labels, self.num_classes or int(labels.long().max()) + 2)
        self.features.append(features.detach())
        self.labels.append(labels.detach().long())

    def plot(
        self,
        val: dict[str, Tensor] | Sequence[dict[str, Tensor]] | None = None,
        ax: _AX_TYPE | None = None,
    ) -> _PLOT_OUT_TYPE:
        """Plot one computed value, or a sequence of them over time (needs matplotlib)."""
        return self._plot(val, ax)

    def seen(self) -> tuple[Tensor, Tensor, int]:
        """Features [N, D] and labels [N] of this process, and the number of classes of all."""
        features, labels = dim_zero_cat(self.features), dim_zero_cat(self.labels)
        if self.normalize:
            features = unit_rows(features)
        return features, labels, self.num_classes or self._largest(labels) + 1

    def _sync_dist(self, dist_sync_fn: Any = None, process_group: Any | None = None) -> None:
        """Mark the state as one shard of many instead of gathering it."""
        self._sharded = True

    def unsync(self, should_unsync: bool = True) -> None:
        """Go back to this process's samples alone."""
        super().unsync(should_unsync)
        if should_unsync:
            self._sharded = False

    def _sum(self, tensor: Tensor) -> Tensor:
        tensor = tensor.contiguous()
        dist.all_reduce(tensor, group=self.process_group)
        return tensor

    def _largest(self, labels: Tensor) -> int:
        largest = labels.max() if len(labels) else torch.tensor(-1, device=labels.device)
        if self._sharded:
            dist.all_reduce(largest, op=dist.ReduceOp.MAX, group=self.process_group)
        return int(largest)
