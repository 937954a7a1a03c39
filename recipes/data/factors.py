"""Factors: images of one object with four independent labels, rendered on the spot.

Every image shows one shape and carries four labelings (colour, shape, size, style). All 96
combinations are equally frequent, so the labelings are balanced and exactly independent: what a
representation learns about one task says nothing about another one. Position, rotation, shade,
background and noise vary freely.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from recipes.data.in_memory import InMemoryImages
from recipes.data.module import ProbedImages

SIDE = 32
FACTORS = {
    "colour": ["red", "yellow", "green", "blue"],
    "shape": ["circle", "square", "triangle", "plus"],
    "size": ["small", "large"],
    "style": ["filled", "outline", "stripes"],
}
CELLS = math.prod(len(names) for names in FACTORS.values())

_HUES = (0.0, 0.14, 0.36, 0.62)  # fractions of a turn
_RADII = (6.5, 11.0)  # pixels
_TEXTURE = 0.04  # standard deviation of the background's grey level
_EDGE = 3.0  # slope of the anti-aliasing sigmoid, 1/pixel
_CHUNK = 2048  # images rendered at a time, to bound the memory


class FactorsDataset(InMemoryImages):
    """Rendered images with four labelings, the same for the same arguments on every machine.

    Args:
        num_images: Number of images, a multiple of 96 so that all combinations are balanced.
        seed: Seed of labels, nuisances and noise.

    Attributes:
        centres: Where the object stands, ``[N, 2]``, pixels right of and below the image's centre.

    Raises:
        ValueError: If `num_images` is not a positive multiple of 96.

    Examples:
        >>> from recipes.data import FactorsDataset
        >>> dataset = FactorsDataset(96, seed=0)
        >>> image, labels = dataset[0]
        >>> tuple(image.shape), sorted(labels)
        ((3, 32, 32), ['colour', 'shape', 'size', 'style'])
    """

    def __init__(self, num_images: int, seed: int = 0) -> None:
        if num_images < CELLS or num_images % CELLS:
            raise ValueError(
                f"num_images must be a positive multiple of {CELLS}, the number of combinations "
                f"of the four factors; got {num_images}. Use "
                f"{max(1, round(num_images / CELLS)) * CELLS}."
            )
        generator = torch.Generator().manual_seed(seed)
        cells = torch.randperm(num_images, generator=generator) % CELLS
        targets = split_cells(cells)
        chunks = [
            render({task: y[start : start + _CHUNK] for task, y in targets.items()}, generator)
            for start in range(0, num_images, _CHUNK)
        ]
        super().__init__(torch.cat([chunk.images for chunk in chunks]), targets, FACTORS)
        self.centres = torch.cat([chunk.centres for chunk in chunks])


class Factors(ProbedImages):
    """Training images of `FactorsDataset` and a held-out probe split from another seed.

    Images are ``[B, 3, 32, 32]`` uint8, targets a mapping of the four tasks to ``[B]``.

    Cost:
        A second per 10,000 images to render them; 3 KB of memory per image.

    Args:
        batch_size: Images per batch and process.
        num_images: Training images, a multiple of 96.
        num_probe_images: Images of the probe split, a multiple of 96.
        probe_per_class: Probe images per class.
        seed: Seed of the data and of their order. Training and probe splits never share a random
            stream.
        num_workers: Loader processes per training process; 0 is fastest unless they make views.
    """

    def __init__(
        self,
        batch_size: int = 128,
        num_images: int = 11_520,
        num_probe_images: int = 1_920,
        probe_per_class: int = 100,
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        super().__init__(batch_size, probe_per_class, num_workers, seed)
        self.num_images = num_images
        self.num_probe_images = num_probe_images

    def train_images(self) -> FactorsDataset:
        """Render the training images."""
        return FactorsDataset(self.num_images, seed=2 * self.seed)

    def probe_images(self) -> FactorsDataset:
        """Render the probe split."""
        return FactorsDataset(self.num_probe_images, seed=2 * self.seed + 1)


def split_cells(cells: Tensor) -> dict[str, Tensor]:
    """Decompose combination numbers into the four labels.

    Args:
        cells: Combination of each image, ``[N]``, in 0..95.

    Returns:
        Class indices per factor, each ``[N]``.
    """
    targets = {}
    for task, names in FACTORS.items():
        targets[task] = cells % len(names)
        cells = cells // len(names)
    return targets


@dataclass(frozen=True)
class Pose:
    """Pixel coordinates in the object's frame."""

    x: Tensor  # [N, 32, 32], pixels right of the object's centre, before its rotation
    y: Tensor  # [N, 32, 32], pixels below the object's centre, before its rotation
    radius: Tensor  # [N, 1, 1], pixels
    centre: Tensor  # [N, 2], pixels right of and below the image's centre


