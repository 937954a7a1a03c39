"""Whether the rare classes of an imbalanced training set fall together: minority collapse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from dnc_lightning.functional.imbalance import minority, minority_means, minority_rows
from dnc_lightning.functional.unbiased import MIN_SAMPLES
from dnc_lightning.probe.bench import Bench
from dnc_lightning.probe.heads import Head
from dnc_lightning.probe.instrument import Found
from dnc_lightning.probe.labels import read_tasks
from dnc_lightning.series import Reference, Series

Counts = Sequence[int] | Mapping[str, int]

_imbalance = partial(Series, group="Imbalance")

MEANS = (
    _imbalance(
        key="imbalance/minority_distance",
        title="Distance of rare classes",
        meaning="median squared distance between the means of two classes that are rare in "
        "training, over that of any two; unbiased",
        direction="higher",
        references=(Reference("all classes alike", 1.0),),
    ),
    _imbalance(
        key="imbalance/minority_unresolved",
        title="Rare classes not told apart",
        meaning="share of the pairs of rare classes whose means are within 3 standard errors",
        low=0.0,
        high=1.0,
        direction="lower",
        references=(Reference("frequent classes", "imbalance/majority_unresolved"),),
    ),
    _imbalance(
        key="imbalance/majority_unresolved",
        title="Frequent classes not told apart",
        meaning="the same of the pairs of frequent classes",
        low=0.0,
        high=1.0,
        direction="lower",
    ),
    _imbalance(
        key="imbalance/unresolved_excess",
        title="Excess of rare classes",
        meaning="by how many binomial standard errors the share of rare pairs that are not told "
        "apart is above that of frequent ones",
        direction="lower",
    ),
    _imbalance(
        key="imbalance/mean_growth",
        title="Growth of the means",
        meaning="slope of the logarithm of a class mean's length over that of the class's number "
        "of training samples",
        references=(Reference("orthogonal frame", -0.25),),
    ),
    _imbalance(
        key="imbalance/mean_lengths",
        title="Lengths of the means",
        meaning="of each class, from the unweighted mean of all; unbiased",
        low=0.0,
        axes=("class",),
    ),
)
HEAD = (
    _imbalance(
        key="imbalance/head_cosine",
        title="Rows of rare classes, cosine",
        meaning="least cosine between the head's rows, centred over classes, of two rare classes: "
        "1 when they have fallen together",
        high=1.0,
        direction="lower",
    ),
    _imbalance(
        key="imbalance/head_length",
        title="Rows of rare classes, length",
        meaning="shortest centred row of a rare class over the median of all: 0 when it is gone",
        low=0.0,
        direction="higher",
        references=(Reference("all classes alike", 1.0),),
    ),
    _imbalance(
        key="imbalance/head_growth",
        title="Growth of the rows",
        meaning="slope of the logarithm of a row's length over that of the class's number of "
        "training samples",
        references=(Reference("orthogonal frame", 0.25),),
    ),
    _imbalance(
        key="imbalance/row_lengths",
        title="Lengths of the rows",
        meaning="of the head's rows, centred over classes",
        low=0.0,
        axes=("class",),
    ),
)


class Imbalance:
    """Class means, and a head's rows, of classes that are rare in training beside all others.

    The probe set should have as many samples of every class, as it has by default: it cannot show
    the imbalance, which is why the counts of training are asked for. Rare are the classes with
    fewer training samples than the geometric mean of the largest and the smallest number.

    Args:
        counts: Training samples of each class: a number by class name, or [K] numbers in the order
            of the probe's classes.
        head: Name of the module's linear layer, as of `Duality`; None for encoders without one.
        task: That the counts, and the head, are of.

    Raises:
        ValueError: a count below 1.
    """

    name = "imbalance"
    series: tuple[Series, ...] = MEANS

    def __init__(
        self, counts: Counts | None = None, head: str | None = None, task: str = "label"
    ) -> None:
        if counts is not None:
            minority(_numbers(counts))
        self.counts = counts
        self.head = head
        self.tasks = () if counts is None else (task,)
        self.heads = () if head is None else (head,)
        if head is not None:
            self.series = (*MEANS, *HEAD)

    @classmethod
    def of(
        cls, dataset: Any, head: str | None = None, task: str = "label", labels: Any = None
    ) -> Imbalance:
        """Count the labels of a training set, read as `ProbeSet` reads those of a probe.

        Args:
            dataset: Map-style, with labels.
            head: As the class.
            task: Which of its tasks.
            labels: As `ProbeSet`'s, in place of the items'.

        Raises:
            ValueError: a task that the data set does not have.
        """
        tasks = read_tasks(dataset, labels)
        if task not in tasks:
            raise ValueError(
                f"the data set has no task {task!r}, but {', '.join(map(repr, tasks))}. Name one."
            )
        found = tasks[task]
        number = torch.bincount(found.labels, minlength=len(found.classes)).tolist()
        return cls(dict(zip(found.classes, number, strict=True)), head, task)

    def measure(self, bench: Bench) -> Found:
        """Nothing beside the geometry and the head but sorting C x C distances."""
        counts = self._counts(bench.classes)
        if isinstance(counts, str):
            return Found(notes=[f"Imbalance is nan: {counts}."])
        if min(bench.counts) < MIN_SAMPLES:
            few = f"unbiased distances need {MIN_SAMPLES} samples of each class"
            return Found(notes=[f"Imbalance is nan: {few}."])
        found = minority_means(bench.unbiased_geometry, counts)
        scalars = {
            "imbalance/minority_distance": found.distance,
            "imbalance/minority_unresolved": found.unresolved,
            "imbalance/majority_unresolved": found.unresolved_others,
            "imbalance/unresolved_excess": found.excess,
            "imbalance/mean_growth": found.growth,
        }
        arrays = {"imbalance/mean_lengths": found.lengths}
        if self.head is None:
            return Found(scalars, arrays)
        head = bench.heads.get(self.head, "this module is not the one that trains")
        if not isinstance(head, Head):
            return Found(scalars, arrays, [f"The head's imbalance is nan: {head}."])
        if len(head.weight) != len(counts):
            rows = f"{self.head!r} has {len(head.weight)} rows, here are {len(counts)} classes"
            return Found(scalars, arrays, [f"The head's imbalance is nan: {rows}."])
        its = minority_rows(head.weight, counts)
        scalars |= {
            "imbalance/head_cosine": its.cosine,
            "imbalance/head_length": its.length,
            "imbalance/head_growth": its.growth,
        }
        return Found(scalars, arrays | {"imbalance/row_lengths": its.lengths})

    def _counts(self, classes: Sequence[str]) -> Tensor | str:
        """[K] in the order of the classes, or why there are none."""
        if self.counts is None:
            return (
                "the training samples of each class are not known. Give metrics=[Imbalance(counts)]"
            )
        if isinstance(self.counts, Mapping):
            lacking = [name for name in classes if name not in self.counts]
            if lacking:
                return f"counts has no class {lacking[0]!r}"
            return _numbers([self.counts[name] for name in classes])
        if len(self.counts) != len(classes):
            return f"counts has {len(self.counts)} classes, the task {len(classes)}"
        return _numbers(self.counts)


def _numbers(counts: Counts) -> Tensor:
    return torch.tensor(list(counts.values() if isinstance(counts, Mapping) else counts))


INSTRUMENT = Imbalance()
