"""Bounds on the few-shot error of the nearest-class-centre classifier (docs/theory.md, 4)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from dnc_lightning.functional._class_geometry import ClassGeometry
from dnc_lightning.functional._pairs import PairRows, all_pairs, pair_rows
from dnc_lightning.functional.collapse import axis_ratio, variance_ratio
from dnc_lightning.functional.joint import joint_bound
from dnc_lightning.functional.margins import cantelli, margin_rows
from dnc_lightning.functional.published import luthra, theorem_4_1

BoundKind = Literal["certificate", "joint", "theorem_4_1", "luthra_2025", "limit"]
KINDS = ("certificate", "joint", "theorem_4_1", "luthra_2025", "limit")

Shots = int | Sequence[int] | Tensor
"""Labelled samples per class: one number, or one for each class [C]."""


def few_shot_bound(
    geometry: ClassGeometry,
    shots: Shots,
    *,
    kind: BoundKind = "certificate",
    clip: bool = True,
    ways: int | None = None,
) -> Tensor:
    """Bound the error of the nearest-class-centre classifier with `shots` samples per class.

    With plug-in moments it is a theorem about the probe set: supports drawn from it with
    replacement, a uniform query, an error averaged over classes. With unbiased moments it is an
    estimate for the population.

    Args:
        geometry: Of C classes; classes without samples are left out.
        shots: m, at least 1; per class [C] for "certificate" and "joint".
        kind: "certificate": Cantelli's inequality with the exact variance of every margin (derived
            here, see docs/theory.md, section 4). "joint": the same with the joint covariance of
            the margins of one query; never above it, and needs `class_geometry(..., joint=True)`.
            "theorem_4_1": of arXiv:2603.03530. "luthra_2025": of OpenReview mf4V1SK0np.
            "limit": the certificate for infinitely many shots, 4 Vt / (1 + 4 Vt) a pair.
        clip: Cap each class's sum, or the 2025 bound, at 1. The paper's figures do not.
        ways: Classes of an episode, drawn at random: the sums over rivals shrink in proportion.
            None is all C.

    Returns:
        Scalar, an error rate. Pairs whose bound says nothing, with equal means for example, count
        as 1; without variance the bound is 0. nan where a feature was nan or infinite.

    Raises:
        ValueError: shots < 1 or of the wrong length, an unknown kind, ways outside [2, C], "joint"
            without covariances.

    Examples:
        >>> from dnc_lightning.functional import class_geometry
        >>> x = torch.tensor([[0.0], [2.0], [9.0], [11.0]])
        >>> geometry = class_geometry(x, torch.tensor([0, 0, 1, 1]))
        >>> few_shot_bound(geometry, 10)
        tensor(0.0516, dtype=torch.float64)
    """
    return few_shot_bounds(geometry, check_shots(geometry, shots)[None], kind, clip, ways)[0]


def few_shot_bounds(
    geometry: ClassGeometry, m: Tensor, kind: BoundKind, clip: bool = True, ways: int | None = None
) -> Tensor:
    """`few_shot_bound` for S choices of shots at once: m [S, C] -> [S]."""
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}.")
    present = geometry.count > 0
    classes = int(present.sum())
    rivals = (classes if ways is None else check_ways(ways, classes)) - 1
    if not geometry.finite:
        return m.new_full((len(m),), torch.nan)
    if kind == "luthra_2025":
        value = _luthra_mean(geometry, classes, rivals, _common(m, kind))
        return value.clamp(max=1) if clip else value
    certified = "certificate" if kind == "joint" else kind

    def total(pairs: PairRows) -> Tensor:
        return bound_rows(pairs, m, certified, clip).nan_to_num(0).sum(-1)

    sums = torch.cat([total(pairs) for pairs in pair_rows(geometry, stacked=len(m))], 1)
    per_class = sums * (rivals / max(1, classes - 1))
    if kind == "joint":
        joint = torch.stack([joint_bound(geometry, row) for row in m])
        per_class = torch.minimum(per_class, joint)
    return (per_class.clamp(max=1) if clip else per_class)[:, present].mean(1)


def pair_bound(
    geometry: ClassGeometry, shots: Shots, *, kind: BoundKind = "certificate", clip: bool = True
) -> Tensor:
    """The same per ordered pair: how often a sample of class i is closer to j's centre, [C, C].

    Args:
        geometry: Of C classes.
        shots: m, at least 1.
        kind: As in `few_shot_bound`; "joint" has no pairs.
        clip: Cap each pair at 1.

    Returns:
        [C, C], nan on the diagonal and for classes without samples, never nan elsewhere.

    Raises:
        ValueError: as `few_shot_bound`.
    """
    m = check_shots(geometry, shots)
    return all_pairs(geometry, lambda pairs: bound_rows(pairs, m, kind, clip))


def bound_rows(pairs: PairRows, m: Tensor, kind: str, clip: bool = True) -> Tensor:
    """`pair_bound` of some rows for m [..., C], [..., b, C]."""
    if kind == "certificate":
        value = cantelli(margin_rows(pairs, m))
    elif kind == "limit":
        value = cantelli(margin_rows(pairs, torch.full_like(m, torch.inf)))
    elif kind == "theorem_4_1":
        value = theorem_4_1(pairs, _common(m, kind)[..., None, None])
    elif kind == "luthra_2025":
        v = variance_ratio(pairs)
        value = luthra(axis_ratio(pairs), v, v.sqrt(), _common(m, kind)[..., None, None])
    else:
        raise ValueError(f"kind must be one of {', '.join(KINDS[:1] + KINDS[2:])}, got {kind!r}.")
    value = value.nan_to_num(nan=1.0, posinf=math.inf)
    if clip:
        value = value.clamp(max=1)
    return torch.where(pairs.present, value, torch.nan)


def gaussian_prediction(geometry: ClassGeometry, shots: Shots) -> Tensor:
    """Predict, not bound, the error as if every margin were Gaussian: sum of Phi(-E M / sd M).

    Close for Gaussian features and too low for heavy tails (docs/theory.md, section 4).

    Args:
        geometry: Of C classes.
        shots: m, at least 1.

    Returns:
        Scalar in [0, 1]; nan where a feature was nan or infinite.
    """
    m, present = check_shots(geometry, shots), geometry.count > 0

    def total(pairs: PairRows) -> Tensor:
        margins = margin_rows(pairs, m)
        ratio = margins.mean / margins.variance.clamp(min=0).sqrt()
        tail = torch.special.ndtr(-ratio).nan_to_num(nan=1.0)
        return torch.where(pairs.present, tail, 0.0).sum(1)

    sums = torch.cat([total(pairs) for pairs in pair_rows(geometry)])
    return sums.clamp(max=1)[present].mean() * (1.0 if geometry.finite else torch.nan)


def shots_needed(
    geometry: ClassGeometry,
    target_error: float,
    *,
    kind: BoundKind = "certificate",
    ways: int | None = None,
) -> int | None:
    """The least number of shots per class whose bound is at most `target_error`.

    A bound can rise with the shots, where a class lies near the mean of a much wider one. Up to 32
    shots every number is tried; beyond, the bound is taken to fall, and the answer is a number at
    which it holds while at one less it does not.

    Args:
        geometry: Of C classes.
        target_error: In (0, 1).
        kind: As in `few_shot_bound`.
        ways: As in `few_shot_bound`.

    Returns:
        m; None where even infinitely many shots leave the bound above the target.

    Raises:
        ValueError: target_error outside (0, 1), or as `few_shot_bound`.
    """
    if not 0 < target_error < 1:
        raise ValueError(f"target_error must be in (0, 1), got {target_error}: 0.1 is ten percent.")

    # The certificate is never below the joint bound and costs next to nothing beside it.
    kinds: tuple[BoundKind, ...] = ("certificate", "joint") if kind == "joint" else (kind,)

    def enough(few: Sequence[int]) -> Tensor:
        m = torch.tensor(few, dtype=geometry.variance.dtype, device=geometry.variance.device)
        m = m[:, None].expand(-1, geometry.num_classes)
        found = torch.zeros(len(few), dtype=torch.bool, device=m.device)
        for name in kinds:
            if not bool(found.all()):
                found |= few_shot_bounds(geometry, m, name, ways=ways) <= target_error
        return found

    batch = 1 if kind == "joint" else max(1, BATCH_ENTRIES // geometry.num_classes**2)
    return least_shots(enough, batch)


def least_shots(enough: Callable[[Sequence[int]], Tensor], batch: int = 1) -> int | None:
    """Search for the least number of shots that is enough, see `shots_needed`.

    Args:
        enough: Whether each of several numbers is, bool [S].
        batch: Numbers to ask for at once.

    Returns:
        None where even `MOST_SHOTS` are not.
    """

    def holds(m: int) -> bool:
        return bool(enough([m])[0])

    for begin in range(1, LINEAR_SEARCH + 1, batch):
        few = range(begin, min(begin + batch, LINEAR_SEARCH + 1))
        hits = enough(few).nonzero()
        if len(hits):
            return few[int(hits[0])]
    if not holds(MOST_SHOTS):
        return None
    low, high = LINEAR_SEARCH, 2 * LINEAR_SEARCH
    while not holds(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


BATCH_ENTRIES = 2**20
"""Pair bounds that the search for enough shots holds at once."""

LINEAR_SEARCH = 32
"""Shots tried one by one; beyond, the number is doubled until the bound holds, then bisected."""

MOST_SHOTS = 2**40
"""Where the search for enough shots gives up: the bounds have reached their limit."""


def check_shots(geometry: ClassGeometry, shots: Shots) -> Tensor:
    """Check and spread shots to one number per class, [C]."""
    m = torch.as_tensor(shots, dtype=geometry.variance.dtype, device=geometry.variance.device)
    if m.ndim > 1 or (m.ndim == 1 and len(m) != geometry.num_classes):
        raise ValueError(
            f"shots must be one number or one per class [{geometry.num_classes}], got shape "
            f"{list(m.shape)}."
        )
    if not bool(((m >= 1) & (m == m.round())).all()):
        raise ValueError(f"shots must be whole numbers, at least 1, got {shots}.")
    return m.expand(geometry.num_classes)


def check_ways(ways: int, classes: int) -> int:
    """Check that episodes of `ways` of the classes can be drawn."""
    if not 2 <= ways <= classes:
        raise ValueError(f"ways must be between 2 and the {classes} classes, got {ways}.")
    return ways


def _common(shots: Tensor, kind: str) -> Tensor:
    """One number of shots for all classes: m [..., C] -> [...]."""
    if bool((shots != shots[..., :1]).any()):
        raise ValueError(
            f'{kind} is stated for one number of shots; use kind="certificate" for different ones.'
        )
    return shots[..., 0]


def _luthra_mean(geometry: ClassGeometry, classes: int, rivals: int, m: Tensor) -> Tensor:
    """`rivals` times the bound of the pairs' means; 1 if any pair has no CDNV."""
    sums, resolved = geometry.variance.new_zeros(3), geometry.count.new_zeros(())
    for pairs in pair_rows(geometry):
        ratios = axis_ratio(pairs), variance_ratio(pairs), variance_ratio(pairs).sqrt()
        sums = sums + torch.stack([ratio.nansum() for ratio in ratios])
        resolved = resolved + pairs.resolved.sum()
    directional, v, root_v = sums / resolved
    value = rivals * luthra(directional, v, root_v, m)
    if int(resolved) < classes * (classes - 1):
        return torch.ones_like(value)
    return value.nan_to_num(nan=float(rivals > 0), posinf=math.inf)
