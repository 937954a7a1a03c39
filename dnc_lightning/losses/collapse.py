"""Directional CDNV of a batch as a loss."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

Form = Literal["bound", "mean", "log"]

UNLABELLED = -1
"""Label of samples that the loss leaves out."""

LOG_FLOOR = 1e-8
"""What "log" adds, so that collapsed features have a loss."""


class DirectionalCollapseLoss(nn.Module):
    """Shrink the variance of every class along the axes to the other classes of a batch.

    For classes i and j of a batch, with means m and delta = m_i - m_j, V_ij = mean over class i of
    ((x - m_i) . delta)^2 / |delta|^4 is the directional CDNV of arXiv:2603.03530, plug-in. The
    other directions of feature space are left alone, which is what tells it from a loss that pulls
    classes to points. With labels this is supervised training, whatever else is trained with it.

    The few samples that a class has in a batch have two effects: their mean is nearer to them than
    that of the class, and a constant part of V, about n / 2 over the effective dimension of the
    class, is not the encoder's (docs/theory.md). Batches with few large classes have less of both.

    Args:
        form: Of V: "bound" takes the mean over pairs of 4 V / (1 + 4 V), the Cantelli bound on the
            error of two classes with their true means, in [0, 1], so that pairs that lie on each
            other do not drown the rest; "mean" takes the mean over pairs; "log" log10 of the mean
            + 1e-8, as the second stage in the repository of the paper's authors, whose gradient
            grows as 1 / V.
        min_samples: Classes with fewer samples in the batch are left out, at least 2.

    Raises:
        ValueError: an argument out of range.

    Examples:
        >>> loss = DirectionalCollapseLoss()
        >>> features = torch.randn(64, 16, requires_grad=True)
        >>> value = loss(features, torch.arange(64) % 4)
        >>> value.backward()
        >>> value.shape, features.grad.shape
        (torch.Size([]), torch.Size([64, 16]))
    """

    def __init__(self, form: Form = "bound", min_samples: int = 2) -> None:
        super().__init__()
        if form not in get_args(Form):
            raise ValueError(f"form must be one of {', '.join(get_args(Form))}, got {form!r}.")
        if not isinstance(min_samples, int) or min_samples < 2:
            raise ValueError(f"min_samples must be an integer of at least 2, got {min_samples!r}.")
        self.form = form
        self.min_samples = min_samples

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """The loss of a batch; of the batches of all processes together, where there are several.

        Args:
            features: [N, D], of any floating type; computed in float32 at least. Several processes
                must give batches of one size.
            labels: [N] integers; any negative one means unlabelled.

        Returns:
            A scalar; 0, with gradients of 0, where fewer than two classes have `min_samples`.

        Raises:
            ValueError: features and labels that do not fit.
        """
        if features.ndim != 2 or labels.shape != features.shape[:1]:
            raise ValueError(
                f"features must be [N, D] and labels [N], got {list(features.shape)} and "
                f"{list(labels.shape)}."
            )
        if labels.is_floating_point() or not features.is_floating_point():
            raise ValueError(
                "features must be floating point and labels integers, got "
                f"{features.dtype} and {labels.dtype}."
            )
        with torch.autocast(features.device.type, enabled=False):
            x = features.float() if features.dtype.itemsize < 4 else features
            x, y = _of_all(x), _of_all(labels)
            values = directional_cdnv_of_batch(x, y, self.min_samples)
            if not len(values):
                return x.sum() * 0
            if self.form == "bound":
                return (4 * values / (1 + 4 * values)).mean()
            mean: Tensor = values.mean()
            return mean if self.form == "mean" else (mean + LOG_FLOOR).log10()


def directional_cdnv_of_batch(features: Tensor, labels: Tensor, min_samples: int = 2) -> Tensor:
    """Directional CDNV [P] of all ordered pairs of classes of a batch, with gradients.

    Args:
        features: [N, D].
        labels: [N] integers, negative for unlabelled.
        min_samples: Classes with fewer samples are left out.

    Returns:
        Of the P = K (K - 1) pairs of the K classes that are left, less those whose means are one.
    """
    names, index, count = torch.unique(labels, return_inverse=True, return_counts=True)
    kept = (names >= 0) & (count >= min_samples)
    place = kept.cumsum(0) - 1
    rows = kept[index]
    x, y, n = features[rows], place[index[rows]], count[kept].to(features)
    x = x - x.detach().mean(0)  # nothing depends on an offset, and it would cost digits
    k = int(kept.sum())
    mean = x.new_zeros(k, x.shape[1]).index_add(0, y, x) / n[:, None]
    along = (x - mean[y]) @ mean.T  # [N, K]
    along = along.gather(1, y[:, None]) - along  # of each residual on delta_ij
    variance = x.new_zeros(k, k).index_add(0, y, along.square()) / n[:, None]
    distance2 = (mean[:, None] - mean).square().sum(2)
    pairs = distance2 > 0
    found: Tensor = variance[pairs] / distance2[pairs] / distance2[pairs]
    return found


def _of_all(tensor: Tensor) -> Tensor:
    """The rows of every process; of this one where it is alone.

    Only the own rows have gradients, times the number of processes, of whose gradients DDP takes
    the mean.
    """
    group = torch.distributed
    if not (group.is_available() and group.is_initialized() and group.get_world_size() > 1):
        return tensor
    world = group.get_world_size()
    own = tensor.detach().contiguous()
    parts = [torch.empty_like(own) for _ in range(world)]
    group.all_gather(parts, own)
    if tensor.requires_grad:
        parts[group.get_rank()] = tensor + (world - 1) * (tensor - own)
    return torch.cat(parts)
