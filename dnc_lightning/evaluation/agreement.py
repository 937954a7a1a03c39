"""How well one number orders encoders as another does."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dnc_lightning.evaluation.optional import require

BOOTSTRAPS = 2000
LEVEL = 0.95
LEAST = 4
"""Encoders without which nothing is said."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Agreement:
    """Rank correlations of a number with an error, averaged over tasks; 1 is the same order."""

    tau: float  # Kendall's tau_b
    low: float  # of its 95 % interval, by bootstrap over encoders
    high: float
    weighted: float  # tau that counts the best encoders most
    partial: float  # tau given a third number, nan where that is the number itself
    regret: float  # error of the encoder that the number calls the best, less the least error
    tasks: int  # that it is the average of


def agreement(
    badness: Array, errors: Array, given: Array | None = None, seed: int = 0
) -> Agreement:
    """Compare a number with errors over encoders, task by task, and average.

    Tasks are never pooled. The bootstrap draws encoders, the same for all tasks.

    Args:
        badness: [T, n] the number, low where it calls an encoder good; nan where it has none.
        errors: [T, n] of the same encoders.
        given: [T, n] what partial correlations are given.
        seed: Of the bootstrap.

    Returns:
        All nan where fewer than `LEAST` encoders have both in every task.
    """
    rows = [
        (b, e, np.full_like(b, np.nan) if g is None else g)
        for b, e, g in zip(
            badness, errors, [None] * len(errors) if given is None else given, strict=True
        )
        if (np.isfinite(b) & np.isfinite(e)).sum() >= LEAST
    ]
    if not rows:
        nothing = float("nan")
        return Agreement(nothing, nothing, nothing, nothing, nothing, nothing, 0)
    random = np.random.default_rng(seed)
    n = badness.shape[1]
    draws = random.multinomial(n, np.full(n, 1 / n), size=BOOTSTRAPS).astype(np.float64)
    spread = np.array([_taus(b, e, draws) for b, e, _ in rows])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a draw of one encoder alone
        low, high = np.nanquantile(np.nanmean(spread, 0), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Agreement(
        tau=_mean([tau(b, e) for b, e, _ in rows]),
        low=float(low),
        high=float(high),
        weighted=_mean([_weighted(b, e) for b, e, _ in rows]),
        partial=_mean([_partial(b, e, g) for b, e, g in rows]),
        regret=_mean([_regret(b, e) for b, e, _ in rows]),
        tasks=len(rows),
    )


def tau(a: Array, b: Array) -> float:
    """Kendall's tau_b over those that both know; nan where one of them is the same for all."""
    return float(_taus(a, b, np.ones((1, len(a))))[0])


def _taus(a: Array, b: Array, draws: Array) -> Array:
    """The same with every encoder as often as each draw [B, n] says; [B].

    tau_b is a cosine: of the signs of all differences, a pair as often as it is drawn.
    """
    known = np.isfinite(a) & np.isfinite(b)
    a, b, draws = a[known], b[known], draws[:, known]
    first, second = (np.sign(values[:, None] - values) for values in (a, b))
    both, one, other = (
        ((draws @ product) * draws).sum(1) for product in (first * second, first**2, second**2)
    )
    with np.errstate(invalid="ignore"):
        cosine: Array = both / np.sqrt(one * other)
    return cosine


def _weighted(a: Array, b: Array) -> float:
    require("scipy")
    from scipy.stats import weightedtau

    known = np.isfinite(a) & np.isfinite(b)
    return float(weightedtau(-a[known], -b[known]).statistic)


def _partial(a: Array, b: Array, given: Array) -> float:
    direct, first, second = tau(a, b), tau(a, given), tau(b, given)
    rest = (1 - first**2) * (1 - second**2)
    # The same order as what is given, up to rounding: nothing is left to explain.
    return (direct - first * second) / np.sqrt(rest) if rest > 1e-9 else float("nan")


def _regret(badness: Array, errors: Array) -> float:
    known = np.isfinite(badness) & np.isfinite(errors)
    badness, errors = badness[known], errors[known]
    return float(errors[badness.argmin()] - errors.min())


def _mean(values: list[float]) -> float:
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")
