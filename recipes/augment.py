"""Random views of images: batched on the device by kornia, or one by one in the loader's workers.

Both draw from the same distribution: random resized crop, horizontal flip, colour jitter,
grayscale, blur, solarization, in this order. A test compares their statistics.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import kornia.augmentation as K
import torch
from lightly.transforms.dino_transform import DINOViewTransform
from PIL.Image import Image
from torch import Tensor, nn

BLUR_SIGMA = (0.1, 2.0)
"""Range of the blur's standard deviation, pixels."""


@dataclass(frozen=True)
class Views:
    """How views of one image differ: what they vary, the representation is told to forget.

    So vary what the labels of interest do not depend on: a small `hue` blurs shades, a large one
    would erase colour names.
    """

    count: int = 2  # views of this kind per image
    size: int = 32  # height and width, pixels
    min_scale: float = 0.4  # least area of a crop, as a fraction of the image
    max_scale: float = 1.0  # largest area of a crop
    flip: float = 0.5  # probability of a horizontal flip
    jitter: float = 1.0  # probability of a change of colour, of these sizes:
    brightness: float = 0.0  # largest relative change
    contrast: float = 0.0  # largest relative change
    saturation: float = 0.0  # largest relative change
    hue: float = 0.0  # largest change, as a fraction of a turn
    grayscale: float = 0.0  # probability of losing all colour
    blur: float = 0.0  # probability of a Gaussian blur
    solarize: float = 0.0  # probability of inverting the bright pixels


class DeviceViews(nn.Module):
    """Makes all views of a batch at once, on the device that holds it.

    Args:
        kinds: What to draw, in this order.
    """

    def __init__(self, kinds: Sequence[Views]) -> None:
        super().__init__()
        kinds = [views for views in kinds if views.count]
        self.counts = [views.count for views in kinds]
        self.augment = nn.ModuleList(_batched(views) for views in kinds)

    @torch.no_grad()
    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the views of images [B, 3, H, W], uint8 or 0..1, each [B, 3, size, size] in 0..1.

        They are computed in float32 whatever the precision of the training.
        """
        with torch.autocast(images.device.type, enabled=False):
            images = to_unit_range(images)
            drawn = (
                augment(images.repeat(count, 1, 1, 1)).clamp(0, 1).chunk(count)
                for count, augment in zip(self.counts, self.augment, strict=True)
            )
            return [view for views in drawn for view in views]


class WorkerViews:
    """Makes the views of one image in a worker process, by lightly's transforms.

    Args:
        kinds: What to draw, in this order.
    """

    def __init__(self, kinds: Sequence[Views]) -> None:
        self.transforms = [_single(views) for views in kinds for _ in range(views.count)]

    def __call__(self, image: Image) -> list[Tensor]:
        """Return the views of an RGB image, each [3, size, size], float in 0..1."""
        return [transform(image) for transform in self.transforms]


def to_unit_range(images: Tensor) -> Tensor:
    """Return uint8 images [B, C, H, W] as float32 in 0..1; floats pass unchanged."""
    return images if images.is_floating_point() else images.float() / 255


def _batched(views: Views) -> nn.Sequential:
    """Only what can change something: a step that never does would still cost its time."""
    size = (views.size, views.size)
    scale = (views.min_scale, views.max_scale)
    # One resampling of the whole batch; cutting crops out one by one is slower on a GPU.
    steps: list[nn.Module] = [K.RandomResizedCrop(size, scale, cropping_mode="resample")]
    if views.flip:
        steps.append(K.RandomHorizontalFlip(views.flip))
    colour = (views.brightness, views.contrast, views.saturation, views.hue)
    if views.jitter and any(colour):
        steps.append(K.ColorJitter(*colour, p=views.jitter))
    if views.grayscale:
        weights = torch.tensor([0.299, 0.587, 0.114])
        steps.append(K.RandomGrayscale(weights, p=views.grayscale))
    if views.blur:
        width = 2 * math.ceil(2 * BLUR_SIGMA[1]) + 1
        steps.append(K.RandomGaussianBlur((width, width), BLUR_SIGMA, p=views.blur))
    if views.solarize:
        steps.append(K.RandomSolarize(thresholds=0.0, additions=0.0, p=views.solarize))
    return nn.Sequential(*steps)


def _single(views: Views) -> DINOViewTransform:
    """The one of lightly's transforms that has every step."""
    return DINOViewTransform(
        crop_size=views.size,
        crop_scale=(views.min_scale, views.max_scale),
        hf_prob=views.flip,
        cj_prob=views.jitter,
        cj_strength=1.0,
        cj_bright=views.brightness,
        cj_contrast=views.contrast,
        cj_sat=views.saturation,
        cj_hue=views.hue,
        random_gray_scale=views.grayscale,
        gaussian_blur=views.blur,
        sigmas=BLUR_SIGMA,
        solarization_prob=views.solarize,
        normalize=None,
    )


# Checkpoints store a model's arguments; these are plain data, so loading may rebuild them even
# where arbitrary objects are refused.
torch.serialization.add_safe_globals([Views])
