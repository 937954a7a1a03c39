"""The classifier of the k nearest neighbours, as DINO weighs them."""

from __future__ import annotations

import torch
from torch import Tensor

from dnc_lightning.functional._checks import check_features, check_labels
from dnc_lightning.functional._scale import unit_rows
from dnc_lightning.functional._tiles import exact_arithmetic
from dnc_lightning.functional._whole import evenly_spaced, whole, whole_labels
from dnc_lightning.functional.few_shot import Shard
from dnc_lightning.functional.scores import Accuracy, accuracy

CHUNK_ELEMENTS = 2**23
"""Similarities that are held at once, 32 MB in float32."""

NEIGHBOURS = 20
"""k of DINO's evaluation."""

TEMPERATURE = 0.07
"""Of DINO's evaluation."""


def knn_predict(
    queries: Tensor,
    bank: Tensor,
    labels: Tensor,
    *,
    k: int = NEIGHBOURS,
    temperature: float = TEMPERATURE,
    num_classes: int | None = None,
    left_out: Tensor | None = None,
) -> Tensor:
    """Let the k most similar features of a labelled bank vote with exp(cosine / temperature).

    Args:
        queries: [n, D], floating point.
        bank: [N, D].
        labels: [N] of the bank, integers in [0, C).
        k: Neighbours, from 1 to the N samples of the bank, less one if some are left out.
        temperature: Above 0.
        num_classes: C; default the largest label + 1.
        left_out: [n], for each query the row of the bank that has no vote: itself.

    Returns:
        Classes [n]; the first of those with the same number of votes.

    Raises:
        ValueError: k too large for the bank, a temperature that is not above 0, a bank of another
            dimension, or labels that do not fit.
    """
    if bank.ndim != 2 or queries.ndim != 2 or bank.shape[1] != queries.shape[1]:
        raise ValueError(
            f"queries and bank must be of one dimension, got {list(queries.shape)} and "
            f"{list(bank.shape)}. Embed both with the same encoder."
        )
    check_labels(labels, len(bank))
    others = len(bank) - (left_out is not None)
    if not 1 <= k <= others:
        raise ValueError(
            f"k must be between 1 and the {others} samples that may vote, got {k}. Take a smaller "
            "k, or a larger bank."
        )
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}. DINO takes 0.07.")
    labels = labels.long()
    classes = int(labels.max()) + 1 if num_classes is None else num_classes
    found = torch.zeros(len(queries), dtype=torch.long, device=queries.device)
    with exact_arithmetic(bank.device):
        known, queries = unit_rows(bank), unit_rows(queries)
        size = max(1, CHUNK_ELEMENTS // len(known))
        for begin in range(0, len(queries), size):
            rows = slice(begin, begin + size)
            similarity = queries[rows] @ known.T
            if left_out is not None:
                similarity.scatter_(1, left_out[rows, None], -torch.inf)
            nearest, place = similarity.topk(k, dim=1)
            # Relative to the nearest, for its power alone may be beyond the range.
            weight = ((nearest - nearest[:, :1]) / temperature).exp()
            votes = torch.zeros(len(weight), classes, dtype=weight.dtype, device=weight.device)
            found[rows] = votes.scatter_add_(1, labels[place], weight).argmax(1)
    return found


def knn_accuracy(
    features: Tensor,
    labels: Tensor,
    *,
    k: int = NEIGHBOURS,
    temperature: float = TEMPERATURE,
    queries: int | None = None,
    shard: Shard | None = None,
) -> Accuracy:
    """Classify samples by all others, see `knn_predict`.

    Features of all processes are gathered, and each process classifies its own.

    Args:
        features: [n, D], floating point.
        labels: [n], integers in [0, C).
        k: Neighbours, below the number of samples.
        temperature: Above 0.
        queries: Samples that are classified, evenly spaced in the set; None is all, which costs
            the square of their number.
        shard: Where the samples stand in the whole set; None if they are the whole set.

    Returns:
        Of the samples that are classified; with constant features, that of whichever samples come
        first in the set.

    Raises:
        ValueError: as `knn_predict`, fewer than two classes, or queries < 1.

    Examples:
        >>> x = torch.randn(60, 8) + 9 * torch.eye(8)[torch.arange(60) % 3]
        >>> float(knn_accuracy(x, torch.arange(60) % 3, k=5).top1)
        1.0
    """
    everyone = whole_labels(labels, shard)
    classes = int(everyone.max()) + 1 if len(everyone) else 0
    check_features(features, labels, classes, sharded=shard is not None)
    if queries is not None and queries < 1:
        raise ValueError(f"queries must be at least 1, or None for all samples, got {queries}.")
    rows = torch.arange(len(features)) if shard is None else shard.rows.cpu()
    asked = torch.zeros(len(everyone), dtype=torch.bool)
    asked[evenly_spaced(len(everyone), queries or len(everyone))] = True
    here = asked[rows].to(features.device)
    predicted = knn_predict(
        features[here],
        whole(features, shard),
        everyone,
        k=k,
        temperature=temperature,
        num_classes=classes,
        left_out=rows.to(features.device)[here],
    )
    reduce = None if shard is None else shard.reduce
    return accuracy(predicted, labels[here].long(), classes, reduce=reduce)
