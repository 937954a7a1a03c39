"""Where the variance of the best, median and worst pair of classes lies."""

from __future__ import annotations

from functools import partial

import torch

from dnc_lightning.functional import extreme_pairs, variance_decomposition
from dnc_lightning.probe.bench import Bench
from dnc_lightning.probe.instrument import Found
from dnc_lightning.series import Series

_series = partial(Series, group="Variance")


class Variance:
    """How much of a pair's within-class variance lies on its decision axis."""

    name = "variance"
    series = (
        *(
            _series(
                f"axis_share/{name}",
                f"Share on the axis, {name} pair",
                f"part of the variance of the {name} pair by directional CDNV that lies on its "
                "decision axis",
                low=0.0,
                high=1.0,
                direction="lower",
            )
            for name in ("best", "median", "worst")
        ),
        _series(
            "variance",
            "Variance by direction",
            "on the axis, in the top 1, 10 and 100 directions orthogonal to it, and in all of "
            "these, of each of those pairs",
            unit="squared distances of the means",
            low=0.0,
            scale="log",
            axes=("pair", "part"),
        ),
        _series(
            "variance_pairs",
            "Pairs of the variance",
            "the two classes of each of those pairs",
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
