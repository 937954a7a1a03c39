"""How often the guarantee holds: ten populations, many draws of each, the exact interval.

`python -m tests.functional.coverage --draws 1000` prints the table.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass

import numpy as np
import torch

from dnc_lightning.functional import few_shot_guarantee


@dataclass(frozen=True)
class Setting:
    """A population, and what is drawn of it."""

    noise: str
    classes: int
    samples: int  # n of each class
    shots: int
    spread: float  # of the class means, in standard deviations of the noise
    dim: int = 6

    def noise_of(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        if self.noise == "gaussian":
            return rng.normal(size=shape)
        if self.noise == "skewed":
            return rng.exponential(size=shape) - 1
        if self.noise == "heavy":  # no fourth moment
            return rng.standard_t(2.5, size=shape)
        if self.noise == "no variance":
            return rng.standard_t(1.5, size=shape)
        if self.noise == "two clusters":
            side = rng.integers(2, size=(*shape[:-1], 1)) * 2 - 1
            return rng.normal(size=shape) * 0.5 + 1.5 * side
        assert self.noise == "outliers"
        far = rng.random(size=(*shape[:-1], 1)) < 0.03
        return rng.normal(size=shape) * np.where(far, 20.0, 1.0)

    def draw(self, rng: np.random.Generator, number: int, each: int) -> np.ndarray:
        """Features [number, C, each, D]; the classes differ in their means and their spread."""
        own = np.random.default_rng(7)
        means = own.normal(size=(self.classes, 1, self.dim)) * self.spread
        scale = np.linspace(0.7, 1.4, self.classes)[:, None, None]
        noise = self.noise_of(rng, (number, self.classes, each, self.dim))
        return means + scale * noise

    def true_error(self, episodes: int = 100_000) -> float:
        """The population's m-shot error, by as many episodes with a query of every class."""
        rng, wrong = np.random.default_rng(1), 0.0
        for _ in range(episodes // 1_000):
            x = self.draw(rng, 1_000, self.shots + 1)
            centre, query = x[:, :, :-1].mean(2), x[:, :, -1]
            distance = ((query[:, :, None] - centre[:, None]) ** 2).sum(3)
            wrong += float((distance.argmin(2) != np.arange(self.classes)).mean())
        return wrong / (episodes // 1_000)

    def bound(self, seed: int) -> float:
        """The guarantee from one draw."""
        x = self.draw(np.random.default_rng([2, seed]), 1, self.samples)[0]
        labels = torch.arange(self.classes).repeat_interleave(self.samples)
        features = torch.as_tensor(x.reshape(-1, self.dim)).float()
        return float(few_shot_guarantee(features, labels, self.shots))


SETTINGS = (
    Setting("gaussian", 2, 50, 1, 1.0),
    Setting("gaussian", 10, 100, 5, 1.5),
    Setting("gaussian", 20, 50, 10, 2.0),
    Setting("gaussian", 2, 500, 10, 0.6),
    Setting("skewed", 3, 100, 3, 1.0),
    Setting("skewed", 10, 100, 1, 1.5),
    Setting("heavy", 4, 200, 5, 2.0),
    Setting("no variance", 2, 200, 10, 2.0),
    Setting("two clusters", 5, 100, 2, 1.0),
    Setting("outliers", 2, 500, 10, 1.0),
)


def binomial_interval(hits: int, draws: int, error: float = 0.05) -> tuple[float, float]:
    """The exact interval of Clopper and Pearson."""

    def below(p: float, most: int) -> float:
        logs = (
            math.lgamma(draws + 1)
            - math.lgamma(k + 1)
            - math.lgamma(draws - k + 1)
            + k * math.log(p)
            + (draws - k) * math.log1p(-p)
            for k in range(most + 1)
        )
        return sum(map(math.exp, logs))

    def where(falls_to: float, most: int) -> float:
        low, high = 0.0, 1.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if below(middle, most) > falls_to else (low, middle)
        return (low + high) / 2

    low = 0.0 if hits == 0 else where(1 - error / 2, hits - 1)
    return low, 1.0 if hits == draws else where(error / 2, hits)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=1_000)
    draws = parser.parse_args().draws
    print("noise | C | n | m | true error | mean bound | misses | exact 95 % interval of misses")
    for setting in SETTINGS:
        truth = setting.true_error()
        bounds = [setting.bound(seed) for seed in range(draws)]
        misses = sum(bound < truth for bound in bounds)
        low, high = binomial_interval(misses, draws)
        print(
            f"{setting.noise} | {setting.classes} | {setting.samples} | {setting.shots} | "
            f"{truth:.4f} | {np.mean(bounds):.4f} | {misses} of {draws} | {low:.4f} to {high:.4f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
