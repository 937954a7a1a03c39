"""Scores that others predict transfer with, for studies of many encoders."""

from __future__ import annotations

from functools import partial

from dnc_lightning.functional._whole import whole, whole_labels
from dnc_lightning.functional.transfer import h_score, logme, ncti
from dnc_lightning.probe.bench import Bench
from dnc_lightning.probe.instrument import Found
from dnc_lightning.series import Series

_transfer = partial(Series, group="Transfer scores", direction="higher")


class Transfer:
    """H-score, LogME and the parts of NCTI; thorough probes alone, for they take an SVD each."""

    name = "transfer"
    series = (
        _transfer(
            key="h_score",
            title="H-score",
            meaning="between-class over total variance, summed over all axes; nan where there are "
            "no more samples than dimensions",
            low=0.0,
            thorough=True,
        ),
        _transfer(
            key="logme",
            title="LogME",
            meaning="log evidence of a linear model of the classes, per sample, by the rank of the "
            "features",
            thorough=True,
        ),
        _transfer(
            key="ncti/features",
            title="NCTI, features",
            meaning="nuclear norm of the features along the discriminant axes",
            low=0.0,
            thorough=True,
        ),
        _transfer(
            key="ncti/posterior",
            title="NCTI, posterior",
            meaning="mean posterior of the true class by linear discriminant analysis",
            low=0.0,
            high=1.0,
            thorough=True,
        ),
        Series(
            key="ncti/spread",
            title="NCTI, spread",
            meaning="log of the sum of the nuclear norms of the classes' posteriors",
            group="Transfer scores",
            direction="lower",
            thorough=True,
        ),
    )

    def measure(self, bench: Bench) -> Found:
        """All from the features of all processes, gathered."""
        features = whole(bench.features, bench.shard)
        labels = whole_labels(bench.labels, bench.shard)
        classes = len(bench.classes)
        parts = ncti(features, labels, classes)
        return Found(
            {
                "h_score": h_score(features, labels, classes),
                "logme": logme(features, labels, classes),
                "ncti/features": parts.features,
                "ncti/posterior": parts.posterior,
                "ncti/spread": parts.spread,
            }
        )


INSTRUMENT = Transfer()
