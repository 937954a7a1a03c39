"""One probe: embed this rank's shard once, measure every encoder and task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor, nn

from dnc_lightning.functional.few_shot import Shard
from dnc_lightning.probe.bank import ImageBank
from dnc_lightning.probe.batches import depends_on_batch
from dnc_lightning.probe.bench import Settings
from dnc_lightning.probe.calibration import given_statistics
from dnc_lightning.probe.embed import Embedder
from dnc_lightning.probe.encoders import EncoderLike, find_encoders
from dnc_lightning.probe.heads import Heads, head_modules, read_heads
from dnc_lightning.probe.inputs import InputCheck
from dnc_lightning.probe.instrument import Expected, Instrument, check_tasks, expected
from dnc_lightning.probe.isolation import isolated_rng
from dnc_lightning.probe.labels import ACROSS, FEATURES, Task
from dnc_lightning.probe.measure import measure
from dnc_lightning.probe.passes import Passes, passes_of
from dnc_lightning.probe.pooling import Pooling
from dnc_lightning.probe.probe_set import ProbeSet
from dnc_lightning.probe.processes import LostError, OtherRankError, Processes
from dnc_lightning.probe.replicas import state_of_rank_zero
from dnc_lightning.probe.results import KnownKeys, ProbeResult
from dnc_lightning.probe.runtime import Runtime
from dnc_lightning.probe.shard import calibration_bank, read_shard, read_trial
from dnc_lightning.probe.sharded import gathered
from dnc_lightning.probe.trial import TRIAL_IMAGES, try_encoders
from dnc_lightning.probe.weights import Average, lent_trainer, unsettled_layers


@dataclass
class ProbeEngine:
    """Everything that a probe needs, made once before training."""

    tasks: dict[str, Task]  # labels [n] of this rank's shard, on the device
    embedder: Embedder
    bank: ImageBank  # this rank's shard
    calibration: Callable[[], ImageBank]  # the images of BatchNorm calibration, on every rank alike
    empty: dict[str, Tensor]  # encoder -> [0, D], for ranks without samples
    instruments: tuple[Instrument, ...]  # in the order that they measure in
    settings: Settings
    targets: dict[str, Tensor]  # name -> [n, k] of this rank's shard, on the device
    prefix: str
    shards: dict[str, Shard]  # task -> where the samples stand; empty for one process
    processes: Processes  # this one among those that probe together
    replicated: bool  # every process holds all parameters
    inputs: InputCheck  # of what training gives the encoders
    message: str  # which encoders were taken
    remarks: list[str]  # notes for the next record
    cautions: tuple[str, ...]  # what holds of all values; said at the start and in every record
    given: set[str]  # names of BatchNorm layers whose statistics came without a count
    image_shape: torch.Size
    image_dtype: torch.dtype
    counts: dict[str, list[int]]  # task -> [C] samples of each class on all ranks
    known: KnownKeys = field(default_factory=KnownKeys)
    averages: tuple[Average, ...] = ()  # further weights to run the encoders with

    @classmethod
    def build(
        cls,
        probe: ProbeSet,
        module: nn.Module,
        *,
        encoder: EncoderLike | Mapping[str, EncoderLike] | None,
        pooling: Pooling,
        instruments: Sequence[Instrument],
        settings: Settings,
        prefix: str,
        runtime: Runtime,
        preprocess: Callable[[nn.Module, Tensor], Tensor] | None = None,
    ) -> ProbeEngine:
        """Find the encoders, decode this process's images, and try them on a few images.

        Args are those of ProbeCallback, and where the trainer runs the module.

        Raises:
            MissingEncoderError: an encoder that does not exist.
            ValueError: an encoder that cannot take the images, or returns no features or an
                ambiguous layout; images that do not stack; an instrument of another task.
        """
        check_tasks(instruments, probe.tasks)
        lookup = find_encoders(module, encoder or getattr(probe, "encoder", None))
        device, processes = runtime.device, runtime.processes
        embedder = Embedder(module, (), device, runtime.precision, runtime.convert, preprocess)
        trial = read_trial(probe, TRIAL_IMAGES)
        images = next(trial.batches(TRIAL_IMAGES, device))
        embedder.image = images.shape[1:]
        with gathered(module, [module], device, processes):
            tried = try_encoders(module, lookup, images, pooling, embedder.trace)
            embedder.encoders = tried.encoders
        bank, left_out = read_shard(probe, runtime)
        with gathered(module, [module], device, processes):
            cautions = depends_on_batch(embedder, probe.image, len(probe))
        own = torch.tensor(bank.positions, dtype=torch.long)
        return cls(
            tasks={
                name: Task(labels=task.labels[own].to(device), classes=task.classes)
                for name, task in probe.tasks.items()
            },
            embedder=embedder,
            bank=bank,
            calibration=partial(calibration_bank, probe, runtime, bank),
            empty=tried.empty,
            instruments=tuple(instruments),
            settings=settings,
            targets={name: y[own].to(device) for name, y in probe.targets.items()},
            prefix=prefix,
            shards={
                name: Shard(task.labels, torch.arange(len(probe))[own], processes.reduce)
                for name, task in probe.tasks.items()
                if processes.reduce is not None
            },
            processes=processes,
            replicated=runtime.replicated,
            inputs=InputCheck(module, tried.watched, images, preprocess is not None),
            message=" ".join([tried.message, *bank.loading.notes]),
            remarks=[tried.message] if tried.failed else [],
            cautions=(*left_out, *cautions),
            given=set(given_statistics(module)),
            image_shape=images.shape[1:],
            image_dtype=trial.dtype or images.dtype,
            counts={
                name: torch.bincount(task.labels, minlength=len(task.classes)).tolist()
                for name, task in probe.tasks.items()
            },
        )

    @property
    def trained(self) -> tuple[str, ...]:
        """Names of the encoders with the weights in training."""
        return tuple(encoder.name for encoder in self.embedder.encoders)

    @property
    def sources(self) -> dict[str, str]:
        """Encoder, with either weights -> what it is, for people."""
        found = {encoder.name: encoder.source for encoder in self.embedder.encoders}
        for average in self.averages:
            named = average.names(self.trained).items()
            found |= {name: f"{found[own]}, averaged by {average.source}" for own, name in named}
        return found

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the encoders with all their weights."""
        return tuple(self.sources)

    @property
    def device(self) -> torch.device:
        """Where features are made and measured."""
        return self.embedder.device

    def key(self, encoder: str, task: str) -> str:
        """Prefix of the keys of one encoder and task."""
        alone = self.trained == (encoder,)
        return "/".join([self.prefix, task] if alone else [self.prefix, encoder, task])

    @property
    def prefixes(self) -> dict[str, dict[str, str]]:
        """Encoder -> task -> prefix of its keys."""
        return {e: {t: self.key(e, t) for t in self.tasks} for e in self.names}

    def keys(self, *, thorough: bool) -> set[str]:
        """The keys of a probe's scalars, as far as known before it."""
        return self.known.expected(self._planned(thorough))

    def _planned(self, thorough: bool) -> set[str]:
        return {
            f"{self.key(encoder, place)}/{key}"
            for encoder in self.names
            for place, here in self._places(thorough).items()
            for one in here
            for key in one.numbers
        }

    def _places(self, thorough: bool) -> dict[str, list[Expected]]:
        return expected(self.instruments, self.counts, self.settings.shots, thorough=thorough)

    def probe(self, *, thorough: bool = False, trained: ProbeResult | None = None) -> ProbeResult:
        """Embed with every set of weights and measure; never raises.

        All ranks embed with the state of rank 0, which a checkpoint would hold. While BatchNorm
        layers still hold their initial statistics, they borrow those of probe images, and the
        values without are kept as `uncalibrated`.

        Args:
            thorough: Also compute what takes longer than the rest, see `measure`.
            trained: What `probe_trained` gave, if these weights are no longer in the module.

        Returns:
            The same numbers on every rank; of its `keys` nan where it failed, the reason a warning.
        """
        told = self.bank.loading.notes
        result = ProbeResult(notes=[*self.cautions, *self.remarks, *told])
        self.remarks = []
        told.clear()
        if trained is None:
            trained = self.probe_trained(thorough=thorough)
        result.update(trained)
        failed = set() if trained.scalars else set(self.trained)
        for average in self.averages:
            named = average.names(self.trained)
            if (module := average.find()) is None:
                text = f"{average.source} has not begun to average: {average.name!r} is nan."
                found = ProbeResult(notes=[text])
            else:
                kept = next(module.parameters()).device  # maybe not that of the trained weights
                embedder = replace(self.embedder, module=module, device=kept)
                with lent_trainer(module, self.embedder.module):
                    found = self._attempt(embedder, named, thorough)
            result.update(found)
            failed |= set() if found.scalars else set(named.values())
        parts = [*self.counts, FEATURES, ACROSS]
        absent = [f"{self.key(name, part)}/" for name in failed for part in parts]
        self.known.complete(result, self._planned(thorough), absent)
        if self.processes.lost:
            result.warnings.append(
                f"The processes have lost each other ({self.processes.lost}): nothing is probed "
                "in the rest of this run. Training goes on."
            )
        return result

    def probe_trained(self, *, thorough: bool) -> ProbeResult:
        """The part of `probe` that is of the weights in training."""
        return self._attempt(self.embedder, {name: name for name in self.trained}, thorough)

    def measured(self, *, thorough: bool) -> ProbeResult:
        """What `probe_trained` gives, where a failure should raise, on every process."""
        names = {name: name for name in self.trained}
        return self.processes.attempt(partial(self._run, self.embedder, names, thorough))

    def _attempt(self, embedder: Embedder, names: Mapping[str, str], thorough: bool) -> ProbeResult:
        """Run with one set of weights; on every rank without numbers where it fails on one."""
        try:
            return self.processes.attempt(partial(self._run, embedder, names, thorough))
        except LostError:
            return ProbeResult()  # `probe` says so
        except OtherRankError as error:
            text = f"The probe failed on another rank and is skipped: {error}. Training goes on."
        except Exception as error:
            text = f"The probe failed and is skipped: {error!r}. Training goes on."
        return ProbeResult(warnings=[text])

    def _run(self, embedder: Embedder, names: Mapping[str, str], thorough: bool) -> ProbeResult:
        """Embed with one set of weights, encoders named by `names`, and measure."""

        def measured(features: dict[str, Tensor], thorough: bool) -> ProbeResult:
            here = {names[k]: v.to(self.device) for k, v in (self.empty | features).items()}
            return self._measure(here, heads, thorough, passes)

        modules, trained, raw = embedder.modules(), self.embedder.module, None
        passes: dict[str, Passes | str] = {}
        asked = [name for one in self.instruments for name in getattr(one, "heads", ())]
        used = [*modules, *head_modules(embedder.module, asked).values()]
        with (
            state_of_rank_zero(used, self.processes, replicated=self.replicated),
            gathered(embedder.module, used, embedder.device, self.processes),
        ):
            heads = read_heads(embedder.module, asked, self.device)
            features = embedder.embed(self.bank)
            layers = unsettled_layers(modules, embedder.module, trained, self.given, self.processes)
            if layers:
                raw = measured(features, False)
                features = embedder.embed_calibrated(layers, self.bank, self.calibration())
        give = partial(passes_of, embedder, self.bank, used, self.processes, self.replicated)
        passes = {new: give(own, bool(layers)) for own, new in names.items()}
        result = measured(features, thorough)
        if raw is not None:
            result.uncalibrated = raw.scalars
            result.notes.append(
                f"The running statistics of {len(layers)} BatchNorm layers still hold their "
                "initial values: for this probe they borrowed those of probe images. The "
                "values without are kept as uncalibrated."
            )
        return result

    def _measure(
        self,
        features: dict[str, Tensor],
        heads: Heads,
        thorough: bool,
        passes: Mapping[str, Passes | str],
    ) -> ProbeResult:
        result, places = ProbeResult(), self._places(thorough)
        for encoder, values in features.items():
            with isolated_rng(self.device):  # an instrument may draw random numbers
                found = measure(
                    values, self.tasks, places, self.settings, self.shards, self.processes,
                    thorough=thorough, heads=heads, targets=self.targets,
                    passes=passes.get(encoder, "raw values have no passes"),
                )  # fmt: skip
            for place, here in found.items():
                result.file(here, self.key(encoder, place), f"{encoder}/{place}")
        return result