@dataclass(frozen=True)
class Rendered:
    """Images, and what no label says of them."""

    images: Tensor  # [N, 3, 32, 32], uint8
    centres: Tensor  # [N, 2], pixels


def render(targets: dict[str, Tensor], generator: torch.Generator) -> Rendered:
    """Draw one image per label combination; every nuisance comes from `generator`.

    Args:
        targets: Class indices per factor, each ``[N]``.
        generator: Source of position, rotation, shade, background and noise.
    """
    count = len(targets["shape"])
    pose = _draw_pose(targets["size"], generator)
    coverage = _coverage(pose, targets["shape"], targets["style"]).unsqueeze(1)
    colour = _draw_colour(targets["colour"], generator)
    background = _draw_background(count, generator)
    noise = 0.03 * torch.randn(count, 3, SIDE, SIDE, generator=generator)
    images = background + coverage * (colour - background) + noise
    return Rendered(images.clamp(0, 1).mul(255).round().to(torch.uint8), pose.centre)


def _uniform(count: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(count, 1, 1, generator=generator)


def _draw_pose(size: Tensor, generator: torch.Generator) -> Pose:
    count = len(size)
    axis = torch.arange(SIDE) - (SIDE - 1) / 2
    y, x = axis[None, :, None], axis[None, None, :]
    right, below = (_uniform(count, -3, 3, generator) for _ in range(2))
    x, y = x - right, y - below
    angle = _uniform(count, -0.2, 0.2, generator)
    radius = torch.tensor(_RADII)[size][:, None, None] * _uniform(count, 0.92, 1.08, generator)
    cos, sin = angle.cos(), angle.sin()
    centre = torch.cat([right, below], 1)[:, :, 0]
    return Pose(x=cos * x + sin * y, y=cos * y - sin * x, radius=radius, centre=centre)


def _signed_distances(pose: Pose) -> Tensor:
    """Return the distance to each shape's edge, negative inside, ``[N, 4, 32, 32]``, pixels."""
    x, y, r = pose.x, pose.y, pose.radius
    ax, ay = x.abs(), y.abs()
    circle = torch.hypot(x, y) - r
    square = torch.maximum(ax, ay) - 0.93 * r
    triangle = torch.maximum(y, 0.866 * ax - 0.5 * y) - 0.55 * r
    bar = 0.34 * r
    plus = torch.minimum(torch.maximum(ax - r, ay - bar), torch.maximum(ax - bar, ay - r))
    return torch.stack([circle, square, triangle, plus], dim=1)


def _coverage(pose: Pose, shape: Tensor, style: Tensor) -> Tensor:
    """Return the painted fraction of each pixel, ``[N, 32, 32]``."""
    rows = torch.arange(len(shape))
    distance = _signed_distances(pose)[rows, shape]
    outline = (distance + 1).abs() - 1  # 2 pixels wide, inside the edge
    stripes = torch.maximum(distance, -torch.sin(math.pi / 2 * pose.y))  # period 4 pixels
    return torch.sigmoid(-_EDGE * torch.stack([distance, outline, stripes], dim=1)[rows, style])


def _draw_colour(colour: Tensor, generator: torch.Generator) -> Tensor:
    """Return RGB colours of a hue with a random shade, ``[N, 3, 1, 1]``, in 0..1."""
    count = len(colour)
    hue = torch.tensor(_HUES)[colour][:, None, None] + _uniform(count, -0.015, 0.015, generator)
    saturation = _uniform(count, 0.75, 1, generator)
    value = _uniform(count, 0.75, 1, generator)
    # HSV to RGB: channel = V - V S max(0, min(k, 4 - k, 1)), k = (n + 6 hue) mod 6, n = 5, 3, 1
    k = (torch.tensor([5.0, 3.0, 1.0])[None, :, None] + 6 * hue) % 6
    rgb = value - value * saturation * torch.minimum(k, 4 - k).clamp(0, 1)
    return rgb.unsqueeze(-1)


def _draw_background(count: int, generator: torch.Generator) -> Tensor:
    """Return grey levels with a faint low-frequency texture, ``[N, 1, 32, 32]``, in 0..1."""
    level = _uniform(count, 0.25, 0.5, generator).unsqueeze(-1)
    texture = torch.randn(count, 1, 4, 4, generator=generator)
    return level + _TEXTURE * F.interpolate(texture, size=(SIDE, SIDE), mode="bilinear")
