"""A vision transformer that can see a part of its patches, for MAE and DINOv2."""

from __future__ import annotations

from typing import Literal

from lightly.models.modules import MaskedVisionTransformerTIMM
from torch import Tensor, nn

from recipes.backbones import Standardize, vit


class MaskedBackbone(nn.Module):
    """lightly's masked transformer around timm's, for images in 0..1.

    Args:
        name: Name of a vision transformer, see `vit`.
        image_size: Height and width of the images, pixels.
        patch_size: Side of a patch, pixels; None keeps the name's own.
        pool: What the feature is: the mean of the patch tokens, or the class token.

    Attributes:
        feature_dim: Length of a token and of a feature.
        patch_size: Side of a patch, pixels.
    """

    def __init__(
        self, name: str, image_size: int, patch_size: int | None, pool: Literal["avg", "token"]
    ) -> None:
        super().__init__()
        network = vit(name, image_size, patch_size, pool)
        self.feature_dim: int = network.embed_dim
        self.patch_size: int = network.patch_embed.patch_size[0]
        self.standardize = Standardize()
        self.transformer = MaskedVisionTransformerTIMM(network)

    @property
    def num_patches(self) -> int:
        """Patches of a full image."""
        return self.transformer.sequence_length - 1

    def forward(self, images: Tensor) -> Tensor:
        """Map images [B, 3, H, W] in 0..1 to features [B, feature_dim]."""
        return self.transformer(self.standardize(images))

    def tokens(
        self, images: Tensor, *, keep: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """Return the tokens of images in 0..1, the class token first.

        Args:
            images: [B, 3, H, W].
            keep: [B, K], positions of the only tokens that the transformer sees.
            mask: [B, T] bool, tokens whose content is hidden from it.

        Returns:
            [B, K or T, feature_dim].
        """
        return self.transformer.encode(self.standardize(images), idx_keep=keep, mask=mask)
