"""The callback: schedules probes, delegates them, logs what they find."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor
from torchmetrics import Metric

from dnc_lightning.callbacks.arguments import check_arguments, check_preprocess, check_ways
from dnc_lightning.callbacks.averaging import put_in_order
from dnc_lightning.callbacks.building import build_engine
from dnc_lightning.callbacks.clock import drift, step_of
from dnc_lightning.callbacks.closing import close_records
from dnc_lightning.callbacks.cost import counted
from dnc_lightning.callbacks.opening import open_records
from dnc_lightning.callbacks.publish import publish, show_to_callbacks
from dnc_lightning.callbacks.run_state import RunState, untold
from dnc_lightning.callbacks.schedules import (
    LogSpaced,
    earliest_step,
    epoch_due,
    next_step,
    step_schedule,
)
from dnc_lightning.callbacks.stale import stale_monitors
from dnc_lightning.callbacks.strategies import check_strategy
from dnc_lightning.instruments import Instrument, find_instruments
from dnc_lightning.probe.encoders import MissingEncoderError
from dnc_lightning.probe.pooling import Pooling
from dnc_lightning.probe.probe_set import ProbeSet


class ProbeCallback(RunState):
    """Watch a representation while it trains: CDNV against directional CDNV of a labelled probe.

    Embeds the probe before the first step, on a schedule, and at the end; logs to every logger of
    the Trainer and to `trainer.callback_metrics` on every rank; writes one record per probed step
    to the run's folder. Training is bitwise the same as without. During training nothing raises:
    what a probe cannot do is nan under every key, warned about once, and recorded with the reason.

    A probe runs the encoder's forward pass and its hooks, eagerly and without gradients, and a few
    trials at the start do. What the module holds is put back (`probe.attributes`), and `self.log`
    is mute meanwhile. What still shows: files, globals, and objects of classes that are no modules.

    Args:
        probe: The labelled images.
        encoder: What to embed with: a dotted path below the LightningModule ("backbone"), a path
            and a layer inside it ("backbone:layer3", or "backbone:*" for all), a callable
            `(module, images) -> [N, D]`, or a mapping name -> any of these. None
            tries the usual names, then `forward`, on a few images, and says which it took.
        pooling: How tokens [N, T, D] and maps [N, D, H, W] or [N, H, W, D] become [N, D]: "cls",
            the class token; "mean", the mean of patches, without class and register tokens; or
            "auto", the class token where one is among the tokens and the mean elsewhere.
        preprocess: What training does to images between the data set and the encoder, such as the
            module's transfer hooks: `(module, images [N, C, H, W]) -> images`, on the device, in
            evaluation mode, for images as the probe set gives them, uint8 as floats in [0, 1].
        normalize: L2-normalise features first, as in the training curves of arXiv:2603.03530.
        metrics: "collapse", "few_shot", "orthogonality" (of several tasks), "variance", names that
            packages have registered, instruments of your own (see `dnc_lightning.instruments`), and
            any torchmetrics.Metric that takes (features, labels); None is every built-in one.
        schedule: Steps to probe at; default `LogSpaced()`.
        every_n_train_steps: Probe every n optimizer steps instead.
        every_n_epochs: Probe every n epochs instead.
        train_time_interval: Probe once per interval of wall time instead.
        shots: Labelled samples per class, each at least 1, that bounds are given for, and measured
            errors where the probe has more samples of every class.
        ways: Classes of a few-shot episode, at least 2; None is all of them.
        max_overhead: Part of the wall time, in (0, 1), that all of this may take: setup, probes,
            records, logging, and what this package's pages, terminal lines and checkpoints add.
            The schedule is stretched so that the run stays below whenever it ends, its last probe
            included. What can exceed it: a run too short for its setup, first and last probe, and
            a last probe or page that takes longer than the ones before.
        name: Of this probe: what its keys begin with, and the name of its folder.
        dirpath: Folder for the records; default `dnc/{name}` in the run's folder.
        examples: Keep thumbnails of four images of each class with the records, for the report;
            False where images must not leave the data set.

    Raises:
        ValueError: two schedules at once, or an argument out of range; at setup also for labels
            that do not fit, an encoder that does not exist or returns no features.

    Examples:
        ```python
        probe = ProbeSet(dataset, per_class=100)
        trainer = Trainer(callbacks=[ProbeCallback(probe)])
        ```
    """

    def __init__(
        self,
        probe: ProbeSet,
        *,
        encoder: str | Mapping[str, Any] | Callable[[Any, Tensor], Tensor] | None = None,
        pooling: Pooling = "auto",
        normalize: bool = False,
        metrics: Sequence[str | Instrument | Metric] | None = None,
        schedule: LogSpaced | None = None,
        every_n_train_steps: int | None = None,
        every_n_epochs: int | None = None,
        train_time_interval: timedelta | None = None,
        shots: Sequence[int] = (1, 5, 10, 50, 100),
        ways: int | None = None,
        max_overhead: float | None = None,
        name: str = "probe",
        dirpath: str | Path | None = None,
        examples: bool = True,
        preprocess: Callable[[Any, Tensor], Tensor] | None = None,
    ) -> None:
        self._steps = step_schedule(
            schedule, every_n_train_steps, every_n_epochs, train_time_interval
        )
        check_arguments(probe, pooling, shots, ways, max_overhead, name)
        check_preprocess(preprocess)
        find_instruments(metrics)  # so that a mistake shows now
        self.probe = probe
        self.encoder = encoder
        self.pooling = pooling
        self.normalize = normalize
        self.metrics = metrics
        self.schedule = schedule
        self.every_n_train_steps = every_n_train_steps
        self.every_n_epochs = every_n_epochs
        self.train_time_interval = train_time_interval
        self.shots = shots
        self.ways = ways
        self.max_overhead = max_overhead
        self.name = name
        self.dirpath = dirpath
        self.examples = examples
        self.preprocess = preprocess
        self._reset()

    @counted
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Choose the samples; refuse what cannot work before the first step."""
        if stage != "fit":
            return
        self.meter_.start()
        check_strategy(trainer)
        # One Trainer that fits a second module goes on counting, its curve must not.
        if step_of(trainer) == 0 or self._module_ not in (None, id(pl_module)):
            self._reset()
        self._module_ = id(pl_module)
        check_ways(self.ways, self.probe)
        self.probe.indices  # noqa: B018 - chosen now, so that a mistake shows now

    @counted
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find the encoders, decode the images, and try both on a few of them."""
        vars(self).pop("engine_", None)
        self.replaced_, self._ended_ = None, False
        put_in_order(self, trainer)
        # The module's own on_fit_start, which comes next, may make what is missing.
        with suppress(MissingEncoderError):
            self._build(trainer, pl_module)

    def _build(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.engine_ = build_engine(self, trainer, pl_module)
        self._given_, self._further_ = self.engine_.given, self.engine_.known.further
        rank_zero_info(self.engine_.message)
        self._tell(self.engine_.cautions)

    @counted
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the records and probe before the first step."""
        if not hasattr(self, "engine_"):
            self._build(trainer, pl_module)
        self._clock_ = self._last_time_ = time.monotonic()
        self._tell(stale_monitors(self, trainer))
        self._tell(open_records(self, trainer, pl_module))
        if self.last_step_ < 0:
            self._probe(trainer)

    @counted
    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Look at what the first batches give the encoders."""
        if trainer.is_global_zero:
            self.engine_.inputs.begin(batch)

    @counted
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Probe if the step or the clock is due."""
        if trainer.is_global_zero:
            self._found_ += self.engine_.inputs.end(batch, trainer.datamodule)  # type: ignore[attr-defined]
            self._tell(self._found_)
        if self._may_probe(trainer) and self._due(trainer) and self._affordable(trainer):
            self._probe(trainer)

    @counted
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Probe if the epoch is due."""
        due = epoch_due(trainer.current_epoch, self.every_n_epochs)
        if due and self._may_probe(trainer) and self._affordable(trainer):
            self._probe(trainer)

    @counted
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Probe the final weights thoroughly, also where their step has been probed already."""
        if not self._ended_:  # another callback may have seen to it that this is in time
            self._ended_ = True
            self._probe(trainer, final=True)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the record of the end the overhead of all, its own writing and pages included."""
        if stage == "fit" and self._ended_:
            self._tell(close_records(self, trainer))
        self.meter_.stop()
        super().teardown(trainer, pl_module, stage)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """End what the overhead is counted in."""
        self.meter_.stop()
        super().on_exception(trainer, pl_module, exception)

    def _may_probe(self, trainer: Trainer) -> bool:
        """Whether these are trained weights, not probed yet, and late enough for max_overhead."""
        step = step_of(trainer)
        return step != self.last_step_ and step >= self.not_before_ and self.replaced_ is None

    def _due(self, trainer: Trainer) -> bool:
        """Whether somebody wants a probe now, the clock, or else the schedule of the steps."""
        if self._asked_:
            return True
        if self.train_time_interval is None:
            return step_of(trainer) >= self.next_step_
        passed = time.monotonic() - self._last_time_
        # The clocks of the ranks differ; rank zero's decides.
        return bool(self._decide(passed >= self.train_time_interval.total_seconds()))

    def _decide(self, value: float) -> float:
        """Rank zero's value."""
        return self.engine_.processes.decide(value)

    def _affordable(self, trainer: Trainer) -> bool:
        """Whether max_overhead leaves room for a probe that is due, by all that was spent."""
        if self.max_overhead is None:
            return True
        step = step_of(trainer)
        self._plan(trainer, step)
        return self.not_before_ <= step

    def _probe(self, trainer: Trainer, *, final: bool = False) -> None:
        if self.engine_.processes.lost:
            return
        began, step, self._asked_ = time.monotonic(), step_of(trainer), False
        before = self.scores_ if step == self.last_step_ else None
        thorough = final or self.last_step_ < 0
        self._tell(drift(trainer))
        result = self.engine_.probe(thorough=thorough, trained=self.replaced_)
        result.warnings, self._found_ = [*self._found_, *result.warnings], []
        self._last_time_ = time.monotonic()
        result.scalars[f"{self.name}/seconds"] = self._last_time_ - began
        result.scalars[f"{self.name}/overhead"] = self.meter_.cost().overhead
        self.last_step_, self.scores_ = step, result.scalars
        show_to_callbacks(trainer, self.engine_, result.scalars)
        if trainer.is_global_zero:
            problems = publish(
                trainer,
                self._recorder_,
                result,
                step,
                self._elapsed(),
                before=before,
                charts=thorough,
                pictures=final,
                later={f"{self.name}/overhead"} if final else (),  # see close_records
            )
            self._tell(problems)
        self.meter_.add("thorough probe" if thorough else "probe", time.monotonic() - began)
        self._plan(trainer, step)

    def _plan(self, trainer: Trainer, step: int) -> None:
        if self.max_overhead is not None:
            # The clocks of the ranks differ; rank zero's decides.
            earliest = earliest_step(self.meter_.cost(), step, self.max_overhead)
            self.not_before_ = int(self._decide(earliest))
        self.next_step_ = next_step(self._steps, step, self.not_before_)

    def _tell(self, problems: Sequence[str]) -> None:
        for problem in untold(problems, self._told_):
            rank_zero_warn(f"{self.name}: {problem}")
