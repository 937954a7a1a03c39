"""VICReg: views of an image agree, every feature varies, and no two features covary.

Method: Bardes et al., *VICReg: Variance-Invariance-Covariance Regularization for Self-Supervised
Learning*, ICLR 2022. Loss and head come from lightly.

Command:
    `python -m recipes.vicreg fit --config recipes/configs/vicreg_factors.yaml`; the head of every
    configuration says what it costs and what it reached.
"""

from __future__ import annotations

import torch
from lightly.loss import VICRegLoss
from lightly.models.modules.heads import VICRegProjectionHead
from torch import Tensor

from recipes.augment import Views
from recipes.backbones import build_backbone
from recipes.base import Augment, Recipe
from recipes.optim import Optimization


class VICReg(Recipe):
    """VICReg on any backbone.

    Args:
        backbone: Name, see `build_backbone`.
        image_size: Height and width of probe images and full views, pixels.
        patch_size: Side of a patch, pixels, for a vision transformer.
        projection_dim: Width and output length of the projection head (the expander).
        invariance: Weight of the distance between views.
        variance: Weight of the hinge on the standard deviation of every output.
        covariance: Weight of the squared covariances between outputs.
        views: The random views; `count` is 2.
        optimization: Optimizer and schedule.
        augment: Where views are made.
    """

    min_batch_size = 2

    def __init__(
        self,
        backbone: str = "small_resnet32",
        image_size: int = 32,
        patch_size: int | None = None,
        projection_dim: int = 512,
        invariance: float = 25.0,
        variance: float = 25.0,
        covariance: float = 1.0,
        views: Views = Views(),  # noqa: B008  frozen, so one shared default is safe
        optimization: Optimization = Optimization(),  # noqa: B008
        augment: Augment = "device",
    ) -> None:
        super().__init__([views], optimization, augment)
        self.save_hyperparameters()
        self.backbone = build_backbone(backbone, image_size, patch_size)
        self.projection_head = VICRegProjectionHead(
            self.backbone.feature_dim, projection_dim, projection_dim
        )
        # Gathering is a no-op in one process; with several, the statistics are of all of them.
        gather = torch.distributed.is_available()
        self.loss = VICRegLoss(invariance, variance, covariance, gather_distributed=gather)

    def forward(self, images: Tensor) -> Tensor:
        """Map images [B, 3, H, W] in 0..1 to features [B, D]."""
        return self.backbone(images)

    def training_step(self, batch: tuple, batch_index: int) -> Tensor:
        """Return the sum of the three terms for two views."""
        first, second = (self.projection_head(self.backbone(view)) for view in self.views(batch))
        loss = self.loss(first, second)
        self.log("train/loss", loss, prog_bar=True, sync_dist=True)
        return loss


if __name__ == "__main__":
    from recipes.cli import main

    main(VICReg)
