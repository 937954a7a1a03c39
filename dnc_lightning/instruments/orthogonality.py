"""The angles between the decision axes of several tasks."""

from __future__ import annotations

import warnings

from dnc_lightning.functional import orthogonality_summary
from dnc_lightning.probe.bench import Bench
from dnc_lightning.probe.instrument import Found
from dnc_lightning.series import Reference, Series

LARGEST_MATRIX = 2**16
"""Most pairs of pairs whose |cos| are recorded one by one, 256 KB a probe."""

_FLOOR = (Reference("random directions", "floor"),)


class Orthogonality:
    """How far any two tasks are from using the same directions."""

    name = "orthogonality"
    series = (
        Series(
            key="{a}-{b}/abs_cos",
            title="Mean |cos|, {a} and {b}",
            meaning="between the decision axes of two tasks, over all pairs of pairs of classes",
            group="Angles between tasks",
            low=0.0,
            high=1.0,
            direction="lower",
            scale="log",
            references=_FLOOR,
            role="measured",
            scope="tasks",
        ),
        Series(
            key="{a}-{b}/abs_cos_max",
            title="Largest |cos|, {a} and {b}",
            meaning="the largest of them",
            group="Angles between tasks",
            low=0.0,
            high=1.0,
            direction="lower",
            scale="log",
            references=_FLOOR,
            scope="tasks",
        ),
        Series(
            key="{a}-{b}/bound",
            title="Bound on |cos|, {a} and {b}",
            meaning="mean of the bounds on them",
            group="Angles between tasks",
            low=0.0,
            high=1.0,
            direction="lower",
            scale="log",
            references=_FLOOR,
            role="bound",
            scope="tasks",
        ),
        Series(
            key="{a}-{b}/dependence",
            title="Dependence of {a} and {b}",
            meaning="Cramér's V of the two labelings: 0 independent, 1 one gives the other",
            group="Angles between tasks",
            low=0.0,
            high=1.0,
            scope="tasks",
        ),
        Series(
            key="floor",
            title="|cos| of random directions",
            meaning="of two random directions of as many dimensions as the features have",
            group="Angles between tasks",
            low=0.0,
            high=1.0,
            scope="tasks",
        ),
        Series(
            key="{a}-{b}",
            title="|cos|, {a} and {b}",
            meaning="of every pair of classes of one task with every pair of the other",
            group="Angles between tasks",
            low=0.0,
            high=1.0,
            direction="lower",
            references=_FLOOR,
            axes=("pair of a", "pair of b"),
            scope="tasks",
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
