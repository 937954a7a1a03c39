"""The accuracy of linear classifiers, trained on half of the probe and tested on the other."""

from __future__ import annotations

import torch
from torch import Tensor

from dnc_lightning.functional._whole import whole, whole_labels
from dnc_lightning.functional.linear_probe import (
    TrainingSet,
    half_of_each_class,
    logistic_probe,
    ridge_probe,
)
from dnc_lightning.functional.scores import accuracy
from dnc_lightning.instruments._accuracy import accuracy_found, accuracy_series, chance_series
from dnc_lightning.probe.bench import Bench
from dnc_lightning.probe.instrument import Found


class Linear:
    """Ridge and logistic regression on frozen features.

    The halves are drawn from the order of the probe set, so that they are the same at every probe
    of a run, and in every run with the same data set, seed and number of samples.
    """

    name = "linear"
    series = (
        *accuracy_series(
            "ridge",
            "Ridge probe",
            "linear regression of the classes, with the penalty of the least leave-one-out error, "
            "trained on half of each class and tested on the other half",
            "linear/chance",
        ),
        *accuracy_series(
            "logistic",
            "Logistic probe",
            "multinomial logistic regression, trained on half of each class and tested on the "
            "other half",
            "linear/chance",
        ),
        chance_series("linear/chance", "Linear probes"),
    )

    def measure(self, bench: Bench) -> Found:
        """Fit both from one decomposition; the features of all processes are gathered."""
        few = [name for name, n in zip(bench.classes, bench.counts, strict=True) if n == 1]
        if few:
            reason = f"Linear probes are nan: they need two samples of class {few[0]}, here is one."
            return Found(notes=[reason])
        classes = len(bench.classes)
        features = whole(bench.features, bench.shard)
        labels = whole_labels(bench.labels, bench.shard)
        train = half_of_each_class(labels)
        data = TrainingSet.build(features[train], labels[train], classes)
        unseen, truth = features[~train], labels[~train]
        fits = {"ridge": ridge_probe(data), "logistic": logistic_probe(data)}
        found = {
            name: accuracy(fit.scores(unseen).argmax(1), truth, classes)
            for name, fit in fits.items()
        }
        largest: Tensor = torch.bincount(truth).max() / len(truth)
        notes = [
            f"The {name} probe's steps ended before its loss was at its least: its accuracy is "
            "that of the weights reached."
            for name, fit in fits.items()
            if not fit.converged
        ]
        return accuracy_found(found, {"linear/chance": largest}, notes)


INSTRUMENT = Linear()
