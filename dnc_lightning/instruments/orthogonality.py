"""The angles between the decision axes of several tasks."""

from __future__ import annotations

import warnings
from functools import partial

from dnc_lightning.functional import orthogonality_summary
from dnc_lightning.probe.bench import Bench
from dnc_lightning.probe.instrument import Found
from dnc_lightning.series import Reference, Series

LARGEST_MATRIX = 2**16
"""Most pairs of pairs whose |cos| are recorded one by one, 256 KB a probe."""

_series = partial(Series, group="Angles between tasks", low=0.0, high=1.0, scope="tasks")
_cosine = partial(_series, direction="lower", references=(Reference("random directions", "floor"),))
_mean = partial(_cosine, scale="log")


class Orthogonality:
    """How far any two tasks are from using the same directions."""

    name = "orthogonality"
    series = (
        _mean(
            "{a}-{b}/abs_cos",
            "Mean |cos|, {a} and {b}",
            "between the decision axes of two tasks, over all pairs of pairs of classes",
            role="measured",
        ),
        _mean("{a}-{b}/abs_cos_max", "Largest |cos|, {a} and {b}", "the largest of them"),
        _mean(
            "{a}-{b}/bound",
            "Bound on |cos|, {a} and {b}",
            "mean of the bounds on them",
            role="bound",
        ),
        _series(
            "{a}-{b}/dependence",
            "Dependence of {a} and {b}",
            "Cramér's V of the two labelings: 0 independent, 1 one gives the other",
        ),
        _series(
            "floor",
            "|cos| of random directions",
            "of two random directions of as many dimensions as the features have",
        ),
        _cosine(
            "{a}-{b}",
            "|cos|, {a} and {b}",
            "of every pair of classes of one task with every pair of the other",
            axes=("pair of a", "pair of b"),
        ),
    )

    def measure(self, bench: Bench) -> Found:
        """Compare every two tasks; large matrices are averaged alone."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pairs without an axis: said of every task already
            summary = orthogonality_summary(
                bench.features,
                {name: task.labels for name, task in bench.tasks.items()},
                num_classes={name: len(task.classes) for name, task in bench.tasks.items()},
                reduce=bench.reduce,
            )
        cosines = summary.abs_cosines.items()
        return Found(
            summary.scalars,
            {name: matrix for name, matrix in cosines if matrix.numel() <= LARGEST_MATRIX},
        )


INSTRUMENT = Orthogonality()
