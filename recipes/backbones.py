"""Backbones by name: small residual networks for a CPU, torchvision's ResNets, timm's models.

All take images in 0..1 without further preparation, so that a probe set needs no transform.
"""

from __future__ import annotations

import difflib
import re
from typing import Literal

import timm
import torch
import torchvision
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
SMALL_IMAGE = 64
"""Images of at most this side, in pixels, get a stem that keeps their resolution."""

VITS = {
    "vit_nano": {"embed_dim": 96, "depth": 3, "num_heads": 3, "patch_size": 4},
    "vit_tiny": "vit_tiny_patch16_224",
    "vit_small": "vit_small_patch16_224",
    "vit_base": "vit_base_patch16_224",
    "vit_large": "vit_large_patch16_224",
}
"""Short names of vision transformers."""

_SMALL_RESNET = re.compile(r"small_resnet(\d+)")


def build_backbone(name: str, image_size: int, patch_size: int | None = None) -> Backbone:
    """Return an untrained backbone without classifier.

    Args:
        name: "small_resnet{width}", a torchvision ResNet ("resnet18"), a name of `VITS`, or any
            model that timm knows.
        image_size: Height and width of the images, pixels.
        patch_size: Side of a patch, pixels, for a vision transformer; None keeps the name's own.

    Raises:
        ValueError: An unknown name, with those that are spelt alike; a patch size that does not
            divide the image size or that is given for a network without patches.
    """
    if _is_vit(name):
        return Backbone(vit(name, image_size, patch_size), normalize=True)
    if patch_size is not None:
        raise ValueError(f"patch_size={patch_size}, but backbone {name!r} has no patches.")
    if small := _SMALL_RESNET.fullmatch(name):
        return Backbone(SmallResNet(int(small[1])), normalize=False)
    if name in _torchvision_resnets():
        return Backbone(_torchvision_resnet(name, image_size), normalize=True)
    if name in timm.list_models():
        return Backbone(timm.create_model(name, num_classes=0), normalize=True)
    raise ValueError(_unknown(name))


def vit(
    name: str,
    image_size: int,
    patch_size: int | None = None,
    pool: Literal["avg", "token"] = "token",
) -> VisionTransformer:
    """Return an untrained vision transformer of timm that takes crops of any size.

    Args:
        name: A name of `VITS`, or timm's name of a plain vision transformer.
        image_size: Height and width of the images, pixels.
        patch_size: Side of a patch, pixels; None keeps the name's own.
        pool: What its output is: the class token, or the mean of the patch tokens.

    Raises:
        ValueError: An unknown name; a patch size that does not divide the image size.
    """
    if not _is_vit(name):
        near = "" if name in timm.list_models() else f" {_unknown(name)}"
        raise ValueError(
            f"backbone {name!r} is not a vision transformer, which this method needs: "
            f"{', '.join(VITS)}, or timm's name of one.{near}"
        )
    spec = VITS.get(name, name)
    if isinstance(spec, str):
        own_patch = int(re.search(r"patch(\d+)", spec)[1])
    else:
        own_patch = spec["patch_size"]
    patch = patch_size or own_patch
    if image_size % patch:
        fitting = [p for p in range(1, image_size + 1) if image_size % p == 0]
        raise ValueError(
            f"image_size={image_size} is not divisible by the patch size {patch} of {name!r}. "
            f"Set patch_size to one of {fitting}, or image_size to a multiple of {patch}."
        )
    # Crops of other sizes interpolate the position embedding.
    options = {"num_classes": 0, "dynamic_img_size": True, "img_size": image_size}
    options |= {"global_pool": pool, "fc_norm": False, "patch_size": patch}
    if isinstance(spec, str):
        return timm.create_model(spec, **options)
    return VisionTransformer(**(spec | options))


