"""The moments of classes and of all pairs of classes, as one value."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from torch import Tensor

from dnc_lightning.functional._scale import times_power_of_two


@dataclass(frozen=True)
class ClassGeometry:
    """Moments of C classes in R^D that every number of this package is made of.

    Symbols are those of docs/theory.md, section 1: class means mu_i, within-class covariances
    Sigma_i, delta_ij = mu_i - mu_j. Tensors are float64 (float32 on MPS) on the features' device;
    entries of classes without samples are nan.
    """

    count: Tensor  # [C] samples per class
    mean: Tensor  # [C, D] mu_i
    variance: Tensor  # [C] v_i = tr Sigma_i
    distance2: Tensor  # [C, C] |delta_ij|^2
    axis_variance: Tensor  # [C, C] A_ij = delta_ij' Sigma_i delta_ij
    second_trace: Tensor  # [C] q_i = tr Sigma_i^2
    cross_trace: Tensor  # [C, C] Q_ij = tr Sigma_i Sigma_j, or its bound sqrt(q_i q_j)
    third_moment: Tensor  # [C, D] t_i = E |x - mu_i|^2 (x - mu_i)
    fourth_moment: Tensor  # [C] E |x - mu_i|^4
    resolved: Tensor  # [C, C] bool, pairs i != j whose means differ
    cross_trace_exact: bool  # whether cross_trace is exact rather than its bound
    unbiased: bool  # population estimates rather than moments of the samples
    axis_covariance: Tensor | None = None  # [C, C, C] delta_ij' Sigma_i delta_ik, on request
    coincident: Tensor | None = None  # [C, C] bool, pairs that differ by rounding alone

    @property
    def num_classes(self) -> int:
        """C, including classes without samples."""
        return self.count.shape[0]

    @cached_property
    def finite(self) -> bool:
        """Whether the means of all classes with samples are finite, as their features then are."""
        return bool(self.mean[self.count > 0].isfinite().all())

    @cached_property
    def third_projection(self) -> Tensor:
        """mu_i . t_j around the mean of the class means, [C, C]."""
        return (self.mean - self.mean.nanmean(0)) @ self.third_moment.T


def rescale(geometry: ClassGeometry, exponent: int) -> ClassGeometry:
    """The geometry of the features times 2^exponent."""
    if exponent == 0:
        return geometry
    powers = {
        "mean": 1,
        "variance": 2,
        "distance2": 2,
        "axis_variance": 4,
        "second_trace": 4,
        "cross_trace": 4,
        "third_moment": 3,
        "fourth_moment": 4,
        "axis_covariance": 4,
    }
    changed: dict[str, Any] = {
        name: times_power_of_two(values, power * exponent)
        for name, power in powers.items()
        if (values := getattr(geometry, name)) is not None
    }
    return replace(geometry, **changed)
