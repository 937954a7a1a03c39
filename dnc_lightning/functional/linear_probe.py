"""Linear classifiers on features: ridge regression in closed form, and logistic regression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from dnc_lightning.functional._checks import check_features
from dnc_lightning.functional._scale import unit_scale
from dnc_lightning.functional._tiles import exact_arithmetic, wide

PENALTIES = tuple(10.0**power for power in range(-3, 7))
"""Ridge penalties to choose from, in units of the mean variance of a feature's units."""

ITERATIONS = 100
"""Most steps of L-BFGS."""

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-9}
"""Largest entry of the gradient of the mean loss that counts as none."""


@dataclass(frozen=True)
class LinearProbe:
    """Scores (x - mean) weight + bias, the largest of which is the class."""

    mean: Tensor  # [D]
    weight: Tensor  # [D, C]
    bias: Tensor  # [C]
    penalty: float  # on the squared weights, beside the sum of the losses
    converged: bool

    def scores(self, features: Tensor) -> Tensor:
        """[n, C] of features [n, D]."""
        return (features.to(self.mean.dtype) - self.mean) @ self.weight + self.bias


@dataclass(frozen=True)
class TrainingSet:
    """Labelled features, along the eigenvectors of their covariance, from which both fits start."""

    mean: Tensor  # [D]
    axes: Tensor  # [D, r], columns, r = min(n, D)
    values: Tensor  # [r] eigenvalues of the sum of squares around the mean
    along: Tensor  # [n, r] features along the axes, float32 or float64 as the features
    labels: Tensor  # [n] int64
    classes: int
    exponent: int  # the features were multiplied by 2^exponent

    @classmethod
    def build(cls, features: Tensor, labels: Tensor, num_classes: int | None = None) -> TrainingSet:
        """Decompose the covariance of features [n, D] with labels [n].

        Raises:
            ValueError: features and labels that do not fit, fewer than two classes or samples.
        """
        classes = check_features(features, labels, num_classes)
        if len(features) < 2:
            raise ValueError("a linear probe needs at least two samples, got 1. Add more.")
        dtype = torch.promote_types(features.dtype, torch.float32)
        with exact_arithmetic(features.device):
            scaled, exponent = unit_scale(features, lambda tensor: tensor)
            exact = scaled.to(wide(features.device))
            mean = exact.mean(0)
            centred = exact - mean
            if len(centred) < len(mean):  # the same axes, from the products of the samples
                values, left = torch.linalg.eigh(centred @ centred.T)
                tiny = values.max() * torch.finfo(values.dtype).eps * len(values)
                inverse = torch.where(values > tiny, values.rsqrt(), 0.0)
                axes = centred.T @ (left * inverse)
            else:
                values, axes = torch.linalg.eigh(centred.T @ centred)
            along = centred.to(dtype) @ axes.to(dtype)
            return cls(mean, axes, values.clamp(min=0), along, labels.long(), classes, exponent)

    @property
    def unit_variance(self) -> float:
        """Mean variance of a unit, which penalties are in units of."""
        return float(self.values.sum()) / len(self.mean) / len(self.labels)

    def probe(self, weight: Tensor, bias: Tensor, penalty: float, converged: bool) -> LinearProbe:
        """From weights [D, C] along the axes to one of the features as they were given."""
        scale = 2.0**self.exponent
        return LinearProbe(
            mean=self.mean / scale,
            weight=self.axes @ weight.to(self.axes.dtype) * scale,
            bias=bias.to(self.axes.dtype),
            penalty=penalty / scale**2,
            converged=converged,
        )


