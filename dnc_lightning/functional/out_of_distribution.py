"""How known an image is, from features of known classes: scores that need no head."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dnc_lightning.functional._checks import check_features
from dnc_lightning.functional._covariance import within_covariance
from dnc_lightning.functional._tiles import Reduce, exact_arithmetic, wide

PENALTY = 1e-3
"""Of the pooled covariance, in units of the mean variance of a unit."""

BLOCK = 2**22
"""Numbers of a block of samples that are held at once, in float64."""


@dataclass(frozen=True)
class KnownScores:
    """Scores [n], higher where a sample is more like the known ones."""

    neco: Tensor  # share of the centred feature's length on the K - 1 main directions, in [0, 1]
    residual: Tensor  # less its length off them
    mahalanobis: Tensor  # less its distance from the nearest class mean in the pooled metric
    norm: Tensor  # its plain length: a control, which knows nothing of classes


@dataclass(frozen=True)
class KnownClasses:
    """What the scores go by, in float64."""

    centre: Tensor  # [D] unweighted mean of the class means
    axes: Tensor  # [D, K - 1] main directions of the features
    means: Tensor  # [K, D]
    metric: Tensor  # [D, D] root of the inverse of the pooled covariance


def known_classes(
    features: Tensor, labels: Tensor, num_classes: int, *, reduce: Reduce | None = None
) -> KnownClasses:
    """Fit the scores to samples of known classes.

    Args:
        features: [n, D], of this shard.
        labels: [n], integers in [0, K).
        num_classes: K, at least 2 and at most D.
        reduce: Sums over all shards.

    Raises:
        ValueError: what does not fit, or a class without samples.
    """
    check_features(features, labels, num_classes, sharded=True)
    k, d, dtype = num_classes, features.shape[1], wide(features.device)
    if k > d:
        raise ValueError(f"the scores need at most as many classes as dimensions, got {k} and {d}.")
    total = reduce or (lambda tensor: tensor)
    labels = labels.long()
    with exact_arithmetic(features.device):
        count = total(torch.bincount(labels, minlength=k).to(dtype))
        if not bool((count > 0).all()):
            raise ValueError(f"class {int(count.argmin())} has no samples to fit the scores to.")
        sums = torch.zeros(k, d, dtype=dtype, device=features.device)
        for rows in torch.split(torch.arange(len(features), device=features.device), BLOCK // d):
            sums.index_add_(0, labels[rows], features[rows].to(dtype))
        means = total(sums) / count[:, None]
        within = within_covariance(features, labels, means, count, reduce=total)
        centre = means.mean(0)
        between = (means - centre).T @ (means - centre) / k
        axes = torch.linalg.eigh(within + between).eigenvectors[:, -(k - 1) :]
        values, turn = torch.linalg.eigh(within)
        penalty = PENALTY * values.clamp(min=0).mean()
        metric = (turn / (values.clamp(min=0) + penalty).sqrt()) @ turn.T
    return KnownClasses(centre, axes, means, metric)


def known_scores(features: Tensor, known: KnownClasses) -> KnownScores:
    """Score samples, of known classes and others.

    NECO (Ben Ammar et al., arXiv:2310.06823) without the factor of a head's largest logit, and of
    centred features, for else the common mean of features after a ReLU is the first direction. The
    Mahalanobis distance is that of Lee et al., arXiv:1807.03888.

    Args:
        features: [n, D].
        known: From `known_classes`.
    """
    found = []
    size = max(1, BLOCK // (features.shape[1] + len(known.means)))
    with exact_arithmetic(features.device):
        turned = known.means @ known.metric
        for rows in torch.split(features, size):
            plain = rows.to(known.centre)
            x = plain - known.centre
            length = torch.linalg.vector_norm(x, dim=1)
            on = torch.linalg.vector_norm(x @ known.axes, dim=1)
            off = (length.square() - on.square()).clamp(min=0).sqrt()
            nearest = torch.cdist(plain @ known.metric, turned).amin(1)
            share = on / length.where(length > 0, 1.0)
            norm = torch.linalg.vector_norm(plain, dim=1)
            found.append(torch.stack([share, -off, -nearest, norm]))
    return KnownScores(*torch.cat(found, 1).unbind())
