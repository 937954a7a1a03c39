"""A labelled data set, embedded again and again without a trace."""

from dnc_lightning.probe.encoders import layer_output
from dnc_lightning.probe.probe_set import ProbeSet
from dnc_lightning.probe.views import image_views

__all__ = ["ProbeSet", "image_views", "layer_output"]
