"""CDNV and directional CDNV as a torchmetrics metric."""

from __future__ import annotations

from torch import Tensor

from dnc_lightning.functional import class_geometry, collapse_summary
from dnc_lightning.metrics.base import FeatureMetric


class DirectionalCollapse(FeatureMetric):
    """CDNV and directional CDNV of labelled features, averaged over pairs of classes.

    Accumulates features [N, D] and labels [N]; `compute` returns the scalars of
    `functional.collapse_summary`. For the arguments see `FeatureMetric`.

    Examples:
        >>> metric = DirectionalCollapse(num_classes=3)
        >>> metric.update(torch.randn(60, 8), torch.arange(60) % 3)
        >>> sorted(metric.compute())[:2]
        ['cdnv', 'cdnv_median']
    """

    def compute(self) -> dict[str, Tensor]:
        """Return name -> scalar, float32 on the metric's device."""
        features, labels, classes = self.seen()
        reduce = self._sum if self._sharded else None
        geometry = class_geometry(features, labels, num_classes=classes, reduce=reduce)
        return {name: value.float() for name, value in collapse_summary(geometry).items()}
