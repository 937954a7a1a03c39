"""Neural collapse of a regression: how features of continuous targets lie, and what they tell."""

from __future__ import annotations

import torch

from dnc_lightning.functional.regression import linear_read_out, regression_collapse
from dnc_lightning.probe.bench import Bench
from dnc_lightning.probe.heads import Head
from dnc_lightning.probe.instrument import Found
from dnc_lightning.series import Reference, Series


class Regression:
    """NRC1 to NRC3 and a linear read-out of one continuous target of `ProbeSet(targets=...)`.

    Args:
        target: Its name; None for the only one.
        head: Name of the module's linear layer that predicts it from the features, as of
            `Duality`; None for encoders without one.
    """

    def __init__(self, target: str | None = None, head: str | None = None) -> None:
        self.target = target
        self.head = head
        self.heads = () if head is None else (head,)

    @property
    def name(self) -> str:
        """One for each target, so that several can be measured."""
        return "regression" if self.target is None else f"regression of {self.target}"

    @property
    def series(self) -> tuple[Series, ...]:
        """Its numbers, under the name of the target."""
        of = "" if self.target is None else f" of {self.target}"

        def one(key: str, title: str, meaning: str, **options: object) -> Series:
            return Series(
                key=self._key(key), title=f"{title}{of}", meaning=meaning, group="Regression",
                scope="features", **options,  # type: ignore[arg-type]
            )  # fmt: skip

        given = [
            one(
                "r2",
                "Linear read-out",
                "R^2 of least squares from features to targets on the other half of the samples, "
                "mean over the targets",
                high=1.0,
                direction="higher",
                references=(Reference("the mean", 0.0),),
            ),
            one(
                "nrc1",
                "NRC1",
                "share of the directions of the centred features that is off their n main ones, n "
                "the number of targets",
                low=0.0,
                high=1.0,
                direction="lower",
            ),
        ]
        if self.head is not None:
            given += [
                one(
                    "nrc2",
                    "NRC2",
                    "share of them that is off the rows of the head",
                    low=0.0,
                    high=1.0,
                    direction="lower",
                ),
                one(
                    "nrc3",
                    "NRC3",
                    "squared distance of the head's Gram matrix from the root of the targets' "
                    "covariance less a constant, each of norm 1; nan for one target",
                    low=0.0,
                    high=2.0,
                    direction="lower",
                ),
            ]
        return tuple(given)

    def measure(self, bench: Bench) -> Found:
        """Two sums of D x D and their eigenvectors; a D x D system for the read-out."""
        name = self.target if self.target is not None else next(iter(bench.targets), None)
        if name is None or name not in bench.targets:
            known = ", ".join(map(repr, bench.targets)) or "none"
            asked = "any target" if name is None else f"target {name!r}"
            return Found(notes=[
                f"Regression is nan: the probe set does not have {asked}, but {known}. Give "
                "ProbeSet(targets={...})."
            ])  # fmt: skip
        targets = bench.targets[name]
        n, d = targets.shape[1], bench.features.shape[1]
        if n >= d:
            return Found(notes=[f"Regression is nan: {n} targets, features of length {d}."])
        head, notes = self._head(bench, n, d)
        found = regression_collapse(bench.features, targets, head, reduce=bench.reduce)
        # The order of the samples is random, so every second one is a fair half.
        here = torch.arange(len(targets)) if bench.shard is None else bench.shard.rows
        half = (here % 2 == 0).to(targets.device)
        read = linear_read_out(bench.features, targets, half, reduce=bench.reduce)
        scalars: dict[str, torch.Tensor | float] = {
            self._key("nrc1"): found.off_plane,
            self._key("r2"): read,
        }
        if head is not None:
            scalars |= {self._key("nrc2"): found.off_head, self._key("nrc3"): found.head}
        return Found(scalars, notes=notes)

    def _head(self, bench: Bench, n: int, d: int) -> tuple[torch.Tensor | None, list[str]]:
        if self.head is None:
            return None, []
        head = bench.heads.get(self.head, "this module is not the one that trains")
        if isinstance(head, Head) and tuple(head.weight.shape) == (n, d):
            return head.weight, []
        shape = list(head.weight.shape) if isinstance(head, Head) else None
        reason = f"{self.head!r} is {shape}, here are {[n, d]}" if shape else head
        return None, [f"NRC2 and NRC3 are nan: {reason}."]

    def _key(self, name: str) -> str:
        return f"regression/{name}" if self.target is None else f"regression/{self.target}/{name}"


INSTRUMENT = Regression()
