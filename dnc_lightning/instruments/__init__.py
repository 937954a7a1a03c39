"""What a probe measures: one file a family, with the declaration of its series.

Each public module here is a family, and calls its instrument `INSTRUMENT`. Others are given to
`ProbeCallback(metrics=[...])`, or registered under the entry point `GROUP` and given by name.

Examples:
    >>> import torch
    >>> class Norm:
    ...     name = "norm"
    ...     series = (Series("norm", "Norm", "mean length of a feature", group="Norm", low=0.0),)
    ...
    ...     def measure(self, bench: Bench) -> Found:
    ...         number = bench.total(torch.tensor(len(bench.features)))
    ...         return Found({"norm": bench.total(bench.features.norm(dim=1).sum()) / number})
    >>> [instrument.name for instrument in find_instruments([Norm(), "collapse"])]
    ['collapse', 'norm']
"""

from dnc_lightning.instruments._catalogue import (
    BUILT_IN,
    DEFAULT,
    GROUP,
    declared,
    find_instruments,
    pattern,
)
from dnc_lightning.instruments._torch_metric import TorchMetric
from dnc_lightning.instruments.complexity import Complexity
from dnc_lightning.instruments.duality import Duality
from dnc_lightning.instruments.guarantee import Guarantee
from dnc_lightning.instruments.imbalance import Imbalance
from dnc_lightning.instruments.ordinal import Ordinal
from dnc_lightning.instruments.out_of_distribution import OutOfDistribution
from dnc_lightning.instruments.regression import Regression
from dnc_lightning.instruments.robustness import Robustness
from dnc_lightning.probe.bench import Bench, Settings
from dnc_lightning.probe.instrument import Found, Instrument
from dnc_lightning.series import CHANCE, Reference, Series

__all__ = [
    "BUILT_IN",
    "CHANCE",
    "DEFAULT",
    "GROUP",
    "Bench",
    "Complexity",
    "Duality",
    "Found",
    "Guarantee",
    "Imbalance",
    "Instrument",
    "Ordinal",
    "OutOfDistribution",
    "Reference",
    "Regression",
    "Robustness",
    "Series",
    "Settings",
    "TorchMetric",
    "declared",
    "find_instruments",
    "pattern",
]
