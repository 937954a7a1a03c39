"""torchmetrics shells around `dnc_lightning.functional`: state and synchronisation, no formula."""

from dnc_lightning.metrics.collapse import DirectionalCollapse
from dnc_lightning.metrics.few_shot import FewShotError
from dnc_lightning.metrics.orthogonality import TaskOrthogonality

__all__ = ["DirectionalCollapse", "FewShotError", "TaskOrthogonality"]
