"""Backbones that train in minutes on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn


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
        """Map ``[B, channels_in, H, W]`` to ``[B, channels_out, H / stride, W / stride]``."""
        return torch.relu(self.body(maps) + self.shortcut(maps))


class SmallResNet(nn.Module):
    """Residual network for 32-pixel images: two strided convolutions, three blocks, a mean.

    Args:
        width: Channels of the first block; the later two have twice and four times as many.

    Attributes:
        feature_dim: Length of a feature vector, ``4 * width``.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.feature_dim = 4 * width
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
        self.to(memory_format=torch.channels_last)  # the faster layout for CPU convolutions

    def forward(self, images: Tensor) -> Tensor:
        """Map images ``[B, 3, H, W]`` to features ``[B, feature_dim]``."""
        images = images.contiguous(memory_format=torch.channels_last)
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
