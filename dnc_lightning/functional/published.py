"""The bounds of pairs as published: Theorem 4.1 of arXiv:2603.03530, and its predecessor's."""

from __future__ import annotations

import torch
from torch import Tensor

from dnc_lightning.functional._pairs import PairRows


def theorem_4_1(pairs: PairRows, m: Tensor) -> Tensor:
    """Theorem 4.1 for m shots [..., 1, 1], [..., b, C]; 1 where it says nothing."""
    p, d2 = pairs, pairs.distance2
    v = (p.own(p.variance) + p.variance) / d2
    theta = (p.own(p.fourth_moment) + p.fourth_moment) / d2.square()
    directional = p.axis_variance / d2.square()
    e1 = 4 / m * (v.square() + v / 4)
    e2 = v / m
    e3 = (theta + 2 * (m - 1) * v.square()) / m**3
    root = e1.sqrt() + e2.sqrt() + e3.sqrt()
    gap = 1 + (p.variance - p.own(p.variance)) / (m * d2)
    value = (4 * directional + root.square()) / gap.square()
    return torch.where((gap > 0) & p.resolved, value, 1.0)


def luthra(directional: Tensor, v: Tensor, root_v: Tensor, m: Tensor) -> Tensor:
    """Min over a >= 5 of Vt (1/2 - A/a)^-2 + a B, with A = 2 + 2^(3/2)/m, elementwise.

    The stationary point a = 2A + x solves x^3 = p (x + 2A) with p = 16 A Vt / B: Newton's method on
    a function that is convex there, from at most sqrt(2) times the solution.
    """
    a0 = 2 + 2**1.5 / m
    slope = (2 * (root_v + v) / m.sqrt() + v / m) / 4
    p = 16 * a0 * directional / slope
    x = torch.maximum((2 * p).sqrt(), (4 * a0 * p).pow(1 / 3))
    for _ in range(10):
        x = x - (x**3 - p * (x + 2 * a0)) / (3 * x.square() - p).clamp(
            min=torch.finfo(x.dtype).tiny
        )
    x = torch.maximum(x.nan_to_num(nan=0.0), 5 - 2 * a0)
    shrink = torch.where(directional > 0, 4 * ((x + 2 * a0) / x).square() * directional, 0.0)
    value = shrink + slope * (x + 2 * a0).clamp(min=5)
    return torch.where(slope > 0, value, 4 * directional)
