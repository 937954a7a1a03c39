"""How often predictions are right: over samples, over classes, and by class."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dnc_lightning.functional._tiles import Reduce, wide


@dataclass(frozen=True)
class Accuracy:
    """Of predictions for samples of C classes."""

    top1: Tensor  # scalar, share of samples that are right
    top1_error: Tensor  # scalar, its standard error, as of independent samples
    balanced: Tensor  # scalar, mean over the classes that have samples
    balanced_error: Tensor  # scalar, its standard error
    per_class: Tensor  # [C]; nan for a class without samples


def accuracy(
    predicted: Tensor, labels: Tensor, num_classes: int, *, reduce: Reduce | None = None
) -> Accuracy:
    """Count predictions [n] that equal labels [n]; `reduce` sums over the processes.

    The standard errors are those of a fixed classifier on independent samples: they leave out that
    another training set would have given another classifier.
    """
    hits = torch.zeros(2, num_classes, dtype=wide(labels.device), device=labels.device)
    hits[0].index_add_(0, labels, (predicted == labels).to(hits.dtype))
    hits[1].index_add_(0, labels, torch.ones_like(labels, dtype=hits.dtype))
    right, count = hits if reduce is None else reduce(hits)
    top1, per_class = right.sum() / count.sum(), right / count
    present = count > 0
    own = (per_class * (1 - per_class) / count).where(present, 0.0)
    return Accuracy(
        top1=top1,
        top1_error=(top1 * (1 - top1) / count.sum()).sqrt(),
        balanced=per_class.nanmean(),
        balanced_error=own.sum().sqrt() / present.sum(),
        per_class=per_class,
    )
