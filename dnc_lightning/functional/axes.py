"""Decision axes of a task: the directions between its class means."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dnc_lightning.functional._class_geometry import ClassGeometry
from dnc_lightning.functional._pairs import pair_rows
from dnc_lightning.functional.collapse import directional_cdnv_rows


def decision_axes(geometry: ClassGeometry) -> tuple[Tensor, Tensor]:
    """Unit vectors u = (mu_a - mu_b) / |mu_a - mu_b| of the unordered pairs of classes a < b.

    A pair that is not resolved has no axis and is left out: a class without samples, identical
    means, or, with unbiased moments, a distance that the probe's size cannot tell from zero.

    Args:
        geometry: Of C classes.

    Returns:
        Axes [P, D], float64 as the moments, and their classes (a, b) [P, 2] in lexicographic
        order; P = C (C - 1) / 2 if all pairs are resolved.

    Examples:
        >>> x = torch.tensor([[0.0, 1.0], [0.0, -1.0], [9.0, 1.0], [9.0, -1.0]])
        >>> axes, pairs = decision_axes(class_geometry(x, torch.tensor([0, 0, 1, 1])))
        >>> axes.tolist(), pairs.tolist()
        ([[-1.0, 0.0]], [[0, 1]])
    """
    pairs = geometry.resolved.triu(1).nonzero()
    delta = geometry.mean[pairs[:, 0]] - geometry.mean[pairs[:, 1]]
    return delta / torch.linalg.vector_norm(delta, dim=1, keepdim=True), pairs


def axis_cosines(axes_a: Tensor, axes_b: Tensor) -> Tensor:
    """Signed cosines of all axes of one task with all axes of another.

    The sign follows the order of the classes in each pair.

    Args:
        axes_a: [Pa, D] unit vectors.
        axes_b: [Pb, D] unit vectors.

    Returns:
        [Pa, Pb] in [-1, 1].

    Raises:
        ValueError: axes that are not matrices of the same width.

    Examples:
        >>> axis_cosines(torch.eye(2), torch.tensor([[0.6, -0.8]])).tolist()
        [[0.6000000238418579], [-0.800000011920929]]
    """
    if axes_a.ndim != 2 or axes_b.ndim != 2 or axes_a.shape[1] != axes_b.shape[1]:
        raise ValueError(
            f"axes must be of shapes [Pa, D] and [Pb, D], got {list(axes_a.shape)} and "
            f"{list(axes_b.shape)}. Take both from the same features."
        )
    return (axes_a @ axes_b.T).clamp(-1, 1)


def random_floor(dim: int) -> float:
    """E |cos| of two random directions in R^dim, about sqrt(2 / (pi dim)).

    The exact value, Gamma(dim / 2) / (sqrt(pi) Gamma((dim + 1) / 2)), is larger by a fraction of
    about 1 / (4 dim). Features that fill fewer dimensions than they have lie above the floor by
    chance alone.

    Args:
        dim: D, at least 1.

    Raises:
        ValueError: dim < 1.

    Examples:
        >>> round(random_floor(512), 4)
        0.0353
    """
    if dim < 1:
        raise ValueError(f"dim must be at least 1, got {dim}: pass the length of a feature.")
    return math.sqrt(2 / (math.pi * dim))


def extreme_pairs(geometry: ClassGeometry) -> dict[str, tuple[int, int]]:
    """The pairs of classes with the least, the median and the largest directional CDNV.

    Unordered pairs a < b are ranked by the mean of their two orders; of an even number the lower
    of the middle two is the median. With few pairs the same one may come more than once.

    Args:
        geometry: Of C classes.

    Returns:
        "best", "median" and "worst" -> (a, b); empty where no pair is resolved.

    Examples:
        >>> x = torch.tensor([[0.0], [2.0], [9.0], [11.0], [30.0], [32.0]])
        >>> extreme_pairs(class_geometry(x, torch.tensor([0, 0, 1, 1, 2, 2])))
        {'best': (0, 2), 'median': (1, 2), 'worst': (0, 1)}
    """
    found = []
    for p in pair_rows(geometry):
        value = directional_cdnv_rows(p)
        turned = torch.where(p.defined, p.rival_variance / p.safe_distance2.square(), torch.nan)
        value = (value + turned) / 2
        # Only pairs a < b.
        a = torch.arange(p.rows.start, p.rows.stop, device=value.device)[:, None]
        later = torch.arange(geometry.num_classes, device=value.device) > a
        found.append(torch.where(later & value.isfinite(), value, torch.nan))
    values = torch.cat(found).flatten()
    defined = values[~values.isnan()]
    if not len(defined):
        return {}
    places = {"best": 0, "median": (len(defined) - 1) // 2, "worst": len(defined) - 1}
    out = {}
    for name, place in places.items():
        limit = defined.kthvalue(place + 1).values
        # Of equal pairs the first in lexicographic order comes first.
        nth = place - int((defined < limit).sum())
        pair = int((values == limit).nonzero()[nth])
        out[name] = divmod(pair, geometry.num_classes)
    return out
