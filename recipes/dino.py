"""DINO: a student matches the cluster assignments of its own moving average, on crops of an image.

Method: Caron et al., *Emerging Properties in Self-Supervised Vision Transformers*, ICCV 2021. Head
and loss come from lightly.

Command:
    `python -m recipes.dino fit --config recipes/configs/dino_factors.yaml`; the head of every
    configuration says what it costs and what it reached.
"""

from __future__ import annotations

import torch
from lightly.models.modules.heads import DINOProjectionHead
from torch import Tensor, nn

from recipes.augment import Views
from recipes.backbones import build_backbone
from recipes.base import Augment
from recipes.optim import Optimization
from recipes.self_distillation import (
    Centering,
    SelfDistillation,
    Teacher,
    projection_head,
)


class DINO(Teacher):
    """DINO with multi-crop on any backbone; student and teacher can both be probed.

    Args:
        backbone: Name, see `build_backbone`.
        image_size: Height and width of probe images and global views, pixels.
        patch_size: Side of a patch, pixels, for a vision transformer.
        hidden_dim: Width of the head.
        bottleneck_dim: Length of the normalised vector before the last layer.
        output_dim: Number of clusters.
        head_batch_norm: Normalise inside the head, for a backbone that has BatchNorm too.
        centering: How the teacher's clusters are kept in use: "mean", or "sinkhorn".
        teacher_momentum: Momentum of the teacher at the start; it rises to 1.
        teacher_temperature: Temperature of the teacher's softmax.
        student_temperature: Temperature of the student's softmax.
        global_views: The views that both see.
        local_views: Smaller crops that only the student sees.
        optimization: Optimizer and schedule.
        augment: Where views are made.
    """

    def __init__(
        self,
        backbone: str = "small_resnet32",
        image_size: int = 32,
        patch_size: int | None = None,
        hidden_dim: int = 256,
        bottleneck_dim: int = 64,
        output_dim: int = 256,
        head_batch_norm: bool = False,
        centering: Centering = "mean",
        teacher_momentum: float = 0.99,
        teacher_temperature: float = 0.04,
        student_temperature: float = 0.1,
        global_views: Views = Views(),  # noqa: B008  frozen, so one shared default is safe
        local_views: Views = Views(count=4, size=16, min_scale=0.1, max_scale=0.4),  # noqa: B008
        optimization: Optimization = Optimization(),  # noqa: B008
        augment: Augment = "device",
    ) -> None:
        super().__init__([global_views, local_views], optimization, augment, teacher_momentum)
        self.save_hyperparameters()
        self.global_count = global_views.count
        for role in ("student", "teacher"):
            network = build_backbone(backbone, image_size, patch_size)
            width = (network.feature_dim, hidden_dim, bottleneck_dim, output_dim)
            setattr(self, f"{role}_backbone", network)
            head = projection_head(DINOProjectionHead, *width, batch_norm=head_batch_norm)
            setattr(self, f"{role}_head", head)
        self.begin_teacher("backbone", "head")
        self.loss = SelfDistillation(
            output_dim, centering, teacher_temperature, student_temperature
        )

    def forward(self, images: Tensor) -> Tensor:
        """Map images [B, 3, H, W] in 0..1 to the student's features [B, D]."""
        return self.student_backbone(images)

    def training_step(self, batch: tuple, batch_index: int) -> Tensor:
        """Return the cross-entropy between the teacher's and the student's assignments."""
        self.update_teacher(batch_index)
        views = self.views(batch)
        count = self.global_count
        with torch.no_grad():
            teacher = self._assign(self.teacher_backbone, self.teacher_head, views[:count])
        student = [
            logits
            for crops in (views[:count], views[count:])
            for logits in self._assign(self.student_backbone, self.student_head, crops)
        ]
        loss = self.loss(teacher, student)
        self.log("train/loss", loss, prog_bar=True, sync_dist=True)
        return loss

    @staticmethod
    def _assign(backbone: nn.Module, head: nn.Module, crops: list[Tensor]) -> list[Tensor]:
        """Return the cluster logits of crops of one size, each [B, output_dim]."""
        if not crops:
            return []
        return list(head(backbone(torch.cat(crops))).chunk(len(crops)))


if __name__ == "__main__":
    from recipes.cli import main

    main(DINO)
