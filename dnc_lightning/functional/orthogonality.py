"""How far the decision axes of several tasks are from orthogonal, and why (docs/theory.md, 5)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import torch
from torch import Tensor

from dnc_lightning.functional._task_axes import TaskAxes, check_task, task_axes
from dnc_lightning.functional._tiles import Reduce, exact_arithmetic
from dnc_lightning.functional.axes import random_floor
from dnc_lightning.functional.labels import contingency, table_dependence

BoundKind = Literal["general", "proposition_4_2"]
CHUNK_ENTRIES = 2**20
"""Pairs of pairs whose interval is held at once for an average, 8 MB a number."""

MOST_PAIRS = 5_000
"""Pairs of classes of one task that averages run over: all of a hundred classes."""


@dataclass(frozen=True)
class Interval:
    """Bounds on the signed cosine of axis p of task a and axis q of task b."""

    low: Tensor  # [Pa, Pb], in [-1, 1]
    high: Tensor  # [Pa, Pb], in [-1, 1]


@dataclass(frozen=True)
class OrthogonalitySummary:
    """Scalars of all pairs of tasks, and what they are averages of."""

    scalars: dict[str, Tensor]  # name -> scalar
    abs_cosines: dict[str, Tensor]  # "{a}-{b}" -> [Pa, Pb] float32; empty if not asked for
    pairs: dict[str, Tensor]  # task -> [P, 2] classes of its axes


def orthogonality_bound(
    features: Tensor,
    labels_a: Tensor,
    labels_b: Tensor,
    *,
    kind: BoundKind = "general",
    num_classes_a: int | None = None,
    num_classes_b: int | None = None,
    pairs_a: Tensor | None = None,
    pairs_b: Tensor | None = None,
    reduce: Reduce | None = None,
) -> Interval:
    """Bound the cosines between the decision axes of two tasks from variances and label counts.

    Costs about one [N, D] x [D, C] and one [C, N] x [N, C] product a task, and memory for P x C
    variances and [Pa, Pb] results: choose pairs beyond a few hundred classes.

    Args:
        features: [N, D], floating point.
        labels_a: [N], integers in [0, Ca).
        labels_b: [N], integers in [0, Cb), of the same samples.
        kind: "general" (derived here, see docs/theory.md, section 5): a theorem about these
            samples for any number of classes, any dependence and imbalance. Widened against
            rounding by s_a s_b / (d_a d_b) times 1e-7, for float64 features 1e-12, s the root mean
            square norm of the widest class around a common centre.
            "proposition_4_2" of arXiv:2603.03530: symmetric, |cos| at most
            min((d_a/d_b) sqrt(2 C_b V_a), (d_b/d_a) sqrt(2 C_a V_b)), V the variance along the
            axis averaged over its two classes, over d^2. A bound only for two binary labelings
            that are balanced and exactly independent in these samples; labels that are
            independent by chance of drawing break it, and for more classes it is none at all.
        num_classes_a: Ca; default the largest label + 1. Required with `reduce`.
        num_classes_b: Cb, likewise.
        pairs_a: [Pa, 2] classes; default those of `decision_axes`: unordered and resolved.
        pairs_b: [Pb, 2], likewise.
        reduce: Sums a tensor over all shards, which may be uneven or empty. [C, D + 2]-, [C, P]-
            and [Ca, Cb]-sized sums pass through it.

    Returns:
        Bounds on `axis_cosines` of the two tasks' `decision_axes`, float64 (float32 on MPS). If
        both tasks are the same the interval of a pair with itself is 1 to 1, up to rounding.

    Raises:
        ValueError: features and labels that do not fit, a task without two classes that have
            samples, chosen pairs without an axis, an unknown kind.

    Warns:
        UserWarning: pairs of classes without an axis.

    Examples:
        >>> a, b = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])
        >>> x = torch.stack([a, b], 1) + torch.tensor([[0.1, 0], [-0.1, 0], [0.1, 0], [-0.1, 0]])
        >>> found = orthogonality_bound(x, a, b)
        >>> [round(float(end), 4) for end in (found.low, found.high)]
        [-0.1961, 0.1961]
    """
    if kind not in ("general", "proposition_4_2"):
        raise ValueError(f'kind must be "general" or "proposition_4_2", got {kind!r}.')
    wanted = {"a": pairs_a, "b": pairs_b}

    def choose(name: str, resolved: Tensor) -> Tensor:
        chosen = wanted[name]
        return resolved if chosen is None else _check_pairs(name, chosen, resolved)

    with exact_arithmetic(features.device):
        labels, classes = {"a": labels_a, "b": labels_b}, {"a": num_classes_a, "b": num_classes_b}
        found = task_axes(features, labels, classes, reduce, choose)
        if kind == "proposition_4_2":
            return _proposition_4_2(found["a"], found["b"])
        table = _table(labels_a, labels_b, found["a"], found["b"], reduce)
        return _general(found["a"], found["b"], table, _slack(features))


def orthogonality_summary(
    features: Tensor,
    tasks: Mapping[str, Tensor],
    *,
    num_classes: Mapping[str, int] | None = None,
    matrices: bool = True,
    reduce: Reduce | None = None,
) -> OrthogonalitySummary:
    """Compare the decision axes of all pairs of tasks.

    A task with more than `MOST_PAIRS` pairs of classes is represented by that many, drawn with a
    fixed seed.

    Args:
        features: [N, D], floating point.
        tasks: At least two tasks, name -> labels [N], integers in [0, C) of the task.
        num_classes: Task -> C; default the largest label + 1. Required with `reduce`.
        matrices: Also return all |cos|.
        reduce: As in `orthogonality_bound`.

    Returns:
        Scalars, for every two tasks in the order given: "{a}-{b}/abs_cos", |cos| averaged over all
        pairs of pairs, "/abs_cos_max", "/bound", the average of the largest |cos| in the general
        interval, "/dependence", Cramér's V of the labels; and "floor", `random_floor(D)`. Pairs of
        classes without an axis are left out; nan where a task has none left.

    Raises:
        ValueError: fewer than two tasks, a task whose labels do not fit or hold one class; it is
            named.

    Warns:
        UserWarning: pairs of classes without an axis.

    Examples:
        >>> shape, colour = torch.arange(60) % 2, torch.arange(60) % 3
        >>> found = orthogonality_summary(torch.randn(60, 8), {"shape": shape, "colour": colour})
        >>> list(found.scalars)[:2]
        ['shape-colour/abs_cos', 'shape-colour/abs_cos_max']
    """
    check_tasks(features, tasks, num_classes)
    scalars, cosines = {}, {}
    with exact_arithmetic(features.device):
        found = task_axes(features, tasks, num_classes or {}, reduce, _some)
        for one, two in combinations(tasks, 2):
            a, b, name = found[one], found[two], f"{one}-{two}"
            table = _table(tasks[one], tasks[two], a, b, reduce)
            mean, largest, bound, matrix = _averages(a, b, table, _slack(features), matrices)
            scalars[f"{name}/abs_cos"] = mean
            scalars[f"{name}/abs_cos_max"] = largest
            scalars[f"{name}/bound"] = bound
            scalars[f"{name}/dependence"] = table_dependence(table)
            if matrices:
                cosines[name] = matrix
        scalars["floor"] = scalars[f"{name}/abs_cos"].new_tensor(random_floor(features.shape[1]))
    return OrthogonalitySummary(scalars, cosines, {task: found[task].pairs for task in tasks})


def check_tasks(
    features: Tensor, tasks: Mapping[str, Tensor], num_classes: Mapping[str, int] | None = None
) -> None:
    """Check that there are at least two tasks, with labels that fit features [N, D], N >= 0.

    Raises:
        ValueError: naming the task, what was expected, what came and what to do.
    """
    if len(tasks) < 2:
        raise ValueError(
            f"orthogonality compares at least two tasks, got {list(tasks)}. Pass a dict task -> "
            "labels, or leave this metric out."
        )
    for name, labels in tasks.items():
        # One batch need not hold a task's last classes.
        high = int(labels.long().max()) + 2 if labels.numel() else 2
        check_task(name, features, labels, (num_classes or {}).get(name, high), True)


def _averages(
    a: TaskAxes, b: TaskAxes, table: Tensor, slack: float, matrices: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mean and largest |cos|, mean of its bound, and if asked all |cos| [Pa, Pb]."""
    entries = len(a.pairs) * len(b.pairs)
    nothing = a.mean.new_tensor(torch.nan)
    matrix = torch.zeros((len(a.pairs), len(b.pairs)) if matrices else (0, 0), device=table.device)
    if entries == 0:
        return nothing, nothing, nothing, matrix
    mean, bound, largest = (a.mean.new_zeros(()) for _ in range(3))
    step = max(1, CHUNK_ENTRIES // len(b.pairs))
    for begin in range(0, len(a.pairs), step):
        part = a.take(slice(begin, begin + step))
        cosine, interval = part.cosines(b).abs(), _general(part, b, table, slack)
        mean += cosine.sum() / entries
        bound += torch.maximum(interval.low.abs(), interval.high.abs()).sum() / entries
        largest = torch.maximum(largest, cosine.max())
        if matrices:
            matrix[begin : begin + step] = cosine
    return mean, largest, bound, matrix


def _general(a: TaskAxes, b: TaskAxes, table: Tensor, slack: float) -> Interval:
    low, high = _one_sided(a, b, table)
    swapped_low, swapped_high = _one_sided(b, a, table.T)
    rounding = slack * (a.scale / a.distance)[:, None] * (b.scale / b.distance)
    return Interval(
        low=(torch.maximum(low, swapped_low.T) - rounding).clamp(-1, 1),
        high=(torch.minimum(high, swapped_high.T) + rounding).clamp(-1, 1),
    )


def _one_sided(one: TaskAxes, two: TaskAxes, table: Tensor) -> tuple[Tensor, Tensor]:
    """The interval that conditions on the classes of `two`; ends [P1, P2].

    h = 1[y1=a]/pi_a - 1[y1=b]/pi_b has three values, so its mean and variance within a class c of
    `two` follow from the contingency table [C1, C2].
    """
    a, b = one.pairs.T
    number = table.sum()
    size = two.count.clamp(min=1)
    in_a, in_b = table[a] / size, table[b] / size
    elsewhere = (two.count - table[a] - table[b]) / size
    value_a, value_b = (number / one.count[a])[:, None], (number / one.count[b])[:, None]
    mean = value_a * in_a - value_b * in_b
    # As a sum over pairs of values, exactly 0 where h is constant.
    variance = in_a * in_b * (value_a + value_b).square() + elsewhere * (
        in_a * value_a.square() + in_b * value_b.square()
    )
    weight = two.count / number
    distance = one.distance[:, None]
    centre = (weight * mean) @ two.along(two.mean).T / distance
    radius = (weight * variance.sqrt()) @ two.variance.sqrt().T / distance
    return centre - radius, centre + radius


def _proposition_4_2(a: TaskAxes, b: TaskAxes) -> Interval:
    classes_a, classes_b = (a.count > 0).sum(), (b.count > 0).sum()
    root_a = (2 * classes_b * a.variance.gather(1, a.pairs).mean(1)).sqrt()
    root_b = (2 * classes_a * b.variance.gather(1, b.pairs).mean(1)).sqrt()
    # (d_a / d_b) sqrt(V_a): one distance cancels.
    high = torch.minimum(root_a[:, None] / b.distance, root_b / a.distance[:, None]).clamp(max=1)
    return Interval(low=-high, high=high)


def _table(
    labels_a: Tensor, labels_b: Tensor, a: TaskAxes, b: TaskAxes, reduce: Reduce | None
) -> Tensor:
    """Number of samples of each combination of classes on all shards, [Ca, Cb]."""
    device, dtype = a.count.device, a.count.dtype
    labels = labels_a.to(device), labels_b.to(device)
    table = contingency(*labels, len(a.count), len(b.count)).to(dtype)
    return table if reduce is None else reduce(table)


def _slack(features: Tensor) -> float:
    return 1e-12 if features.dtype == torch.float64 else 1e-7


def _some(name: str, pairs: Tensor) -> Tensor:
    if len(pairs) <= MOST_PAIRS:
        return pairs
    order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(0))
    return pairs[order[:MOST_PAIRS].sort().values.to(pairs.device)]


def _check_pairs(name: str, chosen: Tensor, resolved: Tensor) -> Tensor:
    """Chosen pairs on the device of the resolved ones, of which each must be one."""
    chosen = chosen.to(resolved.device).long().view(-1, 2)
    known = {tuple(pair) for pair in resolved.tolist()}
    wrong = [pair for pair in chosen.tolist() if tuple(sorted(pair)) not in known]
    if wrong:
        raise ValueError(
            f"pairs_{name} must be of two different classes that have samples and distinct means, "
            f"got {wrong[0]}. Choose among decision_axes(class_geometry(features, labels_{name}))."
        )
    return chosen
