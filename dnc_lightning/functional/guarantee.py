"""A distribution-free upper confidence bound on the few-shot error of new data."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from dnc_lightning.functional._checks import check_features
from dnc_lightning.functional._scale import unit_scale
from dnc_lightning.functional._tiles import exact_arithmetic, wide
from dnc_lightning.functional._whole import whole, whole_labels
from dnc_lightning.functional.few_shot import Shard

PERMUTATIONS = 8
"""Ways to cut the samples into blocks; more only take out the luck of the cut."""

BETS = torch.linspace(0.02, 0.98, 25, dtype=torch.float64)
"""Bets against the null, as shares of the largest that cannot lose everything."""

MOST_BLOCKS = 10_000
"""Blocks beyond which a guarantee counts as out of reach."""

CHUNK_ELEMENTS = 2**24
"""Scores and features of blocks that are held at once, 64 MB in float32."""


def few_shot_guarantee(
    features: Tensor,
    labels: Tensor,
    shots: int,
    confidence: float = 0.95,
    ways: int | None = None,
    *,
    shard: Shard | None = None,
) -> Tensor:
    """Bound the error of the nearest class centre with `shots` labels on new samples.

    A bound on the population's m-shot error that holds with probability `confidence` over the draw
    of the samples, for any features, any number of classes and samples, without assuming moments:
    P(error > bound) <= 1 - confidence. It holds for one number of shots and one probe; for a
    statement about several at once divide 1 - confidence among them. Derived here, see
    docs/theory.md: the e-value of independent blocks of m supports and one query per class.

    Below about 8 blocks, m + 1 samples of every class each, it says little.

    Args:
        features: [n, D], floating point, fixed before the samples were drawn: an encoder that was
            trained on these very samples is not covered.
        labels: [n], integers in [0, C).
        shots: m, at least 1 and below the count of every class.
        confidence: In (0, 1).
        ways: Classes of an episode; None is all C.
        shard: Where the samples stand in the whole set; None if they are the whole set.

    Returns:
        The bound in [0, 1], float64 on the CPU; nan if a feature is nan or infinite.

    Raises:
        ValueError: confidence outside (0, 1), shots < 1, a class with fewer than m + 1 samples,
            ways outside [2, C], fewer than two classes, or features and labels that do not fit.

    Examples:
        >>> x = torch.randn(300, 8) + 9 * torch.eye(8)[torch.arange(300) % 3]
        >>> bool(few_shot_guarantee(x, torch.arange(300) % 3, shots=5) < 0.25)
        True
    """
    check_confidence(confidence)
    (errors,) = block_errors(features, labels, shots=[shots], ways=ways, shard=shard)
    return error_guarantee(errors, confidence)


def block_errors(
    features: Tensor,
    labels: Tensor,
    *,
    shots: Sequence[int],
    ways: int | None = None,
    permutations: int = PERMUTATIONS,
    generator: torch.Generator | None = None,
    shard: Shard | None = None,
) -> list[Tensor]:
    """Errors of blocks of m supports and one query of every class, for each number of shots.

    The blocks of a permutation share no sample, and the expectation of each is the population's
    error. Ties are guesses, as in `ncc_error`.

    Args:
        features: As in `few_shot_guarantee`, and so `labels`, `ways` and `shard`.
        labels: [n].
        shots: S numbers of shots.
        ways: Classes of a block, drawn anew for each.
        permutations: R, cuts into blocks, drawn without looking at the features.
        generator: A CPU generator; default a new one with seed 0.
        shard: Of the whole set.

    Returns:
        For each m the errors [R, k] of k = floor(smallest class / (m + 1)) blocks, float64 on the
        CPU, the same on every process; nan if a feature is nan or infinite.

    Raises:
        ValueError: as `few_shot_guarantee`.
    """
    everyone = whole_labels(labels, shard)
    classes = int(everyone.max()) + 1 if len(everyone) else 0
    check_features(features, labels, classes, sharded=shard is not None)
    count = torch.bincount(everyone).cpu()
    features, labels = whole(features, shard), everyone
    ways = _check_blocks(count, shots, ways)
    generator = generator or torch.Generator().manual_seed(0)
    device, start = features.device, count.cumsum(0) - count
    d = features.shape[1]
    with exact_arithmetic(device):
        scaled, _ = unit_scale(features, lambda tensor: tensor)
        if not bool(scaled.isfinite().all()):
            return [torch.full((permutations, _blocks(count, m)), torch.nan) for m in shots]
        scaled = scaled.to(torch.promote_types(scaled.dtype, torch.float32))
        # Around a sample, so that equal features are zero to the last bit.
        data = (scaled - scaled[0]).float()
        found = [torch.zeros(permutations, _blocks(count, m), dtype=wide(device)) for m in shots]
        for r in range(permutations):
            # A random order of the samples of each class, one class after the other.
            keys = torch.rand(len(labels), generator=generator, dtype=torch.float64)
            order = (labels.cpu() + keys).argsort()
            for s, m in enumerate(shots):
                k = found[s].shape[1]
                places = start[:, None] + torch.arange(k * (m + 1))
                rows = order[places].view(classes, k, m + 1).transpose(0, 1)
                chosen = _choose(k, classes, ways, generator)
                size = max(1, CHUNK_ELEMENTS // (classes * (classes + d)))
                for begin in range(0, k, size):
                    part = slice(begin, begin + size)
                    error = _errors(data, scaled, rows[part].to(device), chosen[part].to(device))
                    found[s][r, part] = (error * chosen[part].to(device)).sum(1).cpu() / ways
    return [errors.double() for errors in found]


def error_guarantee(errors: Tensor, confidence: float) -> Tensor:
    """The least error that the blocks refute, as a scalar.

    With a bet f the blocks of one permutation are worth prod_b (1 + f (t - X_b) / (1 - t)), of
    expectation at most 1 if the error is t or more; so is the mean over bets and permutations. By
    Markov's inequality the error is below every t at which that reaches 1 / (1 - confidence).

    Args:
        errors: [R, k] in [0, 1], independent within a row.
        confidence: In (0, 1).
    """
    check_confidence(confidence)
    if bool(errors.isnan().any()):
        return torch.tensor(torch.nan, dtype=torch.float64)
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        if _log_worth(errors, middle) >= -math.log1p(-confidence):
            high = middle
        else:
            low = middle
    return torch.tensor(high, dtype=torch.float64)


def blocks_needed(errors: Tensor, target: float, confidence: float) -> int | None:
    """How many blocks like these would guarantee an error of at most `target`.

    Args:
        errors: [R, k].
        target: In (0, 1).
        confidence: In (0, 1).

    Returns:
        None where the errors are too large for any number of blocks, or for `MOST_BLOCKS`.
    """
    check_confidence(confidence)
    growth = _log_gain(errors, target).mean((0, 1))  # [F]
    number = torch.arange(1, MOST_BLOCKS + 1, dtype=torch.float64)
    worth = torch.logsumexp(number[:, None] * growth, 1) - math.log(len(BETS))
    enough = (worth >= -math.log1p(-confidence)).nonzero()
    return int(enough[0]) + 1 if len(enough) else None


def check_confidence(confidence: float) -> None:
    """Refuse a confidence that is none."""
    if not 0 < confidence < 1:
        raise ValueError(
            f"confidence must lie between 0 and 1, both excluded, got {confidence}. Write 0.95."
        )


def _log_gain(errors: Tensor, t: float) -> Tensor:
    """What every block multiplies every bet by, as a logarithm, [R, k, F]."""
    return torch.log1p(BETS * ((t - errors) / (1 - t))[:, :, None])


def _log_worth(errors: Tensor, t: float) -> float:
    worth = _log_gain(errors, t).sum(1)
    return float(torch.logsumexp(worth.flatten(), 0)) - math.log(worth.numel())


def _errors(data: Tensor, features: Tensor, rows: Tensor, chosen: Tensor) -> Tensor:
    """Error of every query, [k, C]: in double precision where single precision does not decide.

    Args:
        data: [N, D] float32, the features around the first of them.
        features: [N, D] themselves.
        rows: [k, C, m + 1], supports and last the query.
        chosen: [k, C] bool.
    """
    exact = wide(data.device)
    score, own, tolerance = _scores(data, rows, chosen)
    ahead = score.amax(2) - own
    error = (ahead > tolerance).to(exact)
    unsure = ahead.abs() <= tolerance
    again = (unsure & chosen).any(1).nonzero()[:, 0]
    if len(again):
        some = rows[again]
        table = features[some.flatten()].to(exact) - features[0]
        places = torch.arange(len(table), device=table.device).view(some.shape)
        score, own, tolerance = _scores(table, places, chosen[again])
        behind = own[:, :, None] - score
        tied = 1 + (behind.abs() <= tolerance[:, :, None]).sum(2, dtype=exact)
        error[again] = torch.where((-behind.amin(2)) > tolerance, 1.0, 1 - 1 / tied)
    return error


def _scores(data: Tensor, rows: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Scores of every query for the other centres [k, C, C], for its own [k, C], their rounding."""
    blocks, classes, taken = rows.shape
    support = rows[:, :, :-1].reshape(-1, taken - 1)
    centre = embedding_bag(support, data, mode="mean").view(blocks, classes, -1)
    query = data[rows[:, :, -1]]
    square = centre.square().sum(2)
    score = torch.baddbmm(square[:, None], query, centre.mT, beta=-0.5)
    own = score.diagonal(dim1=1, dim2=2).clone()
    score.diagonal(dim1=1, dim2=2).fill_(-torch.inf)
    if not bool(chosen.all()):
        score.masked_fill_(~chosen[:, None], -torch.inf)
    widest = square.amax(1, keepdim=True)
    rounding = torch.finfo(data.dtype).eps * (4 + 2 * data.shape[1] ** 0.5)
    reach = widest + widest.sqrt() * torch.linalg.vector_norm(query, dim=2)
    return score, own, rounding * reach


def _choose(blocks: int, classes: int, ways: int, generator: torch.Generator) -> Tensor:
    """Classes of every block, bool [k, C]."""
    if ways == classes:
        return torch.ones(blocks, classes, dtype=torch.bool)
    first = torch.rand(blocks, classes, generator=generator).topk(ways, dim=1).indices
    return torch.zeros(blocks, classes, dtype=torch.bool).scatter_(1, first, True)


def _blocks(count: Tensor, shots: int) -> int:
    return int(count.min()) // (shots + 1)


def _check_blocks(count: Tensor, shots: Sequence[int], ways: int | None) -> int:
    for m in shots:
        if m < 1:
            raise ValueError(f"shots must be at least 1, got {m}.")
        short = (count <= m).nonzero().flatten().tolist()
        if short:
            raise ValueError(
                f"shots={m} leaves no sample of class {short[0]} to classify, which has "
                f"{int(count[short[0]])}. Give every class {m + 1} samples, and about "
                f"{20 * (m + 1)} for a guarantee that says much, or take fewer shots."
            )
    if ways is not None and not 2 <= ways <= len(count):
        raise ValueError(f"ways must be between 2 and the {len(count)} classes, got {ways}.")
    return ways or len(count)
