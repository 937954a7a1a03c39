"""The mean distance of a feature from the mean of all, over that of a normal distribution."""

from __future__ import annotations

import torch

from dnc_lightning.instruments import Bench, Found, Reference, Series


class Spread:
    name = "spread"
    series = (
        Series(
            key="spread",
            title="Spread of the features",
            meaning="mean distance from the mean of all, over the root of the dimension",
            group="Spread",
            low=0.0,
            direction="higher",
            references=(Reference("collapsed", 0.1),),
            digits=2,
        ),
    )

    def measure(self, bench: Bench) -> Found:
        number = bench.total(torch.tensor(float(len(bench.features))))
        mean = bench.total(bench.features.double().sum(0)) / number
        distances = torch.linalg.vector_norm(bench.features - mean, dim=1)
        width = bench.features.shape[1]
        return Found({"spread": bench.total(distances.sum()) / number / width**0.5})
