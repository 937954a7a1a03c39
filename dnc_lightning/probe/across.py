"""What the tasks of a probe say together."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import torch
from torch import Tensor

from dnc_lightning.functional import orthogonality_summary
from dnc_lightning.functional._scale import unit_rows
from dnc_lightning.functional._tiles import Reduce
from dnc_lightning.probe.keys import across_keys
from dnc_lightning.probe.labels import Task
from dnc_lightning.probe.measure import Measurement

LARGEST_MATRIX = 2**16
"""Most pairs of pairs whose |cos| are recorded one by one, 256 KB a probe."""


def measure_across(
    features: Tensor,
    tasks: Mapping[str, Task],
    reduce: Reduce | None,
    *,
    normalize: bool = False,
) -> Measurement:
    """Compare the decision axes of all pairs of tasks in one encoder's features.

    Args:
        features: [n, D], this process's shard.
        tasks: At least two, with labels [n] of the same samples.
        reduce: Sums a tensor over all processes; None for one.
        normalize: L2-normalise the features first.

    Returns:
        The scalars of `orthogonality_summary`, and |cos| [Pa, Pb] per pair of tasks up to
        `LARGEST_MATRIX`; nan where a feature is not finite, which `measure` warns about.
    """
    found = Measurement(dict.fromkeys(across_keys(tasks), float("nan")))
    broken = (~features.isfinite().all(1)).sum()
    if int(broken if reduce is None else reduce(broken)):
        return found
    if normalize:
        features = unit_rows(features)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # `measure` says the same of every task
        summary = orthogonality_summary(
            features,
            {name: task.labels for name, task in tasks.items()},
            num_classes={name: len(task.classes) for name, task in tasks.items()},
            reduce=reduce,
        )
    values = torch.stack([value.to(torch.float64) for value in summary.scalars.values()]).tolist()
    found.scalars.update(zip(summary.scalars, values, strict=True))
    found.matrices.update(
        (name, matrix)
        for name, matrix in summary.abs_cosines.items()
        if matrix.numel() <= LARGEST_MATRIX
    )
    return found