class Backbone(nn.Module):
    """A network that maps images in 0..1 to feature vectors.

    Args:
        network: What to call; its attribute `num_features` is the length of its output.
        normalize: Standardise the images with the statistics of ImageNet first.

    Attributes:
        feature_dim: Length of a feature vector.
    """

    def __init__(self, network: nn.Module, *, normalize: bool) -> None:
        super().__init__()
        self.network = network
        self.feature_dim: int = network.num_features
        self.normalize = Standardize() if normalize else nn.Identity()
        self.convolutional = not isinstance(network, VisionTransformer)
        if self.convolutional:
            self.to(memory_format=torch.channels_last)  # the faster layout of convolutions

    def forward(self, images: Tensor) -> Tensor:
        """Map images [B, 3, H, W] in 0..1 to features [B, feature_dim]."""
        if self.convolutional:
            images = images.contiguous(memory_format=torch.channels_last)
        return self.network(self.normalize(images))


class Standardize(nn.Module):
    """Subtracts the mean of ImageNet's pixels and divides by their standard deviation."""

    def __init__(self) -> None:
        super().__init__()
        for name, values in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Map images [B, 3, H, W] in 0..1 to values of mean about 0 and variance about 1."""
        return (images - self.mean) / self.std


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut.

    Args:
        channels_in: Input channels.
        channels_out: Output channels.
        stride: Stride of the first convolution and of the shortcut.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _convolution(channels_in, channels_out, stride),
            nn.ReLU(inplace=True),
            _convolution(channels_out, channels_out, 1),
        )
        self.shortcut = (
            nn.Identity()
            if stride == 1 and channels_in == channels_out
            else _convolution(channels_in, channels_out, stride, kernel_size=1)
        )

    def forward(self, maps: Tensor) -> Tensor:
        """Map [B, channels_in, H, W] to [B, channels_out, H / stride, W / stride]."""
        return torch.relu(self.body(maps) + self.shortcut(maps))


class SmallResNet(nn.Module):
    """Residual network for 32-pixel images: two strided convolutions, three blocks, a mean.

    Args:
        width: Channels of the first block; the later two have twice and four times as many.

    Attributes:
        num_features: Length of a feature vector, `4 * width`.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.num_features = 4 * width
        self.stem = nn.Sequential(
            _convolution(3, width // 2, 2),
            nn.ReLU(inplace=True),
            _convolution(width // 2, width, 2),
            nn.ReLU(inplace=True),
        )
        self.blocks = nn.Sequential(
            ResidualBlock(width, width, 1),
            ResidualBlock(width, 2 * width, 2),
            ResidualBlock(2 * width, 4 * width, 2),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Map images [B, 3, H, W] to features [B, num_features]."""
        return self.blocks(self.stem(images)).mean(dim=(2, 3))


def _convolution(
    channels_in: int, channels_out: int, stride: int, kernel_size: int = 3
) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(
            channels_in, channels_out, kernel_size, stride, padding=kernel_size // 2, bias=False
        ),
        nn.BatchNorm2d(channels_out),
    )


def _torchvision_resnets() -> list[str]:
    return torchvision.models.list_models(module=torchvision.models, include="*res*net*")


def _torchvision_resnet(name: str, image_size: int) -> nn.Module:
    network = torchvision.models.get_model(name, weights=None)
    network.num_features = network.fc.in_features
    network.fc = nn.Identity()
    if image_size <= SMALL_IMAGE:
        # The standard stem would shrink a small image to a few pixels (SimCLR, appendix B.9).
        network.conv1 = nn.Conv2d(3, 64, kernel_size=3, padding=1, bias=False)
        network.maxpool = nn.Identity()
    return network


def _is_vit(name: str) -> bool:
    return name in VITS or (name.startswith("vit_") and name in timm.list_models())


def _unknown(name: str) -> str:
    known = ["small_resnet32", *_torchvision_resnets(), *VITS, *timm.list_models()]
    near = difflib.get_close_matches(name, dict.fromkeys(known), n=5, cutoff=0.5)
    hint = f"Did you mean {', '.join(near)}?" if near else "timm.list_models() lists many."
    return f"There is no backbone {name!r}. {hint}"
