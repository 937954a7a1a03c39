"""A labelled data set, embedded again and again without a trace."""

from dnc_lightning.probe.encoders import layer_output
from dnc_lightning.probe.probe_set import ProbeSet
from dnc_lightning.probe.token_probe import TokenProbe, next_token_features
from dnc_lightning.probe.views import image_views

__all__ = ["ProbeSet", "TokenProbe", "image_views", "layer_output", "next_token_features"]
