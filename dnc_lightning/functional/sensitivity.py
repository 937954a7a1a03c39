"""What small changes of images do to features: attacks, and squared derivatives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Encode = Callable[[Tensor], Tensor]
"""Images [B, ...] -> features [B, D], with gradients, of each image on its own."""


def margin_loss(features: Tensor, labels: Tensor, means: Tensor) -> Tensor:
    """By how much each sample is nearer to a wrong class mean than to its own: above 0 is an error.

    (|x - mu_y|^2 - min over k != y of |x - mu_k|^2) / 2, from inner products, with gradients.

    Args:
        features: [B, D].
        labels: [B], integers in [0, K).
        means: [K, D].

    Returns:
        [B].
    """
    score = features @ means.T - means.square().sum(1) / 2
    own = score.gather(1, labels[:, None])[:, 0]
    rivals = score.scatter(1, labels[:, None], -torch.inf)
    found: Tensor = rivals.amax(1) - own
    return found


def attacked(
    encode: Encode,
    images: Tensor,
    labels: Tensor,
    means: Tensor,
    *,
    size: Tensor,
    steps: int,
    low: float | None = None,
    high: float | None = None,
) -> Tensor:
    """Images changed so that they look nearer to a wrong class mean: projected gradient ascent.

    Madry et al., arXiv:1706.06083, with the sign of the gradient and a bound on every pixel, on
    `margin_loss`, which needs no head. It starts at the image itself, draws nothing, and keeps of
    every image the change that was worst.

    Args:
        encode: The encoder.
        images: [B, C, ...].
        labels: [B].
        means: [K, D] of clean features.
        size: Largest change of a pixel, broadcast to the images.
        steps: Gradient steps, each of 2.5 / steps of the largest change.
        low: Least value of a pixel; None without one.
        high: Greatest value of a pixel; None without one.

    Returns:
        [B, C, ...].
    """
    change, best = torch.zeros_like(images), images
    worst = torch.full((len(images),), -torch.inf, device=images.device)
    for step in range(steps + 1):
        seen = (images + change).clamp(low, high) if low is not None else images + change
        seen = seen.detach().requires_grad_(step < steps)
        loss = margin_loss(encode(seen).float(), labels, means)
        better = loss.detach() > worst
        worst = torch.where(better, loss.detach(), worst)
        best = torch.where(better.view(-1, *[1] * (images.ndim - 1)), seen.detach(), best)
        if step < steps:
            (slope,) = torch.autograd.grad(loss.sum(), seen)
            moved = seen.detach() - images + 2.5 / steps * size * slope.sign()
            change = torch.maximum(torch.minimum(moved, size), -size)
    return best


@dataclass(frozen=True)
class Slopes:
    """Squared derivatives of the features of each image, [B]."""

    total: Tensor  # |J|_F^2, estimated without bias
    along: Tensor  # |J^T u|^2 of the given unit direction of each


def slopes(
    encode: Encode, images: Tensor, directions: Tensor, generator: torch.Generator
) -> Slopes:
    """Squared derivatives of features by pixels: geometric complexity, and along a direction.

    Dherin et al., arXiv:2209.13083, call the mean of |J|_F^2 the geometric complexity. One random
    vector v of signs an image gives |J^T v|^2, whose mean over v it is (Hutchinson). |J^T u|^2
    along the decision axis is its directional form: by Poincare's inequality it bounds the
    directional variance as the whole bounds the variance (derived here).

    Args:
        encode: The encoder.
        images: [B, C, ...].
        directions: [B, D] of norm 1.
        generator: On the CPU, source of v.
    """
    seen = images.detach().requires_grad_()
    features = encode(seen).float()
    signs = torch.randint(0, 2, features.shape, generator=generator).to(features) * 2 - 1
    found = []
    for place, vector in enumerate((signs, directions)):
        weighted = (features * vector.detach()).sum()
        (slope,) = torch.autograd.grad(weighted, seen, retain_graph=place == 0)
        found.append(slope.float().square().flatten(1).sum(1))
    return Slopes(*found)
