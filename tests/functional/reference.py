"""Slow loops in the notation of the paper, float64 numpy, one pair at a time."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, permutations, product

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


def all_margins(x: Array, y: Array, shots: list[int], i: int) -> Array:
    """M_ij over the rivals j != i for every query of class i and all supports with replacement.

    Rows are equally likely, [n_i * prod_c n_c^m_c, C - 1]: only for a handful of samples.
    """
    samples = moments(x, y).samples
    centres = [
        np.array([s[list(k)].mean(0) for k in product(range(len(s)), repeat=m)])
        for s, m in zip(samples, shots, strict=True)
    ]
    rows = []
    for query in samples[i]:
        distance = [((query - c) ** 2).sum(1) for c in centres]
        grid = np.meshgrid(*distance, indexing="ij")
        rows.append(np.stack([(g - grid[i]).ravel() for j, g in enumerate(grid) if j != i], 1))
    return np.concatenate(rows)


def quadratic_bound(mean: Array, cov: Array, correlation: Array) -> Array:
    """min over z >= 0 of E[(1 - z M)' R^-1 (1 - z M)] of many R, by trying every set of z > 0."""
    inverse = np.linalg.inv(correlation)
    quadratic, linear = inverse * (cov + np.outer(mean, mean)), mean * inverse.sum(2)
    constant = inverse.sum((1, 2))
    best = constant.copy()
    for size in range(1, len(mean) + 1):
        for k in combinations(range(len(mean)), size):
            right = linear[:, k]
            z = np.linalg.solve(quadratic[:, k][:, :, k], right[:, :, None])[:, :, 0]
            value = constant - (z * right).sum(1)
            best = np.where((z >= 0).all(1), np.minimum(best, value), best)
    return best


def correlations_of(angles: Array) -> Array:
    """Correlation matrices of size 1, 2 or 3 from the 0, 1 or 3 angles of their factors' rows."""
    count = angles.shape[1]
    a, b, c = np.concatenate([angles, np.full((len(angles), 3 - count), np.pi / 2)], 1).T
    zero, one = np.zeros_like(a), np.ones_like(a)
    rows = [
        [one, zero, zero],
        [np.cos(a), np.sin(a), zero],
        [np.cos(b), np.sin(b) * np.cos(c), np.sin(b) * np.sin(c)],
    ]
    k = {0: 1, 1: 2, 3: 3}[count]
    factor = np.array(rows).transpose(2, 0, 1)[:, :k, :k]
    return factor @ factor.transpose(0, 2, 1)


def joint_minimum(mean: Array, cov: Array) -> float:
    """The least value of the joint certificate for K <= 3 rivals, by grids that shrink.

    From the best places of a first grid, as there may be several valleys.
    """
    count = {1: 0, 2: 1, 3: 3}[len(mean)]

    def grid(points: int) -> Array:
        along = np.linspace(-1, 1, points)
        return np.array(list(product(along, repeat=count))).reshape(points**count, count)

    def tried(centre: Array, width: float, steps: Array) -> tuple[Array, Array]:
        angles = np.clip(centre + width * steps, 1e-3, np.pi - 1e-3)
        return angles, quadratic_bound(mean, cov, correlations_of(angles))

    every, first = tried(np.full(count, np.pi / 2), np.pi / 2, grid(15))
    best, steps = np.inf, grid(7)
    for start in every[first.argsort()[:4]]:
        centre, width = start, np.pi / 8
        for _ in range(20):
            angles, values = tried(centre, width, steps)
            best = min(best, float(values.min()))
            centre, width = angles[values.argmin()], width * 0.65
    return best


def few_shot_error(
    x: Array, y: Array, shots: list[int], trials: int, rng: np.random.Generator
) -> tuple[float, float]:
    """Simulated error of the nearest class centre, and its standard error over trials.

    Supports are drawn from each class with replacement, every sample is a query, an error is
    averaged over classes, and a tie is an error.
    """
    labels, count = np.unique(y, return_counts=True)
    x = np.asarray(x, dtype=np.float64) - x.mean(0)
    centres = np.stack(
        [
            rng.multinomial(m, np.full(n, 1 / n), size=trials) / m @ x[y == c]
            for c, n, m in zip(labels, count, shots, strict=True)
        ],
        1,
    )
    return _error(x, y, centres)


def centre_error(x: Array, y: Array) -> float:
    """The same for infinitely many shots: the centres are the class means."""
    x = np.asarray(x, dtype=np.float64) - x.mean(0)
    means = np.stack([x[y == c].mean(0) for c in range(int(y.max()) + 1)])
    return _error(x, y, means[None])[0]


def _error(x: Array, y: Array, centres: Array) -> tuple[float, float]:
    trials, classes, d = centres.shape
    score = (centres**2).sum(2)[:, None] - 2 * (x @ centres.reshape(-1, d).T).reshape(
        len(x), trials, classes
    ).transpose(1, 0, 2)
    own = np.take_along_axis(score, y[None, :, None].repeat(trials, 0), 2)
    slack = 1e-12 * (centres**2).sum(2).max()
    wrong = (score <= own + slack).sum(2) > 1
    per_class = np.stack([wrong[:, y == c].mean(1) for c in range(classes)], 1)
    error = per_class.mean(1)
    return float(error.mean()), float(error.std() / np.sqrt(trials))


def probe_set(seed: int, largest: int = 512) -> tuple[Array, Array]:
    """Anything a bound may meet: tails, skew, lattices, outliers, scales, few and many classes."""
    rng = np.random.default_rng(seed)
    classes = int(rng.integers(2, 21))
    d = int(2 ** rng.uniform(0, np.log2(largest)))
    counts = rng.integers(2, 40, size=classes)
    noise = {
        "gaussian": lambda n: rng.normal(size=(n, d)),
        "skewed": lambda n: rng.exponential(size=(n, d)) - 1,
        "heavy": lambda n: rng.standard_t(2.5, size=(n, d)),
        "common heavy": lambda n: rng.normal(size=(n, d)) * rng.pareto(1.5, size=(n, 1)),
        "lattice": lambda n: rng.integers(-1, 2, size=(n, d)).astype(float),
        "outlier": lambda n: (np.arange(n) == 0)[:, None] * rng.normal(size=(n, d)) * 9,
    }
    kind = list(noise)[int(rng.integers(len(noise)))]
    scale = np.exp(rng.uniform(-1, 1) * rng.normal(size=classes))
    spectrum = np.arange(1, d + 1.0) ** -rng.uniform(0, 2)
    distance = np.exp(rng.uniform(-1, 3)) * np.sqrt((spectrum**2).sum() / d)
    mu = np.round(distance * rng.normal(size=(classes, d)), 1 if kind == "lattice" else 9)
    x = [
        noise[kind](n) * (1 if kind == "lattice" else s * spectrum) + m
        for n, s, m in zip(counts, scale, mu, strict=True)
    ]
    return np.concatenate(x), np.arange(classes).repeat(counts)
