"""What a finished run showed, read from its records."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean, geometric_mean

from dnc_lightning.records.store import Run

METHODS = {
    "simclr": "SimCLR",
    "vicreg": "VICReg",
    "dino": "DINO (student)",
    "dinov2": "DINOv2 (student)",
    "mae": "MAE",
    "supervised": "supervised",
}


@dataclass(frozen=True)
class Outcome:
    """One run, read by task."""

    method: str
    data: str
    run: Run
    seed: int = 0

    @property
    def ratio_of_falls(self) -> float:
        """How many times further directional CDNV fell than CDNV."""
        (c0, c1), (d0, d1) = (self.typical(q) for q in ("cdnv", "directional_cdnv"))
        return (d0 / d1) / (c0 / c1)

    @property
    def prefix(self) -> str:
        """Of its keys: the student's where there are two encoders."""
        encoders = self.run.header["encoders"]
        return "probe/student/" if len(encoders) > 1 else "probe/"

    @property
    def tasks(self) -> list[str]:
        """The labelings of its probe."""
        return list(self.run.header["tasks"])

    def ends(self, key: str) -> tuple[float, float]:
        """First and last value under a key below the prefix; nan where it was not recorded."""
        first, last = (
            self.run.records[i].scalars.get(self.prefix + key, math.nan) for i in (0, -1)
        )
        return first, last

    def typical(self, quantity: str) -> tuple[float, float]:
        """First and last median over pairs, geometric mean over tasks."""
        ends = [self.ends(f"{task}/{quantity}_median") for task in self.tasks]
        return geometric_mean(first for first, _ in ends), geometric_mean(last for _, last in ends)

    def mean(self, key: str) -> tuple[float, float]:
        """First and last value of a key below the tasks, mean over tasks."""
        ends = [self.ends(f"{task}/{key}") for task in self.tasks]
        return fmean(first for first, _ in ends), fmean(last for _, last in ends)

    @property
    def cosines(self) -> dict[str, tuple[float, float]]:
        """Mean |cos| of the axes of two tasks, first and last, per pair of tasks."""
        start = f"{self.prefix}orthogonality/"
        keys = [
            key.removeprefix(self.prefix)
            for key in self.run.records[-1].scalars
            if key.startswith(start) and key.endswith("/abs_cos")
        ]
        return {key.split("/")[1]: self.ends(key) for key in keys}

    @property
    def mean_cosine(self) -> tuple[float, float]:
        """Mean |cos| over the pairs of tasks, first and last; nan for a single task."""
        ends = list(self.cosines.values()) or [(math.nan, math.nan)]
        return fmean(first for first, _ in ends), fmean(last for _, last in ends)

    @property
    def floor(self) -> float:
        """Mean |cos| of random directions in the space of the features."""
        return self.ends("orthogonality/floor")[1]
