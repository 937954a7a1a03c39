"""The worst pairs of many classes, by directional CDNV, without all pairs being held."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dnc_lightning.functional._class_geometry import ClassGeometry
from dnc_lightning.functional._pairs import pair_rows
from dnc_lightning.functional.collapse import cdnv_rows, directional_cdnv_rows


@dataclass(frozen=True)
class WorstPairs:
    """What is kept of C classes; undefined pairs are nan."""

    pairs: Tensor  # [P, 2] ordered classes (i, j), of the largest directional CDNV first
    values: Tensor  # [P, 2] CDNV and directional CDNV of these
    by_class: Tensor  # [C, 2] largest and mean directional CDNV of a class with all others
    classes: Tensor  # [K] classes of the worst pairs, in rising order
    cdnv: Tensor  # [K, K] of these
    directional_cdnv: Tensor  # [K, K]


def worst_pairs(geometry: ClassGeometry, pairs: int, classes: int) -> WorstPairs:
    """Find the pairs with the largest directional CDNV, and the classes of such pairs.

    A class counts by the largest number of all pairs that it is an end of.

    Args:
        geometry: Of C classes.
        pairs: Most pairs to keep.
        classes: Most classes to keep.

    Returns:
        At most so many, fewer where fewer pairs are defined.
    """
    c, device = geometry.num_classes, geometry.variance.device
    best = geometry.variance.new_empty(0)  # values, with their places in [C, C] and CDNV
    place, plain = torch.empty(0, dtype=torch.long, device=device), best
    of_columns = torch.full_like(geometry.variance, -torch.inf)
    by_class = []
    for p in pair_rows(geometry):
        directional = directional_cdnv_rows(p)
        ranked = directional.nan_to_num(nan=-torch.inf)
        of_columns = torch.maximum(of_columns, ranked.amax(0))
        by_class.append(torch.stack([ranked.amax(1), directional.nanmean(1)], 1))
        top = ranked.flatten().topk(min(pairs, ranked.numel()))
        best = torch.cat([best, top.values])
        place = torch.cat([place, top.indices + p.rows.start * c])
        plain = torch.cat([plain, cdnv_rows(p).flatten()[top.indices]])
        order = best.argsort(descending=True, stable=True)[:pairs]
        best, place, plain = best[order], place[order], plain[order]
    found = best.isfinite()
    worst = torch.cat(by_class)
    score = torch.maximum(worst[:, 0], of_columns)
    kept = score.argsort(descending=True, stable=True)[:classes].sort().values
    inner = [
        torch.cat([number(p)[kept_rows(kept, p.rows)][:, kept] for p in pair_rows(geometry)])
        for number in (cdnv_rows, directional_cdnv_rows)
    ]
    return WorstPairs(
        pairs=torch.stack([place // c, place % c], 1)[found],
        values=torch.stack([plain, best], 1)[found],
        by_class=torch.where(worst.isfinite(), worst, torch.nan),
        classes=kept,
        cdnv=inner[0],
        directional_cdnv=inner[1],
    )


def kept_rows(kept: Tensor, rows: slice) -> Tensor:
    """Rows of a block that stand for kept classes."""
    inside = kept[(kept >= rows.start) & (kept < rows.stop)]
    return inside.sub(rows.start)
