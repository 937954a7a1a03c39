"""SimCLR: two views of an image attract each other, all other images repel them.

Method: Chen et al., *A Simple Framework for Contrastive Learning of Visual Representations*,
ICML 2020. Loss and head come from lightly.

Command:
    `python -m recipes.simclr fit --config recipes/configs/simclr_factors.yaml`; the head of every
    configuration says what it costs and what it reached.
"""

from __future__ import annotations

import torch
from lightly.loss import NTXentLoss
from lightly.models.modules.heads import SimCLRProjectionHead
from torch import Tensor

from recipes.augment import Views
from recipes.backbones import build_backbone
from recipes.base import Augment, Recipe
from recipes.directional import Directional, DirectionalTerm
from recipes.optim import Optimization


class SimCLR(Recipe):
    """SimCLR on any backbone.

    Args:
        backbone: Name, see `build_backbone`.
        image_size: Height and width of probe images and full views, pixels.
        patch_size: Side of a patch, pixels, for a vision transformer.
        hidden_dim: Width of the projection head; None is that of the features.
        projection_dim: Length of the vectors that the loss compares.
        temperature: Temperature of the contrastive loss.
        views: The random views; `count` is 2.
        optimization: Optimizer and schedule.
        augment: Where views are made.
        directional: Directional collapse as a further term, of labels or of views; None for SimCLR
            as published.
    """

    min_batch_size = 2

    def __init__(
        self,
        backbone: str = "small_resnet32",
        image_size: int = 32,
        patch_size: int | None = None,
        hidden_dim: int | None = None,
        projection_dim: int = 128,
        temperature: float = 0.1,
        views: Views = Views(),  # noqa: B008  frozen, so one shared default is safe
        optimization: Optimization = Optimization(),  # noqa: B008
        augment: Augment = "device",
        directional: Directional | None = None,
    ) -> None:
        super().__init__([views], optimization, augment)
        self.save_hyperparameters()
        self.backbone = build_backbone(backbone, image_size, patch_size)
        features = self.backbone.feature_dim
        self.projection_head = SimCLRProjectionHead(
            features, hidden_dim or features, projection_dim
        )
        # Gathering is a no-op in one process; with several, all of them supply negatives.
        self.loss = NTXentLoss(temperature, gather_distributed=torch.distributed.is_available())
        self.directional = None if directional is None else DirectionalTerm(directional)

    def setup(self, stage: str) -> None:
        """Choose the labelled images of the further term.

        Raises:
            ValueError: a batch that is too small, a task that does not exist, or workers that make
                the views.
        """
        super().setup(stage)
        if self.directional is None:
            return
        if self.directional.settings.labels and self.device_views is None:
            raise ValueError(
                'model.directional.labels needs model.augment="device": the labelled images of a '
                "step do not come from the loader."
            )
        self.directional.open(self.trainer.datamodule)

    def forward(self, images: Tensor) -> Tensor:
        """Map images [B, 3, H, W] in 0..1 to features [B, D]."""
        return self.backbone(images)

    def training_step(self, batch: tuple, batch_index: int) -> Tensor:
        """Return the contrastive loss of two views."""
        # One pass over both views would mix their statistics in BatchNorm; two passes do not.
        seen = [self.backbone(view) for view in self.views(batch)]
        loss = self.loss(*map(self.projection_head, seen))
        if self.directional is not None:
            term = self._directional(seen)
            self.log("train/directional", term, sync_dist=True)
            loss = loss + term
        self.log("train/loss", loss, prog_bar=True, sync_dist=True)
        return loss

    def _directional(self, seen: list[Tensor]) -> Tensor:
        """The further term: of labelled images, or of the views [B, D] that were seen."""
        if self.directional.settings.labels:
            images, labels = self.directional.draw(self.device)
            views = self.device_views(images)
            features = torch.cat([self.backbone(view) for view in views])
            return self.directional(features, labels.repeat(len(views)))
        names = torch.arange(len(seen[0]), device=self.device).repeat(len(seen))
        return self.directional(torch.cat(seen), names)


if __name__ == "__main__":
    from recipes.cli import main

    main(SimCLR)
