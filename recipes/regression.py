"""Regression: continuous targets from a linear head, squared error.

For the contrast with classifiers: features of a regression collapse to as many dimensions as there
are targets (arXiv:2409.04180), and the means of ordered classes to a line.

Command:
    `python -m recipes.regression fit --config recipes/configs/regression_factors.yaml`
"""

from __future__ import annotations

from torch import Tensor, nn

from recipes.augment import Views
from recipes.backbones import build_backbone
from recipes.base import Augment, Recipe
from recipes.optim import Optimization


class Regression(Recipe):
    """A linear head on a backbone, trained together on a target of the batches.

    Args:
        target: Its name in the batches' targets, ``[B, n]`` floats.
        num_outputs: n.
        backbone: Name, see `build_backbone`.
        image_size: Height and width of probe images and views, pixels.
        patch_size: Side of a patch, pixels, for a vision transformer.
        views: The view; `count` is 1. By default the image itself, since a crop moves things.
        optimization: Optimizer and schedule.
        augment: Where views are made.
    """

    def __init__(
        self,
        target: str = "place",
        num_outputs: int = 2,
        backbone: str = "small_resnet32",
        image_size: int = 32,
        patch_size: int | None = None,
        views: Views = Views(count=1, min_scale=1.0, flip=0.0),  # noqa: B008  frozen
        optimization: Optimization = Optimization(),  # noqa: B008
        augment: Augment = "device",
    ) -> None:
        super().__init__([views], optimization, augment)
        self.save_hyperparameters()
        self.target = target
        self.backbone = build_backbone(backbone, image_size, patch_size)
        self.head = nn.Linear(self.backbone.feature_dim, num_outputs)

    def forward(self, images: Tensor) -> Tensor:
        """Map images [B, 3, H, W] in 0..1 to features [B, D]."""
        return self.backbone(images)

    def training_step(self, batch: tuple, batch_index: int) -> Tensor:
        """Return the mean squared error of a batch."""
        (view,) = self.views(batch)
        wanted = batch[1].get(self.target) if isinstance(batch[1], dict) else None
        found = self.head(self.backbone(view))
        if wanted is None or wanted.shape != found.shape:
            got = "no such target" if wanted is None else f"a target {list(wanted.shape)}"
            raise ValueError(
                f"The head predicts {self.target!r} {list(found.shape)}, the data has {got}. Set "
                "model.target and model.num_outputs, or data=recipes.data.FactorsPlaces."
            )
        loss = nn.functional.mse_loss(found, wanted)
        self.log("train/loss", loss, prog_bar=True, sync_dist=True)
        return loss


if __name__ == "__main__":
    from recipes.cli import main

    main(Regression)
