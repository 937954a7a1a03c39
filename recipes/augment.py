"""Two random views of an image batch, made by kornia on the device that holds it."""

from __future__ import annotations

from dataclasses import dataclass

import kornia.augmentation as K
import torch
from torch import Tensor, nn


def to_unit_range(images: Tensor) -> Tensor:
    """Return uint8 images [B, C, H, W] as float32 in 0..1; floats pass unchanged."""
    return images if images.is_floating_point() else images.float() / 255


@dataclass(frozen=True)
class Views:
    """How much views of one image differ: what they vary, the representation is told to forget.

    So vary what the labels of interest do not depend on: a small `hue` blurs shades, a large one
    would erase colour names.
    """

    min_scale: float = 0.4  # least area of a crop, as a fraction of the image
    flip: float = 0.5  # probability of a horizontal flip
    brightness: float = 0.2  # largest relative change
    contrast: float = 0.2  # largest relative change
    saturation: float = 0.0  # largest relative change
    hue: float = 0.0  # largest change, as a fraction of a turn


class TwoViews(nn.Module):
    """Random crop, flip and colour, drawn for each image and view.

    Args:
        views: How strong.
        size: Height and width of the views, pixels.
    """

    def __init__(self, views: Views, size: int) -> None:
        super().__init__()
        self.augment = nn.Sequential(
            # One resampling of the whole batch; cutting crops out one by one is slower.
            K.RandomResizedCrop((size, size), (views.min_scale, 1.0), cropping_mode="resample"),
            K.RandomHorizontalFlip(views.flip),
            K.ColorJitter(views.brightness, views.contrast, views.saturation, views.hue),
        )

    @torch.no_grad()
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return two independent views of float images [B, 3, H, W] in 0..1, each [B, 3, s, s]."""
        return self.augment(images), self.augment(images)


# Checkpoints store a model's arguments; these are plain data, so loading may rebuild them even
# where arbitrary objects are refused.
torch.serialization.add_safe_globals([Views])
