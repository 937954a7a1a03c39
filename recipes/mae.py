"""MAE: an encoder sees a quarter of the patches, a small decoder paints the others.

Method: He et al., *Masked Autoencoders Are Scalable Vision Learners*, CVPR 2022. Encoder and
decoder are lightly's on timm's vision transformer.

Command:
    `python -m recipes.mae fit --config recipes/configs/mae_factors.yaml`; the head of every
    configuration says what it costs and what it reached.
"""

from __future__ import annotations

from typing import Any

import torch
from lightly.models.modules import MaskedVisionTransformerDecoderTIMM
from lightly.models.utils import (
    get_at_index,
    normalize_mean_var,
    patchify,
    random_token_mask,
    set_at_index,
    unpatchify,
)
from torch import Tensor, nn

from dnc_lightning import LogSpaced
from recipes.augment import Views
from recipes.base import Augment, Recipe
from recipes.masked import MaskedBackbone
from recipes.optim import Optimization
from recipes.pictures import log_picture

EXAMPLES = 8
"""Images of the logged picture."""
PICTURES = LogSpaced(per_octave=1)
"""Steps that a picture is logged at."""


class MAE(Recipe):
    """Masked autoencoder; the feature is the mean of the patch tokens of a whole image.

    Logs a picture of masked, painted and original images, at log-spaced steps.

    Args:
        backbone: Name of a vision transformer, see `vit`.
        image_size: Height and width of the images, pixels.
        patch_size: Side of a patch, pixels; None keeps the name's own.
        mask_ratio: Part of the patches that the encoder does not see.
        normalize_targets: Paint every patch with mean 0 and variance 1, as the paper does.
        decoder_dim: Width of the decoder.
        decoder_depth: Its blocks.
        decoder_heads: Its attention heads.
        views: The random view; `count` is 1.
        optimization: Optimizer and schedule.
        augment: Where views are made.
    """

    def __init__(
        self,
        backbone: str = "vit_nano",
        image_size: int = 32,
        patch_size: int | None = None,
        mask_ratio: float = 0.75,
        normalize_targets: bool = True,
        decoder_dim: int = 64,
        decoder_depth: int = 1,
        decoder_heads: int = 4,
        views: Views = Views(count=1, min_scale=0.2),  # noqa: B008  frozen, so one is safe
        optimization: Optimization = Optimization(weight_decay=0.05),  # noqa: B008
        augment: Augment = "device",
    ) -> None:
        super().__init__([views], optimization, augment)
        self.save_hyperparameters()
        self.mask_ratio = mask_ratio
        self.normalize_targets = normalize_targets
        self.backbone = MaskedBackbone(backbone, image_size, patch_size, pool="avg")
        # Hidden patches never enter this encoder; several processes need every parameter in use.
        self.backbone.transformer.mask_token.requires_grad = False
        self.decoder_embed = nn.Linear(self.backbone.feature_dim, decoder_dim)
        self.decoder = MaskedVisionTransformerDecoderTIMM(
            self.backbone.num_patches, decoder_dim, decoder_depth, decoder_heads
        )
        self.pixels = nn.Linear(decoder_dim, 3 * self.backbone.patch_size**2)

    def forward(self, images: Tensor) -> Tensor:
        """Map images [B, 3, H, W] in 0..1 to features [B, D]."""
        return self.backbone(images)

    def training_step(self, batch: tuple, batch_index: int) -> Tensor:
        """Return the squared error of the painted patches."""
        (images,) = self.views(batch)
        painted, hidden = self.paint(images)
        target = get_at_index(self._patches(images), hidden - 1)
        if self.normalize_targets:
            target = normalize_mean_var(target)
        loss = nn.functional.mse_loss(painted, target)
        self.log("train/loss", loss, prog_bar=True, sync_dist=True)
        return loss

    def paint(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Hide random patches of images in 0..1 and paint them.

        Args:
            images: [B, 3, H, W].

        Returns:
            Painted patches [B, M, 3 * patch_size^2], standardised pixels or, with
            `normalize_targets`, patches; and the positions [B, M] of their tokens.
        """
        size = (len(images), self.backbone.num_patches + 1)
        keep, hidden = random_token_mask(size, self.mask_ratio, device=images.device)
        seen = self.decoder_embed(self.backbone.tokens(images, keep=keep))
        blank = self.decoder.mask_token.expand(*size, -1).to(seen.dtype)
        tokens = self.decoder(set_at_index(blank, keep, seen))
        return self.pixels(get_at_index(tokens, hidden)), hidden

    def on_train_start(self) -> None:
        """Begin the schedule of pictures."""
        self.next_picture_ = PICTURES.next_after(self.global_step)

    def on_train_batch_end(self, outputs: Any, batch: tuple, batch_index: int) -> None:
        """Log the picture if it is due."""
        if self.global_step >= self.next_picture_:
            self.next_picture_ = PICTURES.next_after(self.global_step)
            images = self.views(batch)[0][:EXAMPLES]
            log_picture(self.trainer, "train/reconstruction", self.picture(images))

    @torch.no_grad()
    def picture(self, images: Tensor) -> Tensor:
        """Return a row of masked, of painted and of original images, [3, 3 H, B W] in 0..1."""
        painted, hidden = self.paint(images)
        patches = self._patches(images)
        original = get_at_index(patches, hidden - 1)
        if self.normalize_targets:
            spread = (original.var(-1, keepdim=True) + 1e-6).sqrt()
            painted = painted * spread + original.mean(-1, keepdim=True)
        rows = [
            unpatchify(set_at_index(patches, hidden - 1, content), self.backbone.patch_size)
            for content in (torch.zeros_like(original), painted.to(patches.dtype), original)
        ]
        standardize = self.backbone.standardize
        grid = torch.cat([torch.cat(list(row), dim=2) for row in rows], dim=1)
        return (grid * standardize.std + standardize.mean).clamp(0, 1)

    def _patches(self, images: Tensor) -> Tensor:
        return patchify(self.backbone.standardize(images), self.backbone.patch_size)


if __name__ == "__main__":
    from recipes.cli import main

    main(MAE)
