"""The accuracy of nearest neighbours among the probe's own features."""

from __future__ import annotations

from dnc_lightning.functional.neighbours import NEIGHBOURS, TEMPERATURE, knn_accuracy
from dnc_lightning.instruments._accuracy import accuracy_found, accuracy_series, chance_series
from dnc_lightning.probe.bench import Bench
from dnc_lightning.probe.instrument import Found

QUERIES = 4000
"""Most samples that are classified: a standard error below 0.8 % takes no more."""


class NearestNeighbours:
    """A sample is classified by all others, with k and temperature as in DINO's evaluation."""

    name = "knn"
    series = (
        *accuracy_series(
            "knn",
            "kNN",
            f"the {NEIGHBOURS} nearest by cosine among all other samples, which vote with "
            f"exp(cosine / {TEMPERATURE}), for at most {QUERIES} samples",
            "knn/chance",
        ),
        chance_series("knn/chance", "kNN"),
    )

    def measure(self, bench: Bench) -> Found:
        """Leave each sample out in turn; the features of all processes are gathered."""
        samples = sum(bench.counts)
        if samples <= NEIGHBOURS:
            reason = f"kNN is nan: it needs more than {NEIGHBOURS} samples, here are {samples}."
            return Found(notes=[reason])
        found = knn_accuracy(bench.features, bench.labels, queries=QUERIES, shard=bench.shard)
        return accuracy_found({"knn": found}, {"knn/chance": max(bench.counts) / samples})


INSTRUMENT = NearestNeighbours()
