"""Populations whose every moment is known: linear images of centred noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dnc_lightning.functional import ClassGeometry

CUMULANTS = {"gaussian": (0.0, 0.0), "exponential": (2.0, 6.0)}


@dataclass(frozen=True)
class Population:
    """x = mu_c + sum_k e_k a_ck with independent e_k of variance 1."""

    noise: str  # a key of CUMULANTS
    mu: np.ndarray  # [C, D]
    mix: np.ndarray  # [C, D, D], rows a_ck

    @classmethod
    def make(cls, noise: str, classes: int, d: int, distance: float, seed: int = 0) -> Population:
        rng = np.random.default_rng(seed)
        decay = np.arange(1, d + 1) ** -0.5
        mix = rng.normal(size=(classes, d, d)) * decay[:, None] / d**0.5
        mix *= np.linspace(0.8, 1.3, classes)[:, None, None]
        return cls(noise, distance * rng.normal(size=(classes, d)) / d**0.5, mix)

    def draw(self, rng: np.random.Generator, n: int) -> tuple[Tensor, Tensor]:
        """n samples of each class: features [C n, D], labels [C n]."""
        shape = (len(self.mu), n, self.mu.shape[1])
        e = rng.normal(size=shape) if self.noise == "gaussian" else rng.exponential(size=shape) - 1
        x = e @ self.mix + self.mu[:, None]
        return torch.as_tensor(x.reshape(-1, shape[2])), torch.arange(shape[0]).repeat_interleave(n)

    def geometry(self) -> ClassGeometry:
        """The moments themselves."""
        third, fourth = CUMULANTS[self.noise]
        sigma = np.einsum("cka,ckb->cab", self.mix, self.mix)
        delta = self.mu[:, None] - self.mu[None]
        v = np.trace(sigma, axis1=1, axis2=2)
        q = np.einsum("cab,cab->c", sigma, sigma)
        norm2 = (self.mix**2).sum(2)
        classes = len(v)
        return ClassGeometry(
            count=torch.full((classes,), 1e9, dtype=torch.float64),
            mean=torch.as_tensor(self.mu),
            variance=torch.as_tensor(v),
            distance2=torch.as_tensor((delta**2).sum(2)),
            axis_variance=torch.as_tensor(np.einsum("ija,iab,ijb->ij", delta, sigma, delta)),
            second_trace=torch.as_tensor(q),
            cross_trace=torch.as_tensor(np.einsum("iab,jab->ij", sigma, sigma)),
            third_moment=torch.as_tensor(third * np.einsum("ck,cka->ca", norm2, self.mix)),
            fourth_moment=torch.as_tensor(v**2 + 2 * q + fourth * (norm2**2).sum(1)),
            resolved=~torch.eye(classes, dtype=torch.bool),
            cross_trace_exact=True,
            unbiased=True,
        )
