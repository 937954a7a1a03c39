"""Which samples of a labelled data set a probe takes."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from dnc_lightning.probe.labels import Task


def stratified(tasks: Mapping[str, Task], per_class: int, seed: int) -> Tensor:
    """Choose samples so that every class of every task has at least `per_class` of them.

    Samples are dealt in rounds, one from each combination of classes that still lacks some, in an
    order that depends on `seed` alone. For one task this gives exactly `per_class` samples a
    class; for several, combinations stay as balanced as the data allow, so that independent
    factors stay independent in the probe.

    Args:
        tasks: Labellings of the same N samples.
        per_class: Samples wanted of each class.
        seed: Of the choice and of the order.

    Returns:
        [n] indices into the data set, in random order.

    Raises:
        ValueError: a class has fewer than `per_class` samples; names it and its count.
    """
    for name, task in tasks.items():
        count = torch.bincount(task.labels, minlength=len(task.classes))
        short = (count < per_class).nonzero().flatten().tolist()
        if short:
            listed = ", ".join(f"{task.classes[c]!r} has {int(count[c])}" for c in short[:5])
            raise ValueError(
                f"per_class={per_class} samples of each class wanted, but of task {name!r} {listed}"
                f"{' ...' if len(short) > 5 else ''}. Lower per_class or pass a larger data set."
            )
    generator = torch.Generator().manual_seed(seed)
    labels = torch.stack([task.labels for task in tasks.values()], 1)
    shuffled = torch.randperm(len(labels), generator=generator)
    cells, cell = torch.unique(labels[shuffled], dim=0, return_inverse=True)
    cell = torch.randperm(len(cells), generator=generator)[cell]
    by_cell = cell.argsort(stable=True)
    size = torch.bincount(cell)
    rank = torch.arange(len(cell)) - (size.cumsum(0) - size)[cell[by_cell]]
    dealt = shuffled[by_cell[rank.argsort(stable=True)]]
    # With many small combinations a whole round would already overshoot: deal one by one.
    widest = max(len(task.classes) for task in tasks.values())
    step = rank.sort().values if len(cells) <= per_class * widest else torch.arange(len(cell))
    lacking = [torch.full((len(task.classes),), per_class) for task in tasks.values()]
    chosen: list[Tensor] = []
    for block in torch.split(dealt, torch.bincount(step).tolist()):
        wanted = torch.zeros(len(block), dtype=torch.bool)
        for need, column in zip(lacking, labels[block].T, strict=True):
            wanted |= need[column] > 0
        taken = block[wanted]
        for need, column in zip(lacking, labels[taken].T, strict=True):
            need -= torch.bincount(column, minlength=len(need))
        chosen.append(taken)
        if all(int(need.max()) <= 0 for need in lacking):
            break
    indices = torch.cat(chosen)
    return indices[torch.randperm(len(indices), generator=generator)]
