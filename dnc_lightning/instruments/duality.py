"""Neural collapse of a classifier: NC3 and NC4 of a head, and an anisotropy where there is none."""

from __future__ import annotations

from functools import partial

import torch

from dnc_lightning.functional.duality import (
    SAMPLES_PER_DIMENSION,
    duality,
    head_decisions,
    least_squares_duality,
)
from dnc_lightning.functional.unbiased import MIN_SAMPLES
from dnc_lightning.probe.bench import Bench
from dnc_lightning.probe.heads import Head
from dnc_lightning.probe.instrument import Found
from dnc_lightning.series import CHANCE, Reference, Series

_UNRELATED = (Reference("unrelated", 2.0),)
_head = partial(Series, group="Head", low=0.0)

HEAD = (
    _head(
        key="nc3",
        title="NC3",
        meaning="squared distance of the head's rows from the class means, both centred over "
        "classes and of norm 1, by unbiased moments",
        direction="lower",
        references=_UNRELATED,
    ),
    Series(
        key="nc3/cosine",
        title="NC3, cosine",
        meaning="mean over classes of the cosine between a row of the head and the class's mean",
        group="Head",
        high=1.0,
        direction="higher",
    ),
    _head(
        key="nc3/cosine_spread",
        title="NC3, spread of the cosines",
        meaning="standard deviation over classes of the cosine between row and mean",
        direction="lower",
    ),
    _head(
        key="nc4",
        title="NC4",
        meaning="share of samples for which the head and the nearest class centre, of the other "
        "half of the samples, name different classes",
        high=1.0,
        direction="lower",
        references=(Reference("chance", CHANCE),),
    ),
    _head(
        key="nc4/head",
        title="Accuracy of the head",
        meaning="share of samples that the module's own head classifies rightly",
        high=1.0,
        direction="higher",
    ),
    _head(
        key="nc4/centre",
        title="Accuracy of class centres",
        meaning="share of samples whose nearest class centre, of the other half, is their own",
        high=1.0,
        direction="higher",
    ),
)
LEAST_SQUARES = _head(
    key="ls_duality",
    title="Least-squares duality",
    meaning="squared distance of a least-squares head from the class means, each of one half: an "
    "anisotropy of the features, not NC3; nan with fewer than "
    f"{2 * SAMPLES_PER_DIMENSION} samples a dimension",
    direction="lower",
    references=_UNRELATED,
    thorough=True,
)


class Duality:
    """How a linear head lies to the class means, and whether it decides as they do.

    Args:
        head: Name of the module's linear layer that takes the features of the probed encoder,
            "classifier" or "model.fc"; None for encoders without one.
        task: That the head was trained for, its classes in the same order.
    """

    name = "duality"
    series: tuple[Series, ...] = (LEAST_SQUARES,)

    def __init__(self, head: str | None = None, task: str = "label") -> None:
        self.head = head
        self.task = task
        self.heads = () if head is None else (head,)
        if head is not None:
            self.series = (*HEAD, LEAST_SQUARES)

    def measure(self, bench: Bench) -> Found:
        """One product with the means and the head; a D x D system at thorough probes."""
        scalars: dict[str, torch.Tensor | float] = {}
        if bench.thorough and min(bench.counts) >= 2:
            scalars["ls_duality"] = least_squares_duality(
                bench.features, bench.labels, len(bench.counts), shard=bench.shard
            )
        if self.head is None or bench.name != self.task:
            return Found(scalars)
        head = self._head(bench)
        if isinstance(head, str):
            return Found(scalars, notes=[f"NC3 and NC4 are nan: {head}."])
        found = duality(head.weight, bench.unbiased_geometry)
        decided = head_decisions(
            bench.features, bench.labels, head.weight, head.bias, shard=bench.shard
        )
        scalars |= {
            "nc3": found.distance,
            "nc3/cosine": found.cosine,
            "nc3/cosine_spread": found.cosine_spread,
            "nc4": decided.mismatch,
            "nc4/head": decided.head,
            "nc4/centre": decided.centre,
        }
        return Found(scalars)

    def _head(self, bench: Bench) -> Head | str:
        """The head, if it can be compared with these features; otherwise why not."""
        head = bench.heads.get(str(self.head), "this module is not the one that trains")
        wanted = (len(bench.classes), bench.features.shape[1])
        if isinstance(head, Head) and tuple(head.weight.shape) != wanted:
            return f"{self.head!r} is {list(head.weight.shape)}, here are {list(wanted)}"
        if bench.settings.normalize:
            return "the probe normalises features, which the head is given as they are"
        if min(bench.counts) < MIN_SAMPLES:
            return f"unbiased moments need {MIN_SAMPLES} samples of each class"
        return head


INSTRUMENT = Duality()
