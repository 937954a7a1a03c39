"""Checks at the public boundary: expected, received, remedy."""

from __future__ import annotations

import torch
from torch import Tensor


def check_features(
    features: Tensor, labels: Tensor, num_classes: int | None, *, sharded: bool = False
) -> int:
    """Check features [N, D] with labels [N] and return the number of classes.

    Raises:
        ValueError: naming what was expected, what came and what to do.
    """
    if features.ndim != 2 or not features.is_floating_point():
        raise ValueError(
            "features must be floating point of shape [N, D], got "
            f"{features.dtype} of shape {list(features.shape)}. Pool or flatten them first."
        )
    check_labels(labels, features.shape[0])
    if sharded and num_classes is None:
        raise ValueError("num_classes is needed with reduce: one shard need not hold every class.")
    if features.shape[0] == 0 and not sharded:
        raise ValueError("features must hold at least one sample, got shape [0, D].")
    # uint16, uint32 and uint64 have neither maximum nor minimum.
    low, high = (int(end) for end in labels.long().aminmax()) if labels.numel() else (0, -1)
    high += 1
    if low < 0:
        raise ValueError(f"labels must be in [0, C), got {low}. Drop unlabelled samples first.")
    classes = high if num_classes is None else num_classes
    if high > classes:
        raise ValueError(
            f"labels must be in [0, {classes}) for num_classes={classes}, got {high - 1}."
        )
    if classes < 2:
        raise ValueError(
            f"pairs of classes need at least two classes, got {classes}. Check the labels."
        )
    return classes


def check_labels(labels: Tensor, expected: int) -> None:
    """Check that `labels` is an integer vector of length `expected`."""
    integer = not labels.is_floating_point() and labels.dtype not in (torch.bool, torch.complex64)
    if labels.ndim != 1 or labels.shape[0] != expected or not integer:
        raise ValueError(
            f"labels must be integers of shape [{expected}], one per sample, got {labels.dtype} of "
            f"shape {list(labels.shape)}. One-hot labels: pass labels.argmax(1)."
        )
