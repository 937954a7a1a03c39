"""The decision axes of several tasks on the same features, by their class means alone."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dnc_lightning.functional._checks import check_features
from dnc_lightning.functional._moments import SHIFT_SAMPLES
from dnc_lightning.functional._scale import (
    CHUNK_ENTRIES,
    rounding,
    squared_distances,
    unit_scale,
    within_rounding,
)
from dnc_lightning.functional._tiles import ClassTiles, Reduce, wide
from dnc_lightning.functional.geometry import NEAR

Choose = Callable[[str, Tensor], Tensor]
"""Picks among the resolved pairs [P, 2] of a named task those to compute."""


@dataclass(frozen=True)
class TaskAxes:
    """Pairs of classes of one task, and the variance of every class along their axes."""

    count: Tensor  # [C] samples
    mean: Tensor  # [C, D] class means around a point common to all tasks, in its unit; or 0
    scale: Tensor  # scalar, the largest root mean square distance of a class from that point
    pairs: Tensor  # [P, 2] classes (a, b)
    distance: Tensor  # [P] |mu_a - mu_b|
    variance: Tensor  # [P, C] u' Sigma_c u of all classes c

    def take(self, rows: slice) -> TaskAxes:
        """The same for some of the pairs."""
        return replace(
            self,
            pairs=self.pairs[rows],
            distance=self.distance[rows],
            variance=self.variance[rows],
        )

    def along(self, points: Tensor) -> Tensor:
        """Coordinates of points [n, D] on all axes, [P, n]; no axes [P, D] are held."""
        height = self.mean @ points.T
        return (height[self.pairs[:, 0]] - height[self.pairs[:, 1]]) / self.distance[:, None]

    def cosines(self, other: TaskAxes) -> Tensor:
        """Signed cosines with the axes of another task, [P, Pb]."""
        height = self.along(other.mean)
        a, b = other.pairs.T
        return ((height[:, a] - height[:, b]) / other.distance).clamp(-1, 1)


def task_axes(
    features: Tensor,
    tasks: Mapping[str, Tensor],
    num_classes: Mapping[str, int | None],
    reduce: Reduce | None,
    choose: Choose,
) -> dict[str, TaskAxes]:
    """Two passes over the features: class means of all tasks, then variances along the axes.

    The second pass costs one [N, D] x [D, C] and one [C, N] x [N, C] product a task.
    """
    classes = {
        name: check_task(name, features, labels, num_classes.get(name), reduce is not None)
        for name, labels in tasks.items()
    }
    total: Reduce = reduce or (lambda tensor: tensor)
    error = rounding(features.dtype)
    features, _ = unit_scale(features, total)  # cosines and their bounds have no unit

    def first_pass(features: Tensor) -> tuple[dict[str, ClassTiles], Tensor, dict[str, Tensor]]:
        data = {
            name: ClassTiles.build(features, labels.to(features.device).long(), classes[name])
            for name, labels in tasks.items()
        }
        shift = _common_point(features, total)
        return data, shift, {n: total(_class_sums(tiles, shift)) for n, tiles in data.items()}

    data, shift, sums = first_pass(features)
    double = wide(features.device)
    if features.dtype != double and any(_close(found) for found in sums.values()):
        data, shift, sums = first_pass(features.to(double))
    found = {name: _from_sums(name, sums[name], shift, error, choose) for name in data}
    for name, task in found.items():
        squares = total(_axis_sums(data[name], shift, task))
        variance = squares / task.count.clamp(min=1)[:, None] / task.distance.square()
        found[name] = replace(task, variance=variance.T.contiguous())
    return found


def _close(sums: Tensor) -> bool:
    """Whether float32 loses digits of the distance of two class means, as in `needs_double`."""
    sums = sums[sums[:, -1] > 0]
    mean, spread = sums[:, :-2] / sums[:, -1:], sums[:, -2] / sums[:, -1]
    if not len(sums):
        return False
    near = squared_distances(mean, slice(0, len(mean)))
    return bool((near < NEAR * spread.amax()).triu(1).any())


def check_task(
    name: str, features: Tensor, labels: Tensor, classes: int | None, sharded: bool
) -> int:
    """`check_features` for one of several tasks, which the error names."""
    try:
        return check_features(features, labels, classes, sharded=sharded)
    except ValueError as error:
        raise ValueError(f"task {name!r}: {error}") from error


def _common_point(features: Tensor, total: Reduce) -> Tensor:
    """The mean of some features, [D]; any error in it cancels out."""
    some = features[:: max(1, len(features) // SHIFT_SAMPLES)].to(wide(features.device))
    count = total(torch.tensor(float(len(some)), dtype=some.dtype, device=some.device))
    dtype = torch.float64 if features.dtype == torch.float64 else torch.float32
    return (total(some.sum(0)) / count.clamp(min=1)).to(dtype)


def _class_sums(data: ClassTiles, shift: Tensor) -> Tensor:
    """Of x - shift by class: its sum [D], that of its square norm, the count; [C, D + 2]."""
    d = len(shift)
    out = torch.zeros(len(data.count), d + 2, dtype=wide(shift.device), device=shift.device)
    for tile in data.tiles(shift, None):
        square = torch.linalg.vector_norm(tile.residual, dim=(1, 2)).square()
        row = torch.cat([tile.residual.sum(1), square[:, None]], 1).to(out.dtype)
        out[:, : d + 1].index_add_(0, tile.classes, row)
    out[:, -1] = data.count.to(shift.device)
    return out


def _from_sums(name: str, sums: Tensor, shift: Tensor, error: float, choose: Choose) -> TaskAxes:
    count = sums[:, -1]
    present = count > 0
    if int(present.sum()) < 2:
        raise ValueError(
            f"task {name!r} needs samples of at least two classes, got {int(present.sum())}. Leave "
            "the task out, or pass a probe that holds more of its classes."
        )
    size = count.clamp(min=1)[:, None]
    mean, spread = sums[:, :-2] / size, sums[:, -2] / size[:, 0]
    distance2 = squared_distances(mean - mean[present].mean(0), slice(0, len(mean)))
    # As in class_geometry: what is left of two equal means after rounding is not a distance.
    noise = (16 * torch.finfo(shift.dtype).eps) ** 2 * spread
    apart = distance2 > noise[:, None] + noise
    apart &= ~within_rounding(mean + shift, distance2, error)
    resolved = (apart & present[:, None] & present).triu(1)
    missing = len(count) * (len(count) - 1) // 2 - int(resolved.sum())
    if missing:
        warnings.warn(
            f"task {name!r}: {missing} of {len(count) * (len(count) - 1) // 2} pairs of classes "
            "have no axis and are left out, as a class has no samples or two have the same mean. "
            "Pass a probe that holds every class, and look whether the encoder is constant.",
            stacklevel=4,
        )
    pairs = choose(name, resolved.nonzero())
    return TaskAxes(
        count=count,
        mean=mean,
        scale=spread.max().sqrt(),
        pairs=pairs,
        distance=_norms(mean, pairs),
        variance=mean.new_zeros(len(pairs), len(count)),
    )


def _norms(mean: Tensor, pairs: Tensor) -> Tensor:
    """|mu_a - mu_b| of pairs [P, 2], from the differences themselves."""
    blocks = torch.split(pairs, max(1, CHUNK_ENTRIES // mean.shape[1]))
    found = [torch.linalg.vector_norm(mean[a] - mean[b], dim=1) for a, b in (x.T for x in blocks)]
    return torch.cat(found)


def _axis_sums(data: ClassTiles, shift: Tensor, task: TaskAxes) -> Tensor:
    """Sums of ((mu_a - mu_b) . r)^2 over the residuals r of every class, [C, P].

    From the second moments of mu_a . r within each class, [C, C] at a time, whose N C^2 products
    are less than N P differences, but for few of very many pairs. In double precision, as close
    means leave little of them, and with what rounding may have taken away added: an interval may
    be too wide, never too narrow.
    """
    rounding = 4 * torch.finfo(task.mean.dtype).eps
    a, b = task.pairs.T
    centre, points = task.mean.to(data.dtype), task.mean.to(data.dtype).T.contiguous()
    out = torch.zeros(len(centre), len(a), dtype=task.mean.dtype, device=shift.device)
    for tile in data.tiles(shift, centre):
        height = (tile.residual @ points).to(out.dtype)
        for c, own in zip(tile.classes.tolist(), height, strict=True):
            square = own.square().sum(0)
            sums = square[a] + square[b]
            if len(own) * len(a) < len(centre) ** 2:
                along2 = (own[:, a] - own[:, b]).square_().sum(0)
            else:
                along2 = (sums - 2 * (own.T @ own)[a, b]).clamp_(min=0)
            out[c] += along2 + rounding * sums
    return out
