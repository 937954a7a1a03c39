"""Several labelings of the same samples: dependence, and coarser classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import index
from typing import SupportsIndex

import torch
from torch import Tensor

from dnc_lightning.functional._checks import check_labels

Coarser = Mapping[int, int] | Mapping[int, str] | Mapping[str, int] | Mapping[str, str] | Tensor
"""Fine class -> coarse class, each by number or name; or coarse numbers in a tensor [C]."""


def cramers_v(labels_a: Tensor, labels_b: Tensor) -> Tensor:
    """Dependence of two labelings: 0 if independent in these samples, 1 if one gives the other.

    Cramér's V = sqrt(chi^2 / (N (K - 1))), K the smaller number of classes with samples; for two
    binary labelings the absolute correlation. No correction for chance: labelings drawn
    independently, with r and c classes, have E chi^2 about (r - 1)(c - 1).

    Args:
        labels_a: [N], integers of at least 0.
        labels_b: [N], the same samples.

    Returns:
        Scalar in [0, 1], float64 (float32 on MPS); 0 where a labeling has one class only.

    Raises:
        ValueError: labels that are negative, not integers, of different length or none.

    Examples:
        >>> cramers_v(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 0, 2, 2]))
        tensor(1., dtype=torch.float64)
    """
    check_labels(labels_a, len(labels_a))
    check_labels(labels_b, len(labels_a))
    labels_a, labels_b = labels_a.long(), labels_b.long()
    if not len(labels_a) or int(torch.minimum(labels_a, labels_b).min()) < 0:
        raise ValueError(
            "labels must be at least 0, of at least one sample, got "
            f"{'none' if not len(labels_a) else 'negative ones'}. Drop unlabelled samples first."
        )
    classes = int(labels_a.max()) + 1, int(labels_b.max()) + 1
    return table_dependence(contingency(labels_a, labels_b, *classes))


def contingency(labels_a: Tensor, labels_b: Tensor, classes_a: int, classes_b: int) -> Tensor:
    """Number of samples of each combination of classes, int64 [Ca, Cb]."""
    cell = labels_a.long() * classes_b + labels_b.long()
    return torch.bincount(cell, minlength=classes_a * classes_b).view(classes_a, classes_b)


def table_dependence(table: Tensor) -> Tensor:
    """Cramér's V of a contingency table [Ca, Cb] of counts."""
    table = table.to(torch.float32 if table.device.type == "mps" else torch.float64)
    rows, columns = table.sum(1), table.sum(0)
    expected = rows[:, None] * columns / table.sum().clamp(min=1)
    chi2 = ((table - expected).square() / expected.where(expected > 0, 1.0)).sum()
    smaller = torch.minimum((rows > 0).sum(), (columns > 0).sum())
    return (chi2 / (table.sum() * (smaller - 1)).clamp(min=1)).sqrt().clamp(max=1)


def coarsen(
    labels: Tensor,
    mapping: Coarser,
    *,
    classes: Sequence[str] | None = None,
) -> Tensor:
    """Replace fine classes by the coarser ones that hold them.

    Args:
        labels: [N], integers in [0, C).
        mapping: Fine class -> coarse class. Fine classes are integers, or names if `classes` is
            given; coarse classes are integers of at least 0, or names, which are then numbered in
            sorted order. Or a tensor [C] of integers.
        classes: C names of the fine classes.

    Returns:
        [N] int64 on the device of `labels`.

    Raises:
        ValueError: a class of the labels that the mapping misses, which is named; coarse classes
            that are negative or partly names.

    Examples:
        >>> names = ["cat", "dog", "car"]
        >>> kind = {"cat": "animal", "dog": "animal", "car": "vehicle"}
        >>> coarsen(torch.tensor([0, 2, 1]), kind, classes=names).tolist()
        [0, 1, 0]
    """
    check_labels(labels, len(labels))
    fine, place = torch.unique(labels, return_inverse=True)
    coarse = torch.tensor(_lookup(mapping, fine.tolist(), classes), dtype=torch.long)
    return coarse.to(labels.device)[place]


def _lookup(mapping: Coarser, fine: list[int], classes: Sequence[str] | None) -> list[int]:
    """Coarse numbers of the `fine` classes."""
    pairs = enumerate(mapping.tolist()) if isinstance(mapping, Tensor) else mapping.items()
    given: dict[object, object] = dict(pairs)
    coarse = set(given.values())
    if any(isinstance(c, str) for c in coarse):
        if not all(isinstance(c, str) for c in coarse):
            raise ValueError("coarse classes must be all integers or all names, got some of both.")
        number = {name: k for k, name in enumerate(sorted(map(str, coarse)))}
        given = {c: number[str(value)] for c, value in given.items()}
    out = []
    for c in fine:
        name = classes[c] if classes is not None and 0 <= c < len(classes) else None
        key = c if name is None or name not in given else name
        if key not in given:
            listed = f"{c}" if name is None else f"{c} ({name!r})"
            raise ValueError(
                f"mapping must name every class of the labels, got none for class {listed}. Add "
                "it, or drop its samples."
            )
        value = given[key]
        if not isinstance(value, SupportsIndex) or index(value) < 0:
            raise ValueError(f"coarse classes must be integers of at least 0, got {value!r}.")
        out.append(index(value))
    return out
