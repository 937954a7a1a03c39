"""Whether the means of ordered classes lie on a line, in their order."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from dnc_lightning.functional.regression import ordinal_collapse
from dnc_lightning.functional.unbiased import MIN_SAMPLES
from dnc_lightning.probe.bench import Bench
from dnc_lightning.probe.instrument import Found
from dnc_lightning.series import Reference, Series

MOST_CLASSES = 1024
"""The cost is the cube of their number."""

_ordinal = partial(Series, group="Ordered classes", most_classes=MOST_CLASSES)


class Ordinal:
    """Line and order of the class means of a task whose classes are ordered, such as ages.

    Args:
        tasks: Names of the tasks whose classes are ordered, as their labels; () for all.
    """

    name = "ordinal"
    series = (
        _ordinal(
            key="ordinal/off_line",
            title="Off the line",
            meaning="share of the squared lengths of the centred class means that is off their "
            "main direction: 0 where ordered classes collapse to a line",
            low=0.0,
            high=1.0,
            direction="lower",
        ),
        _ordinal(
            key="ordinal/order",
            title="Order on the line",
            meaning="Kendall's tau of the classes' places in that direction with their order, "
            "without its sign",
            low=0.0,
            high=1.0,
            direction="higher",
            references=(Reference("in order", 1.0),),
        ),
        _ordinal(
            key="ordinal/gap_spread",
            title="Spread of the steps",
            meaning="standard deviation over mean of the gaps between neighbouring classes in that "
            "direction",
            low=0.0,
        ),
    )

    def __init__(self, tasks: Sequence[str] = ()) -> None:
        self.tasks = tasks

    def measure(self, bench: Bench) -> Found:
        """Nothing beside the geometry but the eigenvalues of a C x C matrix."""
        classes = len(bench.classes)
        if classes < 3 or classes > MOST_CLASSES:
            few = f"it needs 3 to {MOST_CLASSES:,} classes, {bench.name} has {classes:,}"
            return Found(notes=[f"The order of the classes is nan: {few}."])
        if min(bench.counts) < MIN_SAMPLES:
            few = f"unbiased distances need {MIN_SAMPLES} samples of each class"
            return Found(notes=[f"The order of the classes is nan: {few}."])
        found = ordinal_collapse(bench.unbiased_geometry)
        return Found({
            "ordinal/off_line": found.off_line,
            "ordinal/order": found.order,
            "ordinal/gap_spread": found.gap_spread,
        })  # fmt: skip


INSTRUMENT = Ordinal()
