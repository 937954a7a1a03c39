"""Collapse as a training signal: a loss on labelled features, and a head that stays a simplex."""

from dnc_lightning.losses.collapse import DirectionalCollapseLoss
from dnc_lightning.losses.etf_head import FixedETFHead, simplex_directions

__all__ = ["DirectionalCollapseLoss", "FixedETFHead", "simplex_directions"]
