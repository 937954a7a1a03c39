"""Whether features tell images of unknown kinds from those of known classes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc

from dnc_lightning.functional._whole import whole_labels
from dnc_lightning.functional.linear_probe import half_of_each_class
from dnc_lightning.functional.out_of_distribution import known_classes, known_scores
from dnc_lightning.probe.bench import Bench
from dnc_lightning.probe.instrument import Found
from dnc_lightning.series import Reference, Series

_auroc = partial(
    Series,
    group="Out of distribution",
    low=0.0,
    high=1.0,
    direction="higher",
    references=(Reference("chance", 0.5),),
    thorough=True,
)
_WHAT = "probability that a sample of a known class scores higher than one of an unknown: "


class OutOfDistribution:
    """AUROC of scores that need no head, of known against unknown classes of one task.

    Put the unknown images beside the known ones, as classes of their own, in a probe set for this:
    `ProbeSet(ConcatDataset([known, other]), labels=...)` in a `ProbeCallback` of its own. Half of
    every known class fits the scores; the other half and all unknown images are scored.

    Args:
        unknown: Names of the classes that stand for what is not known.
        task: That they are classes of.
    """

    name = "out_of_distribution"
    series = (
        _auroc(
            key="ood/neco",
            title="NECO",
            meaning=f"{_WHAT}share of the centred feature's length on the K - 1 main directions",
        ),
        _auroc(key="ood/residual", title="Residual", meaning=f"{_WHAT}less its length off these"),
        _auroc(
            key="ood/mahalanobis",
            title="Mahalanobis",
            meaning=f"{_WHAT}less the distance from the nearest class mean in the pooled metric",
        ),
        _auroc(
            key="ood/norm",
            title="Length, for control",
            meaning=f"{_WHAT}the plain length of the feature",
        ),
    )

    def __init__(self, unknown: Sequence[str] = (), task: str = "label") -> None:
        self.unknown = unknown
        self.tasks = (task,) if unknown else ()

    def measure(self, bench: Bench) -> Found:
        """Two sums of D x D, their eigenvectors and two products with them; at thorough probes."""
        if not bench.thorough:
            return Found()
        lacking = [name for name in self.unknown if name not in bench.classes]
        kept = [place for place, name in enumerate(bench.classes) if name not in self.unknown]
        d = bench.features.shape[1]
        reason = ""
        if not self.unknown or lacking:
            reason = f"{bench.name} has no class {lacking[0]!r}" if lacking else "no class is named"
            reason += ". Give metrics=[OutOfDistribution(unknown=[...])]"
        elif not 2 <= len(kept) <= d:
            reason = f"it needs 2 to {d} known classes, here are {len(kept)}"
        elif min(bench.counts) < 2:
            reason = "it needs 2 samples of each class"
        if reason:
            return Found(notes=[f"Out of distribution is nan: {reason}."])
        return Found(self._scores(bench, kept))

    def _scores(self, bench: Bench, kept: list[int]) -> dict[str, Tensor | float]:
        device = bench.features.device
        number = torch.full((len(bench.classes),), -1, device=device)
        number[kept] = torch.arange(len(kept), device=device)
        everyone = whole_labels(bench.labels, bench.shard)
        fits = half_of_each_class(everyone).to(device)
        known = number[everyone] >= 0
        rows = (
            torch.arange(len(bench.features), device=device)
            if bench.shard is None
            else bench.shard.rows.to(device)
        )
        own = (fits & known)[rows]
        model = known_classes(
            bench.features[own], number[bench.labels][own], len(kept), reduce=bench.reduce
        )
        found = known_scores(bench.features, model)
        tested = ~(fits & known)
        scalars: dict[str, Tensor | float] = {}
        for name in ("neco", "residual", "mahalanobis", "norm"):
            each = torch.zeros(len(everyone), dtype=torch.float64, device="cpu")
            each[rows.cpu()] = getattr(found, name).double().cpu()
            score = bench.total(each.to(device) if device.type != "mps" else each.float())
            # Ranks of scores, which AUROC is of: it takes what is not in [0, 1] for logits.
            order = torch.unique(score[tested], return_inverse=True)[1]
            rank = order.double() / max(1, int(order.max()))
            scalars[f"ood/{name}"] = binary_auroc(rank, known[tested].long())
        return scalars


INSTRUMENT = OutOfDistribution()
