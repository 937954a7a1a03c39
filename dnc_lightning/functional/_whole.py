"""All features on every process, for what compares single samples with each other."""

from __future__ import annotations

import torch
from torch import Tensor

from dnc_lightning.functional.few_shot import Shard


def whole(features: Tensor, shard: Shard | None) -> Tensor:
    """Gather the features of all processes, bit for bit, in the order of the whole set.

    Unlike sums of moments this takes the room of all features on every process.

    Args:
        features: [n, D] of this process.
        shard: Where they stand in the whole set; None if they are the whole set.

    Returns:
        [N, D] on the features' device.
    """
    if shard is None:
        return features
    return chosen(features, torch.arange(len(shard.labels)), shard)


def whole_labels(labels: Tensor, shard: Shard | None) -> Tensor:
    """Labels [N] int64 of the whole set, where the labels [n] of this process are."""
    everyone = labels if shard is None else shard.labels.to(labels.device)
    return everyone.long()


def evenly_spaced(samples: int, most: int) -> Tensor:
    """Increasing places of `most` of so many samples; of all where there are fewer."""
    number = min(samples, most)
    return torch.arange(number) * samples // max(number, 1)


def thinned(features: Tensor, most: int, shard: Shard | None) -> tuple[Tensor, Shard | None]:
    """Keep evenly spaced samples of the whole set where it holds more, each where it is.

    Args:
        features: [n, D] of this process.
        most: Samples to keep, of all processes together.
        shard: Where the features stand in the whole set; None if they are it.

    Returns:
        Features [k, D] of this process, and where they stand among those that are kept.
    """
    samples = len(features) if shard is None else len(shard.labels)
    if samples <= most:
        return features, shard
    places = evenly_spaced(samples, most)
    if shard is None:
        return features[places.to(features.device)], None
    at = torch.full((samples,), -1)
    at[places] = torch.arange(most)
    here = at[shard.rows.cpu()]
    kept = features[(here >= 0).to(features.device)]
    return kept, Shard(shard.labels[places.to(shard.labels.device)], here[here >= 0], shard.reduce)


def chosen(features: Tensor, places: Tensor, shard: Shard | None) -> Tensor:
    """Gather some features of all processes, bit for bit.

    Args:
        features: [n, D] of this process.
        places: [M] increasing places in the whole set.
        shard: Where the features stand in it; None if they are it.

    Returns:
        [M, D] on the features' device.
    """
    if shard is None:
        return features[places.to(features.device)]
    at = torch.full((len(shard.labels),), -1)
    at[places] = torch.arange(len(places))
    here = at[shard.rows.cpu()].to(features.device)
    found = features.new_zeros(len(places), features.shape[1])
    found[here[here >= 0]] = features[here >= 0]
    return shard.reduce(found)