def half_of_each_class(labels: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draw the samples to train on: half of every class, the greater half if it is odd.

    Args:
        labels: [N], integers.
        generator: A CPU generator; default a new one with seed 0.

    Returns:
        bool [N] on the labels' device; the others are to test on.

    Raises:
        ValueError: a class with one sample, which cannot be on both sides.
    """
    generator = generator or torch.Generator().manual_seed(0)
    here = labels.long().cpu()
    count = torch.bincount(here)
    single = (count == 1).nonzero().flatten().tolist()
    if single:
        raise ValueError(
            f"class {single[0]} has one sample, and is to be trained on and tested. Give every "
            "class at least two, or drop it."
        )
    keys = torch.rand(len(here), generator=generator, dtype=torch.float64)
    order = (here + keys).argsort()
    place = torch.arange(len(here)) - (count.cumsum(0) - count)[here[order]]
    train = torch.zeros(len(here), dtype=torch.bool)
    train[order] = 2 * place < count[here[order]]
    return train.to(labels.device)


def ridge_probe(data: TrainingSet, penalties: Sequence[float] = PENALTIES) -> LinearProbe:
    """Regress the indicators of the classes, with the penalty of the least leave-one-out error.

    Least squares with a penalty on the weights, not on the bias. The squared error of leaving out
    each sample in turn follows from the fit with all of them: residual / (1 - leverage).

    Args:
        data: To train on.
        penalties: In units of the mean variance of a unit, to choose from.

    Returns:
        The probe. Features without variance get no weight: it names the largest class.
    """
    with exact_arithmetic(data.along.device):
        n, dtype = len(data.labels), data.values.dtype
        target = one_hot(data.labels, data.classes).to(data.along.dtype)
        bias = target.mean(0)
        target = target - bias
        square = data.along.square()
        product = data.along.T @ target
        errors, unit = [], data.unit_variance
        tiny = data.values.max() * torch.finfo(data.along.dtype).eps
        # [A, r]; an axis without variance has no weight, whatever the penalty
        inverse = torch.stack([
            torch.where(data.values > tiny, 1 / (data.values + penalty * unit), 0.0)
            for penalty in penalties
        ])  # fmt: skip
        for row in inverse.to(data.along.dtype):
            residual = torch.addmm(target, data.along, row[:, None] * product, alpha=-1)
            kept = (1 - 1 / n - square @ row).clamp(min=torch.finfo(row.dtype).eps)
            left_out = torch.linalg.vector_norm(residual, dim=1) / kept
            errors.append(left_out.square().sum(dtype=dtype))
        best = int(torch.stack(errors).argmin())
        weight = inverse[best][:, None] * product
        return data.probe(weight, bias, penalties[best] * unit, True)


def logistic_probe(
    data: TrainingSet, *, penalty: float = 1.0, iterations: int = ITERATIONS
) -> LinearProbe:
    """Fit multinomial logistic regression by L-BFGS, from the frequencies of the classes.

    The sum of the cross-entropies + penalty/2 times the sum of squared weights; the bias is free.
    Steps are taken in coordinates in which the features and the penalty together are white: the
    curvature is then near that of a ball, and tens of steps are enough.

    Args:
        data: To train on.
        penalty: In units of the mean variance of a unit: 1 is the default of scikit-learn for
            features of variance 1.
        iterations: Most steps.

    Returns:
        The probe, with `converged` False where the steps ended before the gradient was none.
    """
    with exact_arithmetic(data.along.device):
        n, dtype = len(data.labels), data.along.dtype
        absolute = penalty * data.unit_variance
        curvature = data.values / data.classes + absolute
        scale = torch.where(curvature > 0, (n / curvature).sqrt(), 0.0).to(dtype)
        white = data.along * scale
        decay = (absolute / n * scale.square())[:, None]
        count = torch.bincount(data.labels, minlength=data.classes).to(dtype)
        variables = torch.zeros(len(scale) + 1, data.classes, dtype=dtype, device=white.device)
        # An absent class must not start at minus infinity.
        variables[-1] = (count.clamp(min=0.5) / n).log()
        rows = torch.arange(n, device=white.device)

        def loss() -> float:
            score = torch.addmm(variables[-1], white, variables[:-1])
            peak = score.logsumexp(1, keepdim=True)
            own = score[rows, data.labels]
            residual = score.sub_(peak).exp_()
            residual[rows, data.labels] -= 1
            pulled = decay * variables[:-1]
            torch.addmm(pulled, white.T, residual, alpha=1 / n, out=gradient[:-1])
            gradient[-1] = residual.mean(0)
            fit = (peak[:, 0] - own).mean(dtype=data.values.dtype)
            return float(fit + (pulled * variables[:-1]).sum(dtype=data.values.dtype) / 2)

        gradient = torch.zeros_like(variables)
        variables.grad = gradient
        search = torch.optim.LBFGS(
            [variables],
            max_iter=iterations,
            tolerance_grad=TOLERANCE[dtype],
            tolerance_change=0.0,
            history_size=10,
            line_search_fn="strong_wolfe",
        )
        search.step(loss)  # type: ignore[no-untyped-call]
        loss()
        converged = float(gradient.abs().max()) <= 10 * TOLERANCE[dtype]
        weight = scale[:, None] * variables[:-1]
        return data.probe(weight, variables[-1], absolute, converged)
