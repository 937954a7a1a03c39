"""What a probe measures: one file a family, its formulas and the declaration of its series."""

from dnc_lightning.instruments.catalogue import BUILT_IN, GROUP, declared, find_instruments
from dnc_lightning.instruments.torch_metric import TorchMetric
from dnc_lightning.probe.bench import Bench, Settings
from dnc_lightning.probe.instrument import Found, Instrument
from dnc_lightning.series import CHANCE, Reference, Series

__all__ = [
    "BUILT_IN",
    "CHANCE",
    "GROUP",
    "Bench",
    "Found",
    "Instrument",
    "Reference",
    "Series",
    "Settings",
    "TorchMetric",
    "declared",
    "find_instruments",
]
