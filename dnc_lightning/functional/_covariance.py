"""The covariance within classes, of which all count alike."""

from __future__ import annotations

import torch
from torch import Tensor

from dnc_lightning.functional._tiles import Reduce

BLOCK = 2**23
"""Numbers of a block of samples that are held at once, in float64."""


def within_covariance(
    features: Tensor,
    labels: Tensor,
    mean: Tensor,
    count: Tensor,
    *,
    chosen: Tensor | None = None,
    reduce: Reduce | None = None,
) -> Tensor:
    """Mean over classes of their covariances [D, D], as wide as `mean`.

    Args:
        features: [n, D], of this shard.
        labels: [n], integers in [0, K).
        mean: [K, D].
        count: [K] samples that the means are of, of all shards.
        chosen: [n] bool, which samples these are; None for all.
        reduce: Sums over all shards.
    """
    d = features.shape[1]
    every = torch.arange(len(features), device=features.device)
    rows = every if chosen is None else every[chosen]
    weight = 1 / (len(mean) * count.to(mean).clamp(min=1))
    found = mean.new_zeros(d, d)
    for some in torch.split(rows, max(1, BLOCK // d)):
        residual = features[some].to(mean) - mean[labels[some]]
        found += residual.T @ (residual * weight[labels[some], None])
    return found if reduce is None else reduce(found)
