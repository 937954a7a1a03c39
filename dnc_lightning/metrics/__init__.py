"""torchmetrics shells around `dnc_lightning.functional`: state and synchronisation, no formula."""

from dnc_lightning.metrics.collapse import DirectionalCollapse
from dnc_lightning.metrics.few_shot import FewShotError

__all__ = ["DirectionalCollapse", "FewShotError"]
