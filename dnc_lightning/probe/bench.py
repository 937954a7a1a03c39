"""What instruments are given: features and labels, and what several of them need, computed once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor

from dnc_lightning.functional import ClassGeometry, Reduce, class_geometry, population_estimate
from dnc_lightning.functional.conditional import QueryMargins
from dnc_lightning.functional.few_shot import Shard
from dnc_lightning.functional.summary import population_summary
from dnc_lightning.functional.unbiased import debias
from dnc_lightning.probe.heads import Heads
from dnc_lightning.probe.labels import Task
from dnc_lightning.probe.passes import Passes
from dnc_lightning.probe.processes import Processes

_T = TypeVar("_T")


@dataclass(frozen=True)
class Settings:
    """What a probe holds to, whichever instruments it has."""

    normalize: bool = False  # L2-normalise the features first
    shots: tuple[int, ...] = ()  # labelled samples per class
    ways: int | None = None  # classes of an episode; None for all


@dataclass(frozen=True)
class Bench:
    """One encoder's features with the labels of one task, or of all.

    What `once` gives is computed when the first instrument asks for it. Every process asks in the
    same order, so that it may sum over all of them.
    """

    features: Tensor  # [n, D] of this process, finite; L2-normalised if the probe normalises
    tasks: Mapping[str, Task]  # with labels [n] of the same samples
    settings: Settings
    thorough: bool = False  # the first or last probe
    wanted: Collection[str] = ()  # keys of the numbers that all instruments give here
    shards: Mapping[str, Shard] = field(default_factory=dict)  # task -> its samples' places
    processes: Processes = field(default_factory=Processes)  # this one among the others
    heads: Heads = field(default_factory=dict)  # those that instruments name, or why there is none
    passes: Passes | str = "the encoder cannot be run again"  # if not, why
    targets: Mapping[str, Tensor] = field(default_factory=dict)  # name -> [n, k], continuous
    _done: dict[Hashable, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Of the one task.

        Raises:
            ValueError: this is a bench of several.
        """
        if len(self.tasks) != 1:
            raise ValueError(
                f"one task was asked for, but here are {', '.join(self.tasks)}. Give the "
                'series the scope "task", or take labels from bench.tasks.'
            )
        return next(iter(self.tasks))

    @property
    def task(self) -> Task:
        """The one task; ValueError as `name`."""
        return self.tasks[self.name]

    @property
    def labels(self) -> Tensor:
        """[n] classes of the samples of this process."""
        return self.task.labels

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the C classes."""
        return self.task.classes

    @property
    def shard(self) -> Shard | None:
        """Where the samples stand among those of all processes; None for one process."""
        return self.shards[self.name] if self.shards else None

    @property
    def reduce(self) -> Reduce | None:
        """Sums a tensor over all processes; None for one."""
        return next((shard.reduce for shard in self.shards.values()), None)

    @cached_property
    def counts(self) -> list[int]:
        """[C] samples of each class, of all processes."""
        everyone = self.labels if self.shard is None else self.shard.labels
        return torch.bincount(everyone, minlength=len(self.classes)).tolist()

    @property
    def geometry(self) -> ClassGeometry:
        """Plug-in moments of the classes, with what the joint certificate needs if it is wanted."""
        return self.once(
            "geometry",
            lambda: class_geometry(
                self.features,
                self.labels,
                num_classes=len(self.classes),
                joint=any(key.startswith("joint/") for key in self.wanted),
                reduce=self.reduce,
            ),
        )

    @property
    def unbiased_geometry(self) -> ClassGeometry:
        """Estimates of the population's moments; nan of classes with fewer than 4 samples."""
        return self.once("unbiased geometry", lambda: debias(self.geometry))

    @property
    def query_margins(self) -> QueryMargins:
        """Margins of every sample as a query; on every process of all samples."""
        return self.once(
            "query margins", lambda: QueryMargins.of(self.features, self.labels, self.shard)
        )

    @property
    def intervals(self) -> dict[str, Tensor]:
        """Ends of the 95 % intervals for the population by their keys; one pass for all wanted."""
        return self.once("intervals", self._intervals)

    def total(self, tensor: Tensor) -> Tensor:
        """The sum of a tensor over all processes."""
        return tensor if self.reduce is None else self.reduce(tensor)

    def once(self, name: Hashable, compute: Callable[[], _T]) -> _T:
        """What `compute` gives, or raises, shared with whoever asks for the same name."""
        if name not in self._done:
            try:
                self._done[name] = compute()
            except Exception as error:
                self._done[name] = _Failure(error)
        value = self._done[name]
        if isinstance(value, _Failure):
            raise value.error
        found: _T = value
        return found

    def _intervals(self) -> dict[str, Tensor]:
        shots = [m for m in self.settings.shots if f"certificate_low/{m}" in self.wanted]
        names, statistic = population_summary(shots, self.settings.ways)
        estimate = population_estimate(
            self.features,
            self.labels,
            statistic,
            num_classes=len(self.classes),
            reduce=self.reduce,
            geometry=self.geometry,
        )
        ends = {"low": estimate.low, "high": estimate.high}
        return {
            name.format(end): values[k]
            for k, name in enumerate(names)
            for end, values in ends.items()
        }


@dataclass(frozen=True)
class _Failure:
    error: Exception
