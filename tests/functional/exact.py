"""The numbers of a few samples in exact rational arithmetic, every float taken at its word."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import permutations

from torch import Tensor

Vector = list[Fraction]
ZERO = Fraction(0)


def dot(a: Vector, b: Vector) -> Fraction:
    return sum((p * q for p, q in zip(a, b, strict=True)), ZERO)


def minus(a: Vector, b: Vector) -> Vector:
    return [p - q for p, q in zip(a, b, strict=True)]


def mean(rows: list[Vector]) -> Vector:
    return [sum(column, ZERO) / len(rows) for column in zip(*rows, strict=True)]


@dataclass(frozen=True)
class Exact:
    samples: list[list[Vector]]  # class by class

    @classmethod
    def of(cls, features: Tensor, labels: Tensor) -> Exact:
        rows = [[Fraction(value) for value in row] for row in features.double().tolist()]
        classes = range(int(labels.max()) + 1)
        return cls([[r for r, y in zip(rows, labels.tolist(), strict=True) if y == c]
                    for c in classes])  # fmt: skip

    def residuals(self, c: int) -> list[Vector]:
        return [minus(row, mean(self.samples[c])) for row in self.samples[c]]

    def variance(self, c: int) -> Fraction:
        r = self.residuals(c)
        return sum((dot(a, a) for a in r), ZERO) / len(r)

    def trace_product(self, i: int, j: int) -> Fraction:
        """tr Sigma_i Sigma_j."""
        a, b = self.residuals(i), self.residuals(j)
        return sum((dot(p, q) ** 2 for p in a for q in b), ZERO) / (len(a) * len(b))

    def along(self, i: int, delta: Vector) -> Fraction:
        r = self.residuals(i)
        return sum((dot(a, delta) ** 2 for a in r), ZERO) / len(r)

    def delta(self, i: int, j: int) -> Vector:
        return minus(mean(self.samples[i]), mean(self.samples[j]))

    def cdnv(self, i: int, j: int) -> Fraction | None:
        d2 = dot(self.delta(i, j), self.delta(i, j))
        return (self.variance(i) + self.variance(j)) / d2 if d2 else None

    def directional(self, i: int, j: int) -> Fraction | None:
        delta = self.delta(i, j)
        d2 = dot(delta, delta)
        return self.along(i, delta) / d2**2 if d2 else None

    def centre_variance(self, c: int, m: int) -> Fraction:
        r = self.residuals(c)
        fourth = sum((dot(a, a) ** 2 for a in r), ZERO) / len(r)
        return (fourth - self.variance(c) ** 2 + 2 * (m - 1) * self.trace_product(c, c)) / m**3

    def certificate(self, m: int) -> Fraction:
        """The union of Cantelli terms with the exact cross traces."""
        total, classes = ZERO, len(self.samples)
        for i in range(classes):
            own = sum((self.pair(i, j, m) for j in range(classes) if j != i), ZERO)
            total += min(Fraction(1), own) / classes
        return total

    def pair(self, i: int, j: int, m: int) -> Fraction:
        delta = self.delta(i, j)
        r = self.residuals(j)
        third = sum((dot(a, a) * dot(a, delta) for a in r), ZERO) / len(r)
        margin = dot(delta, delta) + (self.variance(j) - self.variance(i)) / m
        variance = (
            4 * self.along(i, delta)
            + 4 * (self.along(j, delta) + self.trace_product(i, i) + self.trace_product(i, j)) / m
            + self.centre_variance(i, m)
            + self.centre_variance(j, m)
            - 4 * third / m**2
        )
        return variance / (variance + margin**2) if margin > 0 else Fraction(1)

    def one_shot_error(self) -> Fraction:
        """Over all supports with replacement and all queries, for two classes."""
        total = ZERO
        for i, j in permutations(range(2)):
            wrong = [
                guess(query, [own, rival])
                for query in self.samples[i]
                for own in self.samples[i]
                for rival in self.samples[j]
            ]
            total += sum(wrong, ZERO) / len(wrong) / 2
        return total


def guess(query: Vector, centres: list[Vector]) -> Fraction:
    """The error of the first centre: 0, 1, or 1 - 1/k where k are equally near."""
    distance = [dot(minus(query, c), minus(query, c)) for c in centres]
    if min(distance) < distance[0]:
        return Fraction(1)
    return 1 - Fraction(1, distance.count(distance[0]))


def episode_error(features: Tensor, labels: Tensor, supports: list[list[int]]) -> Fraction:
    """Of one episode with given rows of support, class by class."""
    rows = [[Fraction(value) for value in row] for row in features.double().tolist()]
    centres = [mean([rows[k] for k in own]) for own in supports]
    total = ZERO
    for c in range(len(centres)):
        order = [centres[c], *(centre for k, centre in enumerate(centres) if k != c)]
        left = [k for k, y in enumerate(labels.tolist()) if y == c and k not in supports[c]]
        total += sum((guess(rows[k], order) for k in left), ZERO) / len(left)
    return total / len(centres)
