"""Supervised baseline: cross-entropy on one task's labels.

For the contrast that arXiv:2603.03530 draws: labels collapse classes as a whole, CDNV and
directional CDNV alike, and what the labels do not mention is lost.

Command:
    `python -m recipes.supervised fit --config recipes/configs/supervised_factors.yaml`; the head of
    every configuration says what it costs and what it reached.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from dnc_lightning.losses import FixedETFHead
from recipes.augment import Views
from recipes.backbones import build_backbone
from recipes.base import Augment, Recipe
from recipes.optim import Optimization


class Supervised(Recipe):
    """A linear classifier on a backbone, trained together.

    Args:
        num_classes: Classes of the task.
        task: Name of the task, for data with several.
        backbone: Name, see `build_backbone`.
        image_size: Height and width of probe images and views, pixels.
        patch_size: Side of a patch, pixels, for a vision transformer.
        views: The random view; `count` is 1.
        optimization: Optimizer and schedule.
        augment: Where views are made.
        head: "linear" is trained with the rest; "etf" is a simplex that stays as it is.
    """

    def __init__(
        self,
        num_classes: int,
        task: str | None = None,
        backbone: str = "small_resnet32",
        image_size: int = 32,
        patch_size: int | None = None,
        views: Views = Views(count=1),  # noqa: B008  frozen, so one shared default is safe
        optimization: Optimization = Optimization(),  # noqa: B008
        augment: Augment = "device",
        head: Literal["linear", "etf"] = "linear",
    ) -> None:
        super().__init__([views], optimization, augment)
        self.save_hyperparameters()
        self.task = task
        self.backbone = build_backbone(backbone, image_size, patch_size)
        make = FixedETFHead if head == "etf" else nn.Linear
        self.classifier = make(self.backbone.feature_dim, num_classes)

    def setup(self, stage: str) -> None:
        """Compare the classifier with the labels.

        Raises:
            ValueError: If the task does not exist or has another number of classes.
        """
        super().setup(stage)
        classes = self.trainer.datamodule.train_set_.classes
        tasks = classes if isinstance(classes, dict) else {None: classes}
        if self.task not in tasks:
            named = " or ".join(repr(name) for name in tasks)
            raise ValueError(f"The data has no task {self.task!r}. Set model.task to {named}.")
        if len(tasks[self.task]) != self.classifier.out_features:
            raise ValueError(
                f"The classifier has {self.classifier.out_features} outputs, the task "
                f"{len(tasks[self.task])} classes. Set model.num_classes={len(tasks[self.task])}."
            )

    def forward(self, images: Tensor) -> Tensor:
        """Map images [B, 3, H, W] in 0..1 to features [B, D]."""
        return self.backbone(images)

    def training_step(self, batch: tuple, batch_index: int) -> Tensor:
        """Return the cross-entropy of a batch."""
        (view,) = self.views(batch)
        labels = batch[1] if self.task is None else batch[1][self.task]
        loss = nn.functional.cross_entropy(self.classifier(self.backbone(view)), labels)
        self.log("train/loss", loss, prog_bar=True, sync_dist=True)
        return loss


if __name__ == "__main__":
    from recipes.cli import main

    main(Supervised)
