"""Where the variance of the best, median and worst pair of classes lies."""

from __future__ import annotations

import torch

from dnc_lightning.functional import extreme_pairs, variance_decomposition
from dnc_lightning.probe.bench import Bench
from dnc_lightning.probe.instrument import Found
from dnc_lightning.series import Series


class Variance:
    """How much of a pair's within-class variance lies on its decision axis."""

    name = "variance"
    series = (
        *(
            Series(
                key=f"axis_share/{name}",
                title=f"Share on the axis, {name} pair",
                meaning=f"part of the variance of the {name} pair by directional CDNV that lies on "
                "its decision axis",
                group="Variance",
                low=0.0,
                high=1.0,
                direction="lower",
            )
            for name in ("best", "median", "worst")
        ),
        Series(
            key="variance",
            title="Variance by direction",
            meaning="on the axis, in the top 1, 10 and 100 directions orthogonal to it, and in all "
            "of these, of each of those pairs",
            group="Variance",
            unit="squared distances of the means",
            low=0.0,
            scale="log",
            axes=("pair", "part"),
        ),
        Series(
            key="variance_pairs",
            title="Pairs of the variance",
            meaning="the two classes of each of those pairs",
            group="Variance",
            axes=("pair", "end"),
        ),
    )

    def measure(self, bench: Bench) -> Found:
        """Split the variance of three pairs, in units of their squared distance."""
        geometry = bench.geometry
        chosen = extreme_pairs(geometry)
        if not chosen:
            return Found()
        distinct = list(dict.fromkeys(chosen.values()))
        split = variance_decomposition(
            bench.features, bench.labels, pairs=distinct, shard=bench.shard
        )
        share = split.on_axis / split.total
        a, b = split.pairs.T
        parts = [split.on_axis[:, None], split.orthogonal_top, split.orthogonal[:, None]]
        return Found(
            {f"axis_share/{name}": share[distinct.index(pair)] for name, pair in chosen.items()},
            {
                "variance": torch.cat(parts, 1) / geometry.distance2[a, b][:, None],
                "variance_pairs": split.pairs,
            },
        )


INSTRUMENT = Variance()
