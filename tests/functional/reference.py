"""Slow loops in the notation of the paper, float64 numpy, one pair at a time."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import numpy as np

Array = np.ndarray


@dataclass(frozen=True)
class Moments:
    mu: list[Array]
    sigma: list[Array]
    samples: list[Array]


def moments(x: Array, y: Array, ddof: int = 0) -> Moments:
    x = np.asarray(x, dtype=np.float64)
    samples = [x[y == c] for c in range(int(y.max()) + 1)]
    mu = [s.mean(0) for s in samples]
    sigma = [np.cov(s.T, ddof=ddof).reshape(x.shape[1], x.shape[1]) for s in samples]
    return Moments(mu, sigma, samples)


def pairs(x: Array, y: Array) -> dict[tuple[int, int], dict[str, float]]:
    m = moments(x, y)
    out = {}
    for i, j in permutations(range(len(m.mu)), 2):
        delta = m.mu[i] - m.mu[j]
        d2 = float(delta @ delta)
        centred = m.samples[i] - m.mu[i]
        square = (centred**2).sum(1)
        third_j = m.samples[j] - m.mu[j]
        third_j = ((third_j**2).sum(1)[:, None] * third_j).mean(0)
        a = float(delta @ m.sigma[i] @ delta)
        out[i, j] = {
            "d2": d2,
            "A": a,
            "V": float(np.trace(m.sigma[i]) + np.trace(m.sigma[j])) / d2,
            "Vtilde": a / d2**2,
            "trSi2": float(np.trace(m.sigma[i] @ m.sigma[i])),
            "trSiSj": float(np.trace(m.sigma[i] @ m.sigma[j])),
            "M4i": float((square**2).mean()),
            "vi": float(np.trace(m.sigma[i])),
            "delta_dot_tj": float(delta @ third_j),
        }
    return out


def asymmetric(
    seed: int, counts: tuple[int, ...] = (7, 12, 5, 9), d: int = 6, offset: float = 0.0
) -> tuple[Array, Array]:
    """Skewed classes of unequal size, scale and covariance, in shuffled order."""
    rng = np.random.default_rng(seed)
    x, y = [], []
    for c, n in enumerate(counts):
        mix = rng.normal(size=(d, d)) * (0.3 + 0.4 * c)
        x.append((rng.exponential(size=(n, d)) - 0.5) @ mix + 3 * rng.normal(size=d) + offset)
        y.append(np.full(n, c))
    order = rng.permutation(sum(counts))
    return np.concatenate(x)[order], np.concatenate(y)[order]
