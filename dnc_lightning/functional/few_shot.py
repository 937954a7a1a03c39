"""The measured error of the nearest-class-centre classifier over few-shot episodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from dnc_lightning.functional._checks import check_features
from dnc_lightning.functional._nearest import Centres, Points, nearest_errors
from dnc_lightning.functional._scale import rounding, unit_scale
from dnc_lightning.functional._tiles import Reduce, exact_arithmetic, wide

CHUNK_ELEMENTS = 2**24
"""Scores of samples against centres that are held at once, 64 MB in float32."""

MOST_SCORES = 2**20
"""Scores of an episode beyond which it classifies some of each class's remaining samples only."""


@dataclass(frozen=True)
class Shard:
    """The part of a sample set that this process holds, for features spread over processes."""

    labels: Tensor  # [N] labels of the whole set, the same on every process
    rows: Tensor  # [n] places of this process's features in it
    reduce: Reduce  # sums over the processes


def ncc_error(
    features: Tensor,
    labels: Tensor,
    *,
    shots: int,
    ways: int | None = None,
    episodes: int = 100,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Measure the error of the nearest-class-centre classifier with `shots` samples per class.

    Each episode draws `shots` samples of each of its classes without replacement, classifies all
    remaining samples of these classes by the nearest mean, and averages over classes. With C
    classes it classifies at most `MOST_SCORES` / C^2 samples of each, drawn anew, and one at least:
    a part from about 150 classes of 50 on, as a thousand classes say enough with fewer of each.
    The mean is unbiased either way, and its standard error knows of the drawing. A sample that
    is equally near to k means, within the rounding of the arithmetic, counts as a uniform guess
    among them, an error of 1 - 1/k; so a constant encoder errs 1 - 1/ways.

    Args:
        features: [N, D], floating point.
        labels: [N], integers in [0, C).
        shots: m, at least 1 and below the count of every class.
        ways: Classes of an episode, drawn anew for each; None is all C.
        episodes: Independent draws, at least 2.
        generator: A CPU generator; default a new one with seed 0. The global one is not touched.

    Returns:
        Mean error and its standard error over episodes, scalars in [0, 1]; nan if a feature is nan
        or infinite.

    Raises:
        ValueError: shots < 1, a class with no sample left to classify (named with its count), ways
            outside [2, C], episodes < 2, or features and labels that do not fit.

    Examples:
        >>> x = torch.randn(60, 8) + 9 * torch.eye(8)[torch.arange(60) % 3]
        >>> mean, error = ncc_error(x, torch.arange(60) % 3, shots=5)
        >>> float(mean)
        0.0
    """
    mean, error = ncc_errors(
        features, labels, shots=[shots], ways=ways, episodes=episodes, generator=generator
    )
    return mean[0], error[0]


def ncc_errors(
    features: Tensor,
    labels: Tensor,
    *,
    shots: Sequence[int],
    ways: int | None = None,
    episodes: int = 100,
    generator: torch.Generator | None = None,
    shard: Shard | None = None,
) -> tuple[Tensor, Tensor]:
    """`ncc_error` for several numbers of shots in one pass; the supports of an episode are nested.

    Args:
        features: [n, D] of this process.
        labels: [n] of the same.
        shots: S numbers of shots.
        ways: As in `ncc_error`.
        episodes: As in `ncc_error`.
        generator: As in `ncc_error`; in the same state on every process.
        shard: Where the samples stand in the whole set; None if they are the whole set.

    Returns:
        Mean errors [S] and their standard errors [S], float32 on the features' device; nan if a
        feature of any process is nan or infinite.

    Raises:
        ValueError: as `ncc_error`.
    """
    everyone = (labels if shard is None else shard.labels).long()
    classes = int(everyone.max()) + 1 if len(everyone) else 0
    check_features(features, labels, classes, sharded=shard is not None)
    count = torch.bincount(everyone, minlength=classes).cpu()
    ways = _check_episodes(count, shots, ways, episodes)
    device, labels = features.device, labels.long()
    rows = torch.arange(len(features)) if shard is None else shard.rows.cpu()
    reduce: Reduce = (lambda tensor: tensor) if shard is None else shard.reduce
    generator = generator or torch.Generator().manual_seed(0)
    supports = _Supports.build(everyone.cpu(), count, rows, max(shots), device)
    most = max(1, MOST_SCORES // classes**2)
    order = sorted(range(len(shots)), key=lambda s: shots[s])
    wrong = torch.zeros(len(shots), episodes, classes, dtype=wide(device), device=device)
    every_chosen = []
    with exact_arithmetic(device):
        scaled, _ = unit_scale(features, reduce)
        offset = reduce(scaled.sum(0, dtype=wide(device))) / len(everyone)
        # A comparison with nan is False, and "not farther" would read as right.
        if not bool(offset.isfinite().all()):
            nothing = features.new_full((len(shots),), torch.nan, dtype=torch.float32)
            return nothing, nothing.clone()
        points = Points(scaled, offset)
        chunk = max(1, CHUNK_ELEMENTS // (len(everyone) * classes))
        for begin in range(0, episodes, chunk):
            now = slice(begin, min(begin + chunk, episodes))
            drawn = now.stop - begin
            chosen = _choose(classes, ways, drawn, generator).to(device)
            every_chosen.append(chosen)
            height = max(1, CHUNK_ELEMENTS // (drawn * classes))
            places, last = supports.draw_with_queries(drawn, generator, most)
            left = chosen[:, labels]
            if last is not None:
                left &= _marked(last, len(points), device)
            ends = [0, *(shots[s] for s in order)]
            new = [places[:, :, a:b].to(device) for a, b in pairwise(ends)]
            totals = reduce(_sums(points, new)).cumsum_(0)
            for s, part, total in zip(order, new, totals, strict=True):
                left &= ~_marked(part, len(points), device)
                error = rounding(features.dtype)
                centres = Centres.build(total / shots[s], offset, chosen, error)
                for some in torch.split(left.any(0).nonzero()[:, 0], height):
                    found = nearest_errors(points.take(some), labels[some], centres, left[:, some])
                    wrong[s, now].index_add_(1, labels[some], found)
        asked = [(count - m).clamp(max=most) for m in shots]
        rate = reduce(wrong) / torch.stack(asked).to(device)[:, None]
        errors = (rate * torch.cat(every_chosen)).sum(2) / ways
    return errors.mean(1).float(), (errors.std(1) / episodes**0.5).float()


def _marked(places: Tensor, samples: int, device: torch.device) -> Tensor:
    """Which of this process's samples stand in places [E, C, k], bool [E, n]."""
    # The last column stands for samples of other processes.
    out = torch.zeros(len(places), samples + 1, dtype=torch.bool, device=device)
    return out.scatter_(1, places.flatten(1).to(device), True)[:, :samples]


def _sums(points: Points, parts: Sequence[Tensor]) -> Tensor:
    """Sums around the offset of the samples in S places [E, C, k], [S, E, C, D]."""
    samples, dim = points.features.shape
    out = points.offset.new_zeros(len(parts), *parts[0].shape[:2], dim)
    width = max(1, CHUNK_ELEMENTS // (samples + 1))
    for begin in range(0, dim, width):
        columns = slice(begin, begin + width)
        # The last row stands for samples of other processes.
        table = F.pad(
            Points(points.features[:, columns], points.offset[columns]).exact, (0, 0, 0, 1)
        )
        for sums, places in zip(out, parts, strict=True):
            if places.shape[2]:
                found = F.embedding_bag(places.flatten(0, 1), table, mode="sum")
                sums[..., columns] = found.view(*places.shape[:2], -1)
    return out


@dataclass(frozen=True)
class _Supports:
    """Draws the samples of every class in random order."""

    member: Tensor  # [C, n] local row of each sample of each class; `absent` where not here
    padded: Tensor  # [C, n] bool, beyond a class's count
    most: int  # samples drawn per class
    absent: int  # stands for rows of other processes

    @classmethod
    def build(
        cls, everyone: Tensor, count: Tensor, rows: Tensor, most: int, device: torch.device
    ) -> _Supports:
        local = torch.full((len(everyone),), len(rows))
        local[rows] = torch.arange(len(rows))
        start = count.cumsum(0) - count
        column = torch.arange(int(count.max()))
        padded = column >= count[:, None]
        by_class = everyone.argsort(stable=True)
        place = (start[:, None] + column).clamp(max=len(everyone) - 1)
        return cls(member=local[by_class[place]], padded=padded, most=most, absent=len(rows))

    def draw(self, episodes: int, generator: torch.Generator) -> Tensor:
        """Rows [episodes, C, most] of a random order of each class without replacement."""
        return self.draw_with_queries(episodes, generator, self.member.shape[1])[0]

    def draw_with_queries(
        self, episodes: int, generator: torch.Generator, queries: int
    ) -> tuple[Tensor, Tensor | None]:
        """The same, and the last `queries` of that order; None where these are all."""
        keys = torch.rand(episodes, *self.member.shape, generator=generator)
        keys.masked_fill_(self.padded, 2.0)
        first = keys.topk(self.most, dim=2, largest=False, sorted=True).indices
        member = self.member.expand(episodes, -1, -1)
        if queries >= self.member.shape[1]:
            return member.gather(2, first), None
        # Nothing before the last of the class: a class with fewer gives all that it has.
        last = keys.masked_fill_(self.padded, -1.0).topk(queries, dim=2)
        rows = member.gather(2, last.indices)
        return member.gather(2, first), rows.masked_fill(last.values < 0, self.absent)


def _choose(classes: int, ways: int, episodes: int, generator: torch.Generator) -> Tensor:
    """Classes of each episode, bool [episodes, C]."""
    if ways == classes:
        return torch.ones(episodes, classes, dtype=torch.bool)
    keys = torch.rand(episodes, classes, generator=generator)
    chosen = torch.zeros(episodes, classes, dtype=torch.bool)
    return chosen.scatter_(1, keys.topk(ways, dim=1).indices, True)


def _check_episodes(count: Tensor, shots: Sequence[int], ways: int | None, episodes: int) -> int:
    for m in shots:
        if m < 1:
            raise ValueError(f"shots must be at least 1, got {m}.")
        short = (count <= m).nonzero().flatten().tolist()
        if short:
            listed = ", ".join(f"class {c} has {int(count[c])}" for c in short[:5])
            raise ValueError(
                f"shots={m} leaves no sample to classify: {listed}"
                f"{' ...' if len(short) > 5 else ''}. Each class needs at least {m + 1} samples."
            )
    classes = len(count)
    if ways is not None and not 2 <= ways <= classes:
        raise ValueError(f"ways must be between 2 and the {classes} classes, got {ways}.")
    if episodes < 2:
        raise ValueError(f"episodes must be at least 2 for a standard error, got {episodes}.")
    return ways or classes
