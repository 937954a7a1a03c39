"""Products of class means from their distances."""

from __future__ import annotations

from torch import Tensor


def centred_gram(distance2: Tensor) -> Tensor:
    """Products [C, C] of class means around their unweighted mean, -P D P / 2, P the centring.

    Of unbiased squared distances they are unbiased, and squared norms may be below 0.

    Args:
        distance2: [C, C], the diagonal is not looked at.
    """
    squares = distance2.clone().fill_diagonal_(0)
    rows = squares - squares.mean(0)
    return -(rows - rows.mean(1, keepdim=True)) / 2
