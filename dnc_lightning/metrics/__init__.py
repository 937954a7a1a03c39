"""torchmetrics shells around `dnc_lightning.functional`: state and synchronisation, no formula."""

from dnc_lightning.metrics.collapse import DirectionalCollapse

__all__ = ["DirectionalCollapse"]
