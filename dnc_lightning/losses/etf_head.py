"""A linear head whose rows are a simplex from the start, and stay so."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class FixedETFHead(nn.Module):
    """Logits of features against the vertices of a simplex that is not trained.

    Zhu et al., arXiv:2105.02375, and Yang et al., arXiv:2203.09081: what neural collapse makes of
    a head in the end is there from the beginning, at a random rotation, and the encoder alone
    learns. Features are scaled to norm 1 and logits divided by the temperature, since rows of norm
    1 could not make a cross-entropy small. The rows need num_classes - 1 dimensions; of more
    classes there is no simplex, and a trained head or other fixed directions must do.

    Features that are all at least 0, as of a ReLU and a mean over positions, cannot reach vertices
    with an angle beyond 90 degrees: give it features from before the last ReLU, or a linear layer
    between, where that matters.

    Args:
        in_features: D.
        num_classes: K, from 2 to D + 1.
        temperature: Of the logits, above 0.
        generator: Source of the rotation; None is torch's own.

    Raises:
        ValueError: an argument out of range.

    Examples:
        >>> head = FixedETFHead(in_features=16, num_classes=5)
        >>> head(torch.randn(8, 16)).shape, list(head.parameters())
        (torch.Size([8, 5]), [])
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        temperature: float = 0.1,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if not temperature > 0:
            raise ValueError(f"temperature must be above 0, got {temperature}.")
        self.temperature = temperature
        self.register_buffer("weight", simplex_directions(num_classes, in_features, generator))
        self.weight: Tensor

    @property
    def in_features(self) -> int:
        """D."""
        return self.weight.shape[1]

    @property
    def out_features(self) -> int:
        """K."""
        return self.weight.shape[0]

    def forward(self, features: Tensor) -> Tensor:
        """Map features [N, D] to logits [N, K]."""
        return functional.normalize(features, dim=-1) @ self.weight.T / self.temperature


def simplex_directions(classes: int, dim: int, generator: torch.Generator | None = None) -> Tensor:
    """Vertices [K, D] of a simplex around 0, of norm 1 and with cosines -1 / (K - 1), rotated.

    The rotation is uniform (Haar): of a matrix of normal numbers the orthogonal factor, signs
    fixed. K - 1 dimensions are enough, where others need K.

    Args:
        classes: K, from 2 to D + 1.
        dim: D.
        generator: Source of the rotation; None is torch's own.

    Raises:
        ValueError: fewer than 2 classes, or more than D + 1.
    """
    if not 2 <= classes <= dim + 1:
        raise ValueError(
            f"a simplex in {dim} dimensions has 2 to {dim + 1} vertices, got {classes} classes. "
            "Use wider features, or a trained head."
        )
    basis = _orthonormal(torch.eye(classes, dtype=torch.float64)[:, 1:] - 1 / classes)
    turn = _orthonormal(torch.randn(dim, classes - 1, generator=generator, dtype=torch.float64))
    return (math.sqrt(classes / (classes - 1)) * basis @ turn.T).float()


def _orthonormal(columns: Tensor) -> Tensor:
    """Orthonormal columns of the same span, with the signs that make the factor unique."""
    q, r = torch.linalg.qr(columns)
    turned: Tensor = q * r.diagonal().sign()
    return turned
