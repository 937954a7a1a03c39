"""One probe: embed this rank's shard once, measure every encoder and task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn

from dnc_lightning.functional._tiles import Reduce
from dnc_lightning.functional.few_shot import Shard
from dnc_lightning.probe.across import measure_across
from dnc_lightning.probe.bank import ImageBank
from dnc_lightning.probe.batches import depends_on_batch
from dnc_lightning.probe.calibration import (
    CALIBRATION_IMAGES,
    batch_norms,
    given_statistics,
    is_initial,
    unsettled_batch_norms,
)
from dnc_lightning.probe.embed import Embedder
from dnc_lightning.probe.encoders import EncoderLike, find_encoders
from dnc_lightning.probe.inputs import InputCheck
from dnc_lightning.probe.keys import across_keys, task_keys
from dnc_lightning.probe.labels import Task
from dnc_lightning.probe.measure import Measurement, Plan, measure
from dnc_lightning.probe.pooling import Pooling
from dnc_lightning.probe.probe_set import ProbeSet
from dnc_lightning.probe.replicas import Ranks, state_of_rank_zero
from dnc_lightning.probe.trial import TRIAL_IMAGES, try_encoders

_T = TypeVar("_T")


@dataclass
class ProbeResult:
    """What one probe found, under the keys that are logged."""

    scalars: dict[str, float] = field(default_factory=dict)
    uncalibrated: dict[str, float] = field(default_factory=dict)
    matrices: dict[str, Tensor] = field(default_factory=dict)  # "{encoder}/{task}/..." -> [C, C]
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass
class ProbeEngine:
    """Everything that a probe needs, made once before training."""

    tasks: dict[str, Task]  # labels [n] of this rank's shard, on the device
    embedder: Embedder
    bank: ImageBank  # this rank's shard
    calibration: Callable[[], ImageBank]  # the images of BatchNorm calibration, on every rank alike
    empty: dict[str, Tensor]  # encoder -> [0, D], for ranks without samples
    plan: Plan
    prefix: str
    shards: dict[str, Shard]  # task -> where the samples stand; empty for one process
    reduce: Reduce | None
    inputs: InputCheck  # of what training gives the encoders
    message: str  # which encoders were taken
    remarks: list[str]  # notes for the next record
    cautions: tuple[str, ...]  # what holds of all values; said at the start and in every record
    ranks: Ranks | None  # None for one process
    given: set[str]  # names of BatchNorm layers whose statistics came without a count
    image_shape: torch.Size
    image_dtype: torch.dtype
    counts: dict[str, list[int]]  # task -> [C] samples of each class on all ranks
    further: set[str] = field(default_factory=set)  # keys that only a probe could tell
    absent: set[str] = field(default_factory=set)  # names of metrics that gave keys of their own

    @classmethod
    def build(
        cls,
        probe: ProbeSet,
        module: nn.Module,
        *,
        encoder: EncoderLike | Mapping[str, EncoderLike] | None,
        pooling: Pooling,
        plan: Plan,
        prefix: str,
        device: torch.device,
        precision: Callable[[], AbstractContextManager[object]],
        convert: Callable[[Tensor], Tensor],
        rank: int,
        world_size: int,
        reduce: Reduce | None,
        preprocess: Callable[[nn.Module, Tensor], Tensor] | None = None,
        replicated: bool = False,
    ) -> ProbeEngine:
        """Find the encoders, decode rank's shard `rank::world_size`, and try them on a few images.

        Args are those of the class and of ProbeCallback; with `replicated`, every rank holds all
        parameters.

        Raises:
            MissingEncoderError: an encoder that does not exist.
            ValueError: an encoder that cannot take the images, or returns no features or an
                ambiguous layout; images that do not stack.
        """
        lookup = find_encoders(module, encoder)
        embedder = Embedder(module, (), device, precision, convert, preprocess)
        trial = ImageBank.build(
            probe.image, range(min(TRIAL_IMAGES, len(probe))), torch.device("cpu"), progress=False
        )
        images = next(trial.batches(TRIAL_IMAGES, device))
        tried = try_encoders(module, lookup, images, pooling, embedder.trace)
        embedder.encoders = tried.encoders
        bank = ImageBank.build(
            probe.image, range(rank, len(probe), world_size), device, progress=rank == 0
        )

        def calibration() -> ImageBank:
            positions = range(min(CALIBRATION_IMAGES, len(probe)))
            if world_size == 1 and bank.images is not None:
                return ImageBank(
                    probe.image, positions, bank.storage, bank.images[: len(positions)]
                )
            return ImageBank.build(probe.image, positions, device, progress=rank == 0)

        return cls(
            tasks={
                name: Task(labels=task.labels[rank::world_size].to(device), classes=task.classes)
                for name, task in probe.tasks.items()
            },
            embedder=embedder,
            bank=bank,
            calibration=calibration,
            empty=tried.empty,
            plan=plan,
            prefix=prefix,
            shards={
                name: Shard(task.labels, torch.arange(rank, len(probe), world_size), reduce)
                for name, task in probe.tasks.items()
                if reduce is not None
            },
            reduce=reduce,
            inputs=InputCheck(module, tried.watched, images, preprocess is not None),
            message=tried.message,
            remarks=[tried.message] if tried.failed else [],
            cautions=depends_on_batch(embedder, probe.image, len(probe)),
            ranks=None if reduce is None else Ranks(rank, reduce, device, replicated),
            given=set(given_statistics(module)),
            image_shape=images.shape[1:],
            image_dtype=images.dtype if trial.images is None else trial.images.dtype,
            counts={
                name: torch.bincount(task.labels, minlength=len(task.classes)).tolist()
                for name, task in probe.tasks.items()
            },
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the encoders."""
        return tuple(encoder.name for encoder in self.embedder.encoders)

    @property
    def device(self) -> torch.device:
        """Where features are made and measured."""
        return self.embedder.device

    def key(self, encoder: str, task: str) -> str:
        """Prefix of the keys of one encoder and task."""
        parts = [self.prefix, encoder, task] if len(self.names) > 1 else [self.prefix, task]
        return "/".join(parts)

    def keys(self, *, thorough: bool) -> set[str]:
        """The keys of a probe's scalars, as far as known before it."""
        found = set(self.further)
        for encoder in self.names:
            for task, counts in self.counts.items():
                keys = task_keys(self.plan, counts, thorough=thorough)
                found.update(f"{self.key(encoder, task)}/{key}" for key in keys)
            if self.plan.orthogonality:
                prefix = self.key(encoder, "orthogonality")
                found.update(f"{prefix}/{key}" for key in across_keys(self.counts))
        return found - self.absent

    def probe(self, *, thorough: bool = False) -> ProbeResult:
        """Embed and measure; never raises.

        All ranks embed with the state of rank 0, which a checkpoint would hold. While BatchNorm
        layers still hold their initial statistics, they borrow those of probe images, and the
        values without are kept as `uncalibrated`.

        Args:
            thorough: Also compute what takes longer than the rest, see `measure`.

        Returns:
            The numbers, the same on every rank; under each of its `keys` nan where it failed, with
            the reason among the warnings.
        """
        result = self._probe(thorough=thorough)
        given = set(result.scalars)
        if given:
            self.absent |= self.keys(thorough=thorough) - self.further - given
            self.further |= given - self.keys(thorough=thorough) - self.absent
        for key in given & self.absent:
            del result.scalars[key]
        for key in sorted(self.keys(thorough=thorough) - given):
            result.scalars[key] = float("nan")
        return result

    def _probe(self, *, thorough: bool) -> ProbeResult:
        result = ProbeResult(notes=[*self.cautions, *self.remarks])
        self.remarks = []
        if (modules := self._attempt(result, self.embedder.modules)) is None:
            return result
        with ExitStack() as stack:
            state = state_of_rank_zero(modules, self.ranks)
            if self._attempt(result, lambda: stack.enter_context(state)) is None:
                return result
            features = self._attempt(result, lambda: self.embedder.embed(self.bank))
            layers = unsettled_batch_norms(modules, self._given_layers())
            if features is not None and layers:
                raw = ProbeResult()
                self._measure({**self.empty, **features}, raw)
                result.uncalibrated = raw.scalars
                result.notes.append(
                    f"The running statistics of {len(layers)} BatchNorm layers still hold their "
                    "initial values: for this probe they borrowed those of probe images. The "
                    "values without are kept as uncalibrated."
                )
                features = self._attempt(
                    result,
                    lambda: self.embedder.embed_calibrated(layers, self.bank, self.calibration()),
                )
        if features is not None:
            self._measure({**self.empty, **features}, result, thorough)
        return result

    def _given_layers(self) -> list[nn.Module]:
        """BatchNorm layers that came with statistics and have not been reset since."""
        found = batch_norms(self.embedder.module)
        self.given -= {name for name in self.given & found.keys() if is_initial(found[name])}
        return [found[name] for name in self.given & found.keys()]

    def _attempt(self, result: ProbeResult, action: Callable[[], _T]) -> _T | None:
        """Act, or agree over all ranks that one of them failed, lest the others wait for it."""
        value, failed = None, torch.zeros((), device=self.device)
        try:
            value = action()
        except Exception as error:
            failed += 1
            result.warnings.append(f"The probe failed and is skipped: {error!r}. Training goes on.")
        if self.reduce is not None:
            failed = self.reduce(failed)
        if int(failed) and not result.warnings:
            result.warnings.append("The probe failed on another rank and is skipped.")
        return None if int(failed) else value

    def _measure(
        self, features: dict[str, Tensor], result: ProbeResult, thorough: bool = False
    ) -> None:
        for encoder, values in features.items():
            for name, task in self.tasks.items():
                work = partial(
                    measure,
                    values,
                    task.labels,
                    task,
                    self.plan,
                    self.shards.get(name),
                    thorough=thorough,
                )
                keys = task_keys(self.plan, self.counts[name], thorough=thorough)
                self._file(_measured(work, keys), result, encoder, name)
            if self.plan.orthogonality and len(self.tasks) > 1:
                work = partial(
                    measure_across,
                    values,
                    self.tasks,
                    self.reduce,
                    normalize=self.plan.normalize,
                )
                found = _measured(work, across_keys(self.tasks))
                self._file(found, result, encoder, "orthogonality")

    def _file(self, found: Measurement, result: ProbeResult, encoder: str, part: str) -> None:
        """Put what was found of one encoder and one task (or of all) under its keys."""
        key = self.key(encoder, part)
        result.scalars.update({f"{key}/{k}": v for k, v in found.scalars.items()})
        result.matrices.update({f"{encoder}/{part}/{k}": m for k, m in found.matrices.items()})
        result.notes.extend(f"{key}: {text}" for text in found.notes)
        result.warnings.extend(f"{key}: {text}" for text in found.warnings)


def _measured(work: Callable[[], Measurement], keys: Sequence[str]) -> Measurement:
    """Measure, or give every key as nan with the reason."""
    try:
        return work()
    except Exception as error:
        found = Measurement(dict.fromkeys(keys, float("nan")))
        found.warnings.append(f"Measuring failed: {error!r}. Its values are nan; training goes on.")
        return found
