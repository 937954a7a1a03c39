"""Whether the class means lie on a circle, as of tasks that are cyclic."""

from __future__ import annotations

from functools import partial

from dnc_lightning.functional.cyclic import LEAST_CLASSES, cyclic
from dnc_lightning.functional.unbiased import MIN_SAMPLES
from dnc_lightning.probe.bench import Bench
from dnc_lightning.probe.instrument import Found
from dnc_lightning.series import Reference, Series

MOST_CLASSES = 1024
"""The cost is the cube of their number."""

_cyclic = partial(Series, group="Cyclic geometry", low=0.0, most_classes=MOST_CLASSES)


class CyclicGeometry:
    """Circle, line or horseshoe: the plane figure of the means, from unbiased distances."""

    name = "cyclic"
    series = (
        _cyclic(
            key="cyclic/plane",
            title="Share in a plane",
            meaning="of the squared lengths of the centred class means, in their two widest "
            "directions",
            references=(Reference("of a circle", 1.0),),
        ),
        _cyclic(
            key="cyclic/balance",
            title="Balance of the plane",
            meaning="second widest over widest direction, squared: 1 of a circle, 0 of a line",
            references=(Reference("of a circle", 1.0),),
        ),
        _cyclic(
            key="cyclic/fourier",
            title="Share of one frequency",
            meaning="largest share of one frequency of the class means over the order of the "
            "classes: 1 where they go round evenly in that order",
            high=1.0,
            references=(Reference("of a circle", 1.0),),
        ),
        _cyclic(
            key="cyclic/radius_spread",
            title="Spread of the radii",
            meaning="standard deviation over mean of the distances from the centre in that plane",
        ),
        _cyclic(
            key="cyclic/gap_spread",
            title="Spread of the gaps",
            meaning="standard deviation over mean of the angles between neighbours in that plane",
        ),
    )

    def measure(self, bench: Bench) -> Found:
        """Nothing beside the geometry but the eigenvalues of a C x C matrix."""
        classes = len(bench.classes)
        if classes < LEAST_CLASSES or classes > MOST_CLASSES:
            few = f"it needs {LEAST_CLASSES} to {MOST_CLASSES:,} classes, here are {classes:,}"
            return Found(notes=[f"Cyclic geometry is nan: {few}."])
        if min(bench.counts) < MIN_SAMPLES:
            few = f"unbiased distances need {MIN_SAMPLES} samples of each class"
            return Found(notes=[f"Cyclic geometry is nan: {few}."])
        found = cyclic(bench.unbiased_geometry)
        notes = []
        if found.shape is not None:
            turns = ""
            if found.shape in ("circle", "ellipse"):
                turns = f", frequency {int(found.frequency)}"
            article = "an" if found.shape[0] in "eu" else "a"
            what = f"{article} {found.shape}{turns}"
            notes = [f"The class means of {bench.name} are drawn up as {what}."]
        return Found(
            {
                "cyclic/plane": found.plane,
                "cyclic/balance": found.balance,
                "cyclic/fourier": found.fourier,
                "cyclic/radius_spread": found.radius_spread,
                "cyclic/gap_spread": found.gap_spread,
            },
            notes=notes,
        )


INSTRUMENT = CyclicGeometry()
