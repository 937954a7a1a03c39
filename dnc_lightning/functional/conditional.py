"""The certificate that looks at every query on its own, for many shots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dnc_lightning.functional._checks import check_features
from dnc_lightning.functional._scale import rounding, unit_scale
from dnc_lightning.functional._tiles import exact_arithmetic, wide
from dnc_lightning.functional._whole import whole, whole_labels
from dnc_lightning.functional.bounds import check_ways, least_shots
from dnc_lightning.functional.few_shot import Shard


def conditional_certificate(
    features: Tensor,
    labels: Tensor,
    shots: int,
    *,
    ways: int | None = None,
    shard: Shard | None = None,
) -> Tensor:
    """Bound the error of the nearest class centre, query by query.

    A theorem about these samples, as `few_shot_bound`: supports drawn from them with replacement, a
    uniform query, an error averaged over classes. Cantelli's inequality with the exact mean and
    variance of the margins of each query (derived here, see docs/theory.md, section 4). For many
    shots it tends to the error of the class means themselves, where the certificate stays above
    it; below about 10 shots little is gained.

    Costs the products of all samples with each other.

    Args:
        features: [n, D], floating point.
        labels: [n], integers in [0, C).
        shots: m, at least 1.
        ways: Classes of an episode, drawn at random; None is all C.
        shard: Where the samples stand in the whole set; None if they are the whole set. Every
            process then takes the room of all features.

    Returns:
        Scalar in [0, 1], float64 (float32 on MPS); nan if a feature is nan or infinite or a class
        has one sample, of whose variance nothing is known.

    Raises:
        ValueError: shots < 1, ways outside [2, C], or features and labels that do not fit.

    Examples:
        >>> x = torch.tensor([[0.0], [2.0], [9.0], [11.0]])
        >>> conditional_certificate(x, torch.tensor([0, 0, 1, 1]), 100)
        tensor(0.0005, dtype=torch.float64)
    """
    if shots < 1:
        raise ValueError(f"shots must be at least 1, got {shots}.")
    return QueryMargins.of(features, labels, shard).bound([shots], ways)[0]


@dataclass(frozen=True)
class QueryMargins:
    """What the margins of N queries against the centres of C classes follow from."""

    own: Tensor  # [N] class of each query
    distance2: Tensor  # [N, C] squared distance from the mean of a class
    along: Tensor  # [N, C] variance of the class along (x - mean), times its squared length
    third: Tensor  # [N, C] (x - mean) . E |r|^2 r of the residuals r of the class
    blur: Tensor  # [N, C] what rounding may have done to distance2
    variance: Tensor  # [C]
    fourth_moment: Tensor  # [C]
    second_trace: Tensor  # [C]
    known: bool  # whether all is finite, and every class has two samples

    @classmethod
    def of(cls, features: Tensor, labels: Tensor, shard: Shard | None = None) -> QueryMargins:
        """Gather the samples and compare each with every class."""
        own = whole_labels(labels, shard)
        classes = int(own.max()) + 1 if len(own) else 0
        check_features(features, labels, classes, sharded=shard is not None)
        error, dtype = rounding(features.dtype), wide(features.device)
        with exact_arithmetic(features.device):
            scaled, _ = unit_scale(whole(features, shard), lambda tensor: tensor)
            size = torch.linalg.vector_norm(scaled, dim=1, dtype=dtype)
            x = scaled.to(dtype)
            x = x - x.mean(0)
            columns = [_against(x, x[own == j]) for j in range(classes)]
        distance2, along, third = (torch.stack([c[k] for c in columns], 1) for k in range(3))
        variance, fourth, second = torch.stack([c[3] for c in columns]).unbind(1)
        count = torch.bincount(own, minlength=classes)
        eps = 16 * torch.finfo(dtype).eps * x.square().sum(1).amax().nan_to_num(0)
        return cls(
            own=own,
            distance2=distance2,
            along=along,
            third=third,
            blur=2 * error * size[:, None] * distance2.sqrt() + eps,
            variance=variance,
            fourth_moment=fourth,
            second_trace=second,
            known=bool(distance2.isfinite().all()) and int(count.min()) > 1,
        )

    def bound(self, shots: Sequence[int], ways: int | None = None) -> Tensor:
        """`conditional_certificate` for S numbers of shots, [S]."""
        classes = len(self.variance)
        rivals = (classes if ways is None else check_ways(ways, classes)) - 1
        if not self.known:
            return self.variance.new_full((len(shots),), torch.nan)
        return torch.stack([self._bound(float(m), rivals / (classes - 1)) for m in shots])

    def shots_needed(self, target_error: float, ways: int | None = None) -> int | None:
        """The least number of shots that the bound needs for an error, as `shots_needed`."""
        if not self.known:
            return None
        return least_shots(lambda few: self.bound(few, ways) <= target_error)

    def _bound(self, m: float, share: float) -> Tensor:
        own, rows = self.own, torch.arange(len(self.own), device=self.own.device)
        centre = (self.fourth_moment - self.variance**2) / m**3
        centre = centre + 2 * self.second_trace * (m - 1) / m**3
        mean = self.distance2 + self.variance / m
        spread = (4 * self.along / m + centre - 4 * self.third / m**2).clamp(min=0)
        margin = mean - mean[rows, own][:, None]
        blur = self.blur + self.blur[rows, own][:, None]
        spread = spread + spread[rows, own][:, None]
        tail = spread / (spread + margin.square())
        tail = torch.where(margin > blur, tail, 1.0)
        tail[rows, own] = 0
        error = (tail.sum(1) * share).clamp(max=1)
        count = torch.bincount(own, minlength=len(self.variance))
        return torch.zeros_like(self.variance).index_add_(0, own, error).div_(count).mean()


def _against(x: Tensor, members: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of all points [N, D] and the samples of a class [n, D]: columns [N] and numbers [3]."""
    n, d = members.shape
    mean = members.mean(0)
    r, away = members - mean, x - mean
    square = r.square().sum(1)
    if n < d:
        along = (away @ r.T).square().sum(1) / n
        second = (r @ r.T).square().sum() / n**2
    else:
        covariance = r.T @ r / n
        along = ((away @ covariance) * away).sum(1).clamp(min=0)
        second = covariance.square().sum()
    third = away @ (square @ r) / n
    numbers = torch.stack([square.mean(), square.square().mean(), second])
    return away.square().sum(1), along, third, numbers
