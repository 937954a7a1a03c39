"""How many labelled samples per class an error takes: measured, guaranteed and certified."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from dnc_lightning.functional.guarantee import (
    blocks_needed,
    check_confidence,
    error_guarantee,
)

NORMAL_QUANTILE = 1.96
"""Standard errors on either side of a mean that hold it with 95 %."""


@dataclass(frozen=True)
class LabelsNeeded:
    """Labels per class for one target error, from three sources; None where none is enough."""

    measured: float | None  # interpolated between the numbers of shots
    measured_low: float | None  # where the lower end of the error's 95 % interval gets there
    measured_high: float | None  # where the upper end does
    guaranteed: int | None  # of new data, with the confidence that was asked for
    certified: int | None  # by a bound on the error of these very samples
    more_samples: int | None  # per class, until a guarantee may be expected; 0 where there is one


def labels_needed(
    blocks: Mapping[int, Tensor],
    target: float = 0.1,
    *,
    confidence: float = 0.95,
    certified: int | None = None,
    samples: int | None = None,
) -> LabelsNeeded:
    """Answer from the errors of blocks, and from a certificate that is handed on.

    Args:
        blocks: Number of shots m -> errors [R, k] of `block_errors`; at least one.
        target: Error to reach, in (0, 1).
        confidence: Of the guarantee, shared among the numbers of shots, of which the least is
            chosen.
        certified: What `shots_needed` gives.
        samples: Of the smallest class; default the most that the blocks hold.

    Returns:
        `measured` is the least of the shots where even that errs less than the target: one label
        is not known to be too many. `more_samples` takes new blocks to err as these do, and is
        None where the measured error exceeds the target at every number of shots.

    Raises:
        ValueError: no blocks, target or confidence outside (0, 1).

    Examples:
        >>> right = {5: torch.zeros(20, 4), 10: torch.zeros(20, 2)}
        >>> found = labels_needed(right, target=0.1)
        >>> found.measured, found.guaranteed, found.more_samples
        (5.0, None, 282)
    """
    if not blocks:
        raise ValueError("blocks must hold the errors of one number of shots, got none.")
    if not 0 < target < 1:
        raise ValueError(f"target must lie between 0 and 1, both excluded, got {target}.")
    check_confidence(confidence)
    shots = sorted(blocks)
    held = max(blocks[m].shape[1] * (m + 1) for m in shots) if samples is None else samples
    mean = [float(blocks[m].mean()) for m in shots]
    error = [_standard_error(blocks[m]) for m in shots]
    low, high = (
        [value + side * NORMAL_QUANTILE * e for value, e in zip(mean, error, strict=True)]
        for side in (-1, 1)
    )
    shared = 1 - (1 - confidence) / len(shots)
    reached = [m for m in shots if float(error_guarantee(blocks[m], shared)) <= target]
    wanted = [(m, blocks_needed(blocks[m], target, shared)) for m in shots]
    more = [max(0, k * (m + 1) - held) for m, k in wanted if k is not None]
    return LabelsNeeded(
        measured=crossing(shots, mean, target),
        measured_low=crossing(shots, low, target),
        measured_high=crossing(shots, high, target),
        guaranteed=min(reached, default=None),
        certified=certified,
        more_samples=0 if reached else min(more, default=None),
    )


def crossing(shots: Sequence[int], errors: Sequence[float], target: float) -> float | None:
    """Where a curve of errors first comes down to a target, between points on log axes.

    Args:
        shots: Increasing, at least 1.
        errors: One for each; at or below 0 counts as far below the target; nan as above it.
        target: Above 0.

    Returns:
        The first of the shots where even that is below the target; None where none is.
    """
    for s, (m, error) in enumerate(zip(shots, errors, strict=True)):
        if not error <= target:
            continue
        if s == 0 or math.isnan(errors[s - 1]):
            return float(m)
        before, above = shots[s - 1], math.log(errors[s - 1] / target)
        below = math.log(target / max(error, target * FAR_BELOW))
        return float(before * (m / before) ** (above / (above + below)))
    return None


FAR_BELOW = 1e-3
"""Share of the target that an error of 0 counts as: on a log axis it would be out of sight."""


def _standard_error(errors: Tensor) -> float:
    """Of a mean over blocks, as if there were one permutation: more of them only improve it."""
    if errors.shape[1] < 2:
        return math.nan
    return float((errors.var(1).mean() / errors.shape[1]).sqrt())
