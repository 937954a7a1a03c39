"""Whether class means lie on a circle, in the order of their classes or in any."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from dnc_lightning.functional._class_geometry import ClassGeometry
from dnc_lightning.functional._gram import centred_gram

LEAST_CLASSES = 5
"""Three means on a circle are a simplex, and four say little."""

PLANE, ROUND, PURE, EVEN, APART = 0.9, 0.5, 0.9, 0.2, 0.3
"""Of a circle: least share in a plane, least balance, least share of one frequency, largest spread
of the radii, largest spread of the gaps between neighbours. From drawn examples, derived here."""

FLAT_LINE = 0.05
"""Balance below which a plane figure is a line, and above which it is bent."""

Shape = Literal["circle", "ellipse", "unordered circle", "line", "horseshoe"]


@dataclass(frozen=True)
class Cyclic:
    """Class means around their mean, in the order of the classes; scalars, nan if undefined."""

    plane: Tensor  # share of the squared lengths in the two widest directions; 2 / (K - 1) if even
    balance: Tensor  # of the second over the first of these: 1 of a circle, 0 of a line
    fourier: Tensor  # largest share of one frequency over the order of the classes, 1 of a circle
    frequency: Tensor  # that frequency, 1 to K / 2
    radius_spread: Tensor  # standard deviation over mean of the radii in that plane
    gap_spread: Tensor  # standard deviation over mean of the angles between neighbours in it

    @property
    def shape(self) -> Shape | None:
        """What the means are drawn up as; None for a simplex, a cloud, and whatever is undefined.

        A horseshoe is what ordered classes of one scale often look like: bent, and not closed. An
        ellipse goes round in one frequency as a circle does, and is narrow.
        """
        if not float(self.plane) >= PLANE:
            return None
        balance = float(self.balance)
        if FLAT_LINE <= balance < ROUND and float(self.fourier) >= PURE:
            return "ellipse"
        closed = balance >= ROUND and float(self.radius_spread) <= EVEN
        if closed and float(self.fourier) >= PURE:
            return "circle"
        if closed and float(self.gap_spread) <= APART:
            return "unordered circle"
        return "line" if balance < FLAT_LINE else "horseshoe" if balance < ROUND else None


def cyclic(geometry: ClassGeometry) -> Cyclic:
    """Measure how circular the class means are, as of networks that add numbers modulo K.

    Tan, Gai and Zhang, arXiv:2606.08985, say that such a plane geometry beats the simplex in cyclic
    tasks; the measures are derived here. All follow from the distances of means, so that unbiased
    ones leave the noise of few samples out.

    Args:
        geometry: Of at least `LEAST_CLASSES` classes, in their cyclic order, best unbiased.

    Raises:
        ValueError: fewer classes.
    """
    k = len(geometry.distance2)
    if k < LEAST_CLASSES:
        raise ValueError(f"a circle needs at least {LEAST_CLASSES} classes, got {k}.")
    gram = centred_gram(geometry.distance2)
    if not bool(gram.isfinite().all()) or not bool(gram.diagonal().sum() > 0):
        nothing = gram.new_tensor(math.nan)
        return Cyclic(*[nothing] * 6)
    values, axes = torch.linalg.eigh(gram)
    first, second = values[-1], values[-2].clamp(min=0)
    plane = axes[:, [-1, -2]] * torch.stack([first, second]).sqrt()  # [K, 2]
    radius = torch.linalg.vector_norm(plane, dim=1)
    angle = torch.atan2(plane[:, 1], plane[:, 0]).sort().values
    gaps = torch.cat([angle.diff(), angle[:1] + 2 * math.pi - angle[-1:]])
    power = torch.fft.fft2(gram.cpu()).real  # entry (f, -f) is that of frequency f
    order = torch.arange(1, k)
    each = power[order, k - order].clamp(min=0)  # [K - 1]
    paired = (each + each.flip(0))[: k // 2]
    if k % 2 == 0:
        paired[-1] /= 2  # the highest frequency is its own mirror
    share = paired / each.sum()
    return Cyclic(
        # Unbiased lengths of the rest can be below 0 together.
        plane=((first + second) / values.sum()).clamp(max=1),
        balance=second / first,
        fourier=share.max().to(gram.device),
        frequency=(share.argmax() + 1).to(gram),
        radius_spread=radius.std(correction=0) / radius.mean(),
        gap_spread=gaps.std(correction=0) / gaps.mean(),
    )
