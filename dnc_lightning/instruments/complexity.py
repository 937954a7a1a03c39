"""How strongly features depend on pixels: geometric complexity, and along the decision axes."""

from __future__ import annotations

from functools import partial

import torch

from dnc_lightning.functional.sensitivity import slopes
from dnc_lightning.probe.bench import Bench
from dnc_lightning.probe.instrument import Found
from dnc_lightning.series import Reference, Series

_complexity = partial(Series, group="Geometric complexity", low=0.0, scale="log", thorough=True)


class Complexity:
    """Squared derivatives of features by pixels, relative to how far features lie apart.

    Munn et al., arXiv:2405.15706, relate a low geometric complexity in pretraining to collapse on
    new tasks. A constant encoder has none, so it is divided by the features' own variance. Two
    backward passes an image, at the first and last probe alone, and not where BatchNorm statistics
    are borrowed or the module is sharded. Derivatives are by the pixels that the encoder is given:
    compare probes of one preparation.
    """

    name = "complexity"
    series = (
        _complexity(
            key="complexity/relative",
            title="Geometric complexity",
            meaning="mean squared norm of the derivative of features by pixels, over the total "
            "variance of the features",
            unit="1 / pixel²",
        ),
        _complexity(
            key="complexity/directional",
            title="Directional complexity",
            meaning="mean squared derivative along the axis to the nearest other class, over the "
            "squared distance to it",
            unit="1 / pixel²",
        ),
        _complexity(
            key="complexity/axis",
            title="Sensitivity of the axes",
            meaning="mean squared derivative along these axes over that along all directions",
            references=(Reference("any direction", 1.0),),
        ),
    )

    def measure(self, bench: Bench) -> Found:
        """A forward and two backward passes over all images, at thorough probes."""
        if not bench.thorough:
            return Found()
        passes = bench.passes
        if isinstance(passes, str) or bench.settings.normalize:
            why = passes if isinstance(passes, str) else "features are normalised"
            return Found(notes=[f"Geometric complexity is nan: {why}."])
        geometry = bench.geometry
        apart = geometry.distance2.clone().fill_diagonal_(torch.inf).nan_to_num(torch.inf)
        nearest2, rival = apart.min(1)
        delta = geometry.mean - geometry.mean[rival]
        axes = (delta / nearest2.sqrt()[:, None]).float()
        sums = torch.zeros(3, dtype=torch.float64)
        generator, begin = torch.Generator().manual_seed(0), 0
        with passes.open():
            for images in passes.batches():
                labels = bench.labels[begin : begin + len(images)]
                begin += len(images)
                found = slopes(passes.encode, images, axes[labels], generator)
                by_distance = found.along.double() / nearest2[labels].double()
                parts = (found.total.double(), found.along.double(), by_distance)
                sums += torch.stack([part.sum().cpu() for part in parts])
        count = sum(bench.counts)
        mean = geometry.mean.nanmean(0)
        spread = geometry.variance.nanmean() + (geometry.mean - mean).square().sum(1).nanmean()
        total, along, relative = bench.total(sums.to(spread)) / count
        return Found({
            "complexity/relative": total / spread,
            "complexity/directional": relative,
            "complexity/axis": along * bench.features.shape[1] / total,
        })  # fmt: skip


INSTRUMENT = Complexity()
