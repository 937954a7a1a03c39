"""All features on every process, for what compares single samples with each other."""

from __future__ import annotations

from torch import Tensor

from dnc_lightning.functional.few_shot import Shard


def whole(features: Tensor, labels: Tensor, shard: Shard | None) -> tuple[Tensor, Tensor]:
    """Gather the features of all processes, bit for bit, in the order of the whole set.

    Unlike sums of moments this takes the room of all features on every process.

    Args:
        features: [n, D] of this process.
        labels: [n] of the same.
        shard: Where they stand in the whole set; None if they are the whole set.

    Returns:
        Features [N, D] and labels [N] int64 on the features' device.
    """
    if shard is None:
        return features, labels.long()
    everyone = features.new_zeros(len(shard.labels), features.shape[1])
    everyone[shard.rows.to(features.device)] = features
    return shard.reduce(everyone), shard.labels.to(features.device).long()
