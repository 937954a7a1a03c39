"""DINOv2: DINO on class tokens, iBOT on hidden patches, KoLeo to spread features.

Method: Oquab et al., *DINOv2: Learning Robust Visual Features without Supervision*, TMLR 2024.
Heads, losses and masks come from lightly.

Command:
    `python -m recipes.dinov2 fit --config recipes/configs/dinov2_factors.yaml`; the head of every
    configuration says what it costs and what it reached.
"""

from __future__ import annotations

import torch
from lightly.loss import IBOTPatchLoss, KoLeoLoss
from lightly.models.modules.heads import DINOv2ProjectionHead
from lightly.models.utils import random_block_mask
from torch import Tensor, nn

from recipes.augment import Views
from recipes.base import Augment
from recipes.masked import MaskedBackbone
from recipes.optim import Optimization
from recipes.self_distillation import (
    Centering,
    SelfDistillation,
    Teacher,
    projection_head,
)


class DINOv2(Teacher):
    """DINOv2 on a vision transformer; student and teacher can both be probed.

    Args:
        backbone: Name of a vision transformer, see `vit`.
        image_size: Height and width of probe images and global views, pixels.
        patch_size: Side of a patch, pixels; None keeps the name's own.
        hidden_dim: Width of the heads.
        bottleneck_dim: Length of the normalised vector before their last layer.
        output_dim: Number of clusters.
        centering: How the teacher's clusters are kept in use: "mean", or "sinkhorn".
        teacher_momentum: Momentum of the teacher at the start; it rises to 1.
        teacher_temperature: Temperature of the teacher's softmax.
        student_temperature: Temperature of the student's softmax.
        patch_weight: Weight of iBOT's loss on hidden patches.
        spread_weight: Weight of the KoLeo loss on class tokens.
        global_views: The views that both see.
        local_views: Smaller crops that only the student sees.
        optimization: Optimizer and schedule.
        augment: Where views are made.
    """

    min_batch_size = 2

    def __init__(
        self,
        backbone: str = "vit_nano",
        image_size: int = 32,
        patch_size: int | None = None,
        hidden_dim: int = 256,
        bottleneck_dim: int = 64,
        output_dim: int = 256,
        centering: Centering = "sinkhorn",
        teacher_momentum: float = 0.99,
        teacher_temperature: float = 0.07,
        student_temperature: float = 0.1,
        patch_weight: float = 1.0,
        spread_weight: float = 0.1,
        global_views: Views = Views(),  # noqa: B008  frozen, so one shared default is safe
        local_views: Views = Views(count=4, size=16, min_scale=0.1, max_scale=0.4),  # noqa: B008
        optimization: Optimization = Optimization(weight_decay=0.04),  # noqa: B008
        augment: Augment = "device",
    ) -> None:
        super().__init__([global_views, local_views], optimization, augment, teacher_momentum)
        self.save_hyperparameters()
        self.global_count = global_views.count
        self.weights = {"dino": 1.0, "ibot": patch_weight, "koleo": spread_weight}
        for role in ("student", "teacher"):
            network = MaskedBackbone(backbone, image_size, patch_size, pool="token")
            width = (network.feature_dim, hidden_dim, bottleneck_dim, output_dim)
            setattr(self, f"{role}_backbone", network)
            for head in ("head", "patch_head"):
                setattr(self, f"{role}_{head}", projection_head(DINOv2ProjectionHead, *width))
        self.begin_teacher("backbone", "head", "patch_head")
        self.grid = (image_size // network.patch_size,) * 2  # patches of a global view
        self.smallest_block = max(1, min(4, network.num_patches // 10))  # 4 is the paper's
        self.loss = SelfDistillation(
            output_dim, centering, teacher_temperature, student_temperature
        )
        self.patch_loss = IBOTPatchLoss(output_dim, teacher_temperature, student_temperature)
        self.spread_loss = KoLeoLoss()

    def forward(self, images: Tensor) -> Tensor:
        """Map images [B, 3, H, W] in 0..1 to the student's class tokens [B, D]."""
        return self.student_backbone(images)

    def training_step(self, batch: tuple, batch_index: int) -> Tensor:
        """Return the weighted sum of the three losses."""
        self.update_teacher(batch_index)
        views = self.views(batch)
        count = self.global_count
        images, crops = torch.cat(views[:count]), views[count:]
        hidden = random_block_mask(
            (len(images), *self.grid),
            min_num_masks_per_block=self.smallest_block,
            device=images.device,
        )
        patches = hidden.flatten(1)
        with torch.no_grad():
            tokens = self.teacher_backbone.tokens(images)
            teacher = self.teacher_head(tokens[:, 0]).chunk(count)
            patch_teacher = self.teacher_patch_head(tokens[:, 1:][patches])
        tokens = self.student_backbone.tokens(images, mask=nn.functional.pad(patches, (1, 0)))
        student = list(self.student_head(tokens[:, 0]).chunk(count))
        if crops:
            student += self.student_head(self.student_backbone(torch.cat(crops))).chunk(len(crops))
        losses = {
            "dino": self.loss(list(teacher), student),
            "ibot": self.patch_loss(
                patch_teacher, self.student_patch_head(tokens[:, 1:][patches]), hidden
            ),
            "koleo": sum(self.spread_loss(view) for view in tokens[:, 0].chunk(count)),
        }
        loss = sum(self.weights[name] * value for name, value in losses.items())
        self.log_dict({f"train/{name}": v for name, v in losses.items()}, sync_dist=True)
        self.log("train/loss", loss, prog_bar=True, sync_dist=True)
        return loss


if __name__ == "__main__":
    from recipes.cli import main

    main(DINOv2)
