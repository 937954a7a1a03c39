"""Within-class variance of a pair of classes along its decision axis and across it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dnc_lightning.functional._checks import check_features
from dnc_lightning.functional._tiles import exact_arithmetic, wide
from dnc_lightning.functional.few_shot import Shard


@dataclass(frozen=True)
class VarianceDecomposition:
    """Where the variance of P pairs of classes lies, in squared units of the features."""

    pairs: Tensor  # [P, 2] classes
    top: tuple[int, ...]  # K numbers of directions
    on_axis: Tensor  # [P] variance along the decision axis
    orthogonal_top: Tensor  # [P, K] in the top[k] widest directions orthogonal to the axis
    orthogonal: Tensor  # [P] in all directions orthogonal to the axis
    total: Tensor  # [P] on_axis + orthogonal, the trace of the pooled covariance


def variance_decomposition(
    features: Tensor,
    labels: Tensor,
    *,
    pairs: Iterable[Sequence[int]] | Tensor,
    top: Sequence[int] = (1, 10, 100),
    shard: Shard | None = None,
) -> VarianceDecomposition:
    """Split the pooled within-class variance of pairs of classes by direction.

    For a pair (a, b) with axis u the covariance is pooled over the samples of both classes,
    Sigma = (n_a Sigma_a + n_b Sigma_b) / (n_a + n_b); on the axis is u' Sigma u, and the rest is
    the spectrum of Sigma with u projected out (docs/theory.md, section 6).

    Costs one [n, D] x [D, n] product and the eigenvalues of an n x n matrix a pair, n = n_a + n_b,
    in float64; if D <= n, of a D x D matrix. Meant for a few pairs, see `extreme_pairs`.

    Args:
        features: [N, D] of this process, floating point.
        labels: [N] of the same, integers in [0, C).
        pairs: P pairs of different classes that have samples, [P, 2].
        top: Numbers of directions, each at least 1; beyond the rank the sum is complete.
        shard: Where the samples stand in the whole set, if processes hold parts of it. The
            samples of a pair's two classes, and no others, are then put together, [n, D].

    Returns:
        Float64 on the features' device (float32 on MPS), the same on every process; nan for a pair
        with identical means, which has no axis, or with features that are not finite.

    Raises:
        ValueError: a pair of one class, out of range or without samples; top below 1; features and
            labels that do not fit.

    Examples:
        >>> x = torch.tensor([[0.0, 1.0], [0.0, -1.0], [9.0, 3.0], [9.0, -3.0]])
        >>> found = variance_decomposition(x, torch.tensor([0, 0, 1, 1]), pairs=[(0, 1)])
        >>> found.on_axis.tolist(), found.orthogonal.tolist()
        ([0.0], [5.0])
    """
    everyone = (labels if shard is None else shard.labels).long().cpu()
    classes = int(everyone.max()) + 1 if len(everyone) else 0
    check_features(features, labels, classes, sharded=shard is not None)
    chosen = _check_pairs(pairs, torch.bincount(everyone, minlength=classes))
    if not top or any(k < 1 for k in top):
        raise ValueError(f"top must be integers of at least 1, got {tuple(top)}.")
    with exact_arithmetic(features.device):
        rows = [_split(*_residuals(features, everyone, a, b, shard), top) for a, b in chosen]
    table = torch.stack(rows) if rows else torch.zeros(0, 2 + len(top))
    table = table.to(features.device, wide(features.device))
    return VarianceDecomposition(
        pairs=torch.tensor(chosen, device=features.device).view(-1, 2),
        top=tuple(top),
        on_axis=table[:, 0],
        orthogonal_top=table[:, 2:],
        orthogonal=table[:, 1],
        total=table[:, 0] + table[:, 1],
    )


def _residuals(
    features: Tensor, everyone: Tensor, a: int, b: int, shard: Shard | None
) -> tuple[Tensor, Tensor]:
    """Residuals of both classes [n, D] and the difference of their means [D]."""
    place = ((everyone == a) | (everyone == b)).nonzero().flatten()
    device, dtype = features.device, wide(features.device)
    if shard is None:
        rows = features[place.to(device)].to(dtype)
    else:
        slot = torch.full((len(everyone),), -1)
        slot[place] = torch.arange(len(place))
        own = slot[shard.rows.cpu()]
        rows = torch.zeros(len(place), features.shape[1], dtype=dtype, device=device)
        here = (own >= 0).nonzero().flatten()
        rows[own[here].to(device)] = features[here.to(device)].to(dtype)
        rows = shard.reduce(rows)
    # Subtracting the offset first keeps its digits out of the class means.
    rows = rows - rows.mean(0)
    first = (everyone[place] == a).to(device)
    mean_a, mean_b = rows[first].mean(0), rows[~first].mean(0)
    return rows - torch.where(first[:, None], mean_a, mean_b), mean_a - mean_b


def _split(residual: Tensor, delta: Tensor, top: Sequence[int]) -> Tensor:
    """Variance on the axis, orthogonal to it, and of the top directions of that, [2 + K]."""
    n, d = residual.shape
    distance = torch.linalg.vector_norm(delta)
    scale = residual.abs().max() + delta.abs().max()
    if not bool(distance > 16 * torch.finfo(delta.dtype).eps * scale) or not scale.isfinite():
        return torch.full((2 + len(top),), torch.nan, dtype=delta.dtype, device=delta.device)
    axis = delta / distance
    along = residual @ axis
    across = residual - along[:, None] * axis
    gram = across @ across.T if n < d else across.T @ across
    # Small symmetric problems are as fast on the host, where every device's arithmetic is at hand.
    sums = torch.linalg.eigvalsh(gram.cpu()).flip(0).clamp(min=0).cumsum(0)
    sums = sums[[min(k, len(sums)) - 1 for k in top]].to(gram.device)
    orthogonal = across.square().sum()
    return torch.cat([along.square().sum()[None], orthogonal[None], sums.clamp(max=orthogonal)]) / n


def _check_pairs(pairs: Iterable[Sequence[int]] | Tensor, count: Tensor) -> list[tuple[int, int]]:
    chosen = []
    for pair in pairs:
        a, b = (int(c) for c in pair)
        empty = [c for c in (a, b) if not 0 <= c < len(count) or int(count[c]) == 0]
        if a == b or empty:
            reason = f"class {empty[0]} has no samples" if empty else "they are the same"
            raise ValueError(
                f"pairs must be of two different classes with samples, got ({a}, {b}): {reason}. "
                "Choose them with extreme_pairs(class_geometry(features, labels))."
            )
        chosen.append((a, b))
    return chosen
