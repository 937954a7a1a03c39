"""A labelled data set, embedded again and again without a trace."""

from dnc_lightning.probe.encoders import layer_output
from dnc_lightning.probe.probe_set import ProbeSet

__all__ = ["ProbeSet", "layer_output"]
