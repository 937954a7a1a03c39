"""The callback: schedules probes, delegates them, logs what they find."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor
from torchmetrics import Metric

from dnc_lightning.callbacks.arguments import check_arguments, check_preprocess
from dnc_lightning.callbacks.building import build_engine
from dnc_lightning.callbacks.examples import write_examples
from dnc_lightning.callbacks.header import run_header
from dnc_lightning.callbacks.loggers import log_charts, log_scalars, prepare_loggers, run_folder
from dnc_lightning.callbacks.recorder import Recorder
from dnc_lightning.callbacks.schedules import LogSpaced, step_schedule
from dnc_lightning.probe.encoders import MissingEncoderError
from dnc_lightning.probe.engine import ProbeResult
from dnc_lightning.probe.measure import check_metrics
from dnc_lightning.probe.pooling import Pooling
from dnc_lightning.probe.probe_set import ProbeSet
from dnc_lightning.reporting.records import Record


class ProbeCallback(Callback):
    """Watch a representation while it trains: CDNV against directional CDNV of a labelled probe.

    Embeds the probe before the first step, on a schedule, and at the end; logs to every logger of
    the Trainer and to `trainer.callback_metrics` on every rank; appends one record per probe to the
    run's folder. Training is bitwise the same as without. During training nothing raises: what a
    probe cannot do is warned about once, recorded, and skipped.

    A probe runs the encoder's forward pass and its hooks, eagerly and without gradients, and a few
    trials at the start do. What the module holds is put back (`probe.attributes`), and `self.log`
    is mute meanwhile. What still shows: files, globals, and objects of classes that are no modules.

    Args:
        probe: The labelled images.
        encoder: What to embed with: a dotted path below the LightningModule ("backbone"), a path
            and a layer inside it ("backbone:layer3"), a callable `(module, images) -> [N, D]`, or a
            mapping name -> any of these. None tries the usual names, then `forward`, on a few
            images, and says which it took.
        pooling: How tokens [N, T, D] and maps [N, D, H, W] or [N, H, W, D] become [N, D]: "cls",
            the class token; "mean", the mean of patches, without class and register tokens; or
            "auto", the class token where one is among the tokens and the mean elsewhere.
        preprocess: What training does to images between the data set and the encoder, such as the
            module's transfer hooks: `(module, images [N, C, H, W]) -> images`, on the device, in
            evaluation mode, for images as the probe set gives them, uint8 as floats in [0, 1].
        normalize: L2-normalise features first, as in the training curves of arXiv:2603.03530.
        metrics: "collapse", "few_shot", "orthogonality" (of several tasks), "variance", and any
            torchmetrics.Metric that takes (features, labels); None is every built-in one.
        schedule: Steps to probe at; default `LogSpaced()`.
        every_n_train_steps: Probe every n optimizer steps instead.
        every_n_epochs: Probe every n epochs instead.
        train_time_interval: Probe once per interval of wall time instead.
        shots: Labelled samples per class, each at least 1, that bounds are given for, and measured
            errors where the probe has more samples of every class.
        ways: Classes of a few-shot episode, at least 2; None is all of them.
        max_overhead: Part of the wall time, in (0, 1), that probing may take; the schedule is
            stretched to stay below.
        name: Of this probe, in keys and folders.
        log_prefix: First part of the keys; default `name`.
        dirpath: Folder for the records; default `dnc/{name}` in the run's folder.
        examples: Keep thumbnails of four images of each class with the records, for the report;
            False where images must not leave the data set.

    Raises:
        ValueError: two schedules at once, or an argument out of range; at setup also for labels
            that do not fit, an encoder that does not exist or returns no features.

    Example:
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
        metrics: Sequence[str | Metric] | None = None,
        schedule: LogSpaced | None = None,
        every_n_train_steps: int | None = None,
        every_n_epochs: int | None = None,
        train_time_interval: timedelta | None = None,
        shots: Sequence[int] = (1, 5, 10, 50, 100),
        ways: int | None = None,
        max_overhead: float | None = None,
        name: str = "probe",
        log_prefix: str | None = None,
        dirpath: str | Path | None = None,
        examples: bool = True,
        preprocess: Callable[[Any, Tensor], Tensor] | None = None,
    ) -> None:
        self._steps = step_schedule(
            schedule, every_n_train_steps, every_n_epochs, train_time_interval
        )
        check_arguments(probe, pooling, shots, ways, max_overhead, name)
        check_preprocess(preprocess)
        check_metrics(metrics)
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
        self.log_prefix = log_prefix
        self.dirpath = dirpath
        self.examples = examples
        self.preprocess = preprocess
        self._reset()

    def _reset(self) -> None:
        self.run_dir_: Path | None = None  # folder of the records, on rank zero
        self.last_step_ = -1  # step of the last probe
        self.next_step_ = 0  # no probe by the step schedule before it
        self.not_before_ = 0  # no probe at all before it, for max_overhead
        self.probe_seconds_ = 0.0
        self.train_seconds_ = 0.0  # wall time of training before `_clock_` was set
        self._clock_ = self._last_time_ = time.monotonic()
        self._recorder_ = Recorder()
        self._resumed_from_: Path | None = None
        self._told_: set[str] = set()
        self._found_: list[str] = []  # warnings for the next record
        self._given_: set[str] = set()  # names of BatchNorm layers, see ProbeEngine.given

    @property
    def state_key(self) -> str:
        """Tell several probes of one Trainer apart in its checkpoints."""
        return self._generate_state_key(name=self.name)

    @property
    def records_written_(self) -> int:
        """Records of this process so far; 0 on every rank but zero."""
        return self._recorder_.written

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Choose the samples; refuse what cannot work before the first step."""
        if stage != "fit":
            return
        if trainer.global_step == 0:
            self._reset()
        if self.ways is not None:
            for task, labelling in self.probe.tasks.items():
                if self.ways > len(labelling.classes):
                    raise ValueError(
                        f"ways={self.ways}, but task {task!r} has {len(labelling.classes)} "
                        "classes. Lower ways."
                    )
        self.probe.indices  # noqa: B018 - chosen now, so that a mistake shows now

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find the encoders, decode the images, and try both on a few of them."""
        vars(self).pop("engine_", None)
        # The module's own on_fit_start, which comes next, may make what is missing.
        with suppress(MissingEncoderError):
            self._build(trainer, pl_module)

    def _build(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.engine_ = build_engine(self, trainer, pl_module)
        self.engine_.given |= self._given_  # a resumed run cannot see what it began with
        self._given_ = self.engine_.given
        rank_zero_info(self.engine_.message)
        self._tell(self.engine_.cautions)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the records and probe before the first step."""
        if not hasattr(self, "engine_"):
            self._build(trainer, pl_module)
        self._clock_ = self._last_time_ = time.monotonic()
        trial: bool = trainer.fast_dev_run  # type: ignore[attr-defined]
        if trainer.is_global_zero and not trial and self.run_dir_ is None:
            folder = Path(self.dirpath or run_folder(trainer) / "dnc" / self.name)
            header = run_header(self, trainer, pl_module)
            self._tell(self._recorder_.open(folder, header, self._resumed_from_, self.last_step_))
            self._tell(prepare_loggers(trainer, self))
            if self._recorder_.writer is not None:
                self.run_dir_ = self._recorder_.writer.folder
            if self.run_dir_ is not None and self.examples:
                began = time.monotonic()
                self._tell(write_examples(self.run_dir_, self.probe.tasks, self.engine_.bank))
                self.probe_seconds_ += time.monotonic() - began
        if self.last_step_ < 0:
            self._probe(trainer)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Look at what the first batches give the encoders."""
        if trainer.is_global_zero:
            self.engine_.inputs.begin(batch)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Probe if the step or the clock is due."""
        if trainer.is_global_zero:
            self._found_ += self.engine_.inputs.end(batch, trainer.datamodule)  # type: ignore[attr-defined]
            self._tell(self._found_)
        step = trainer.global_step
        if step != self.last_step_ and step >= self.not_before_:
            due = step >= self.next_step_
            if self.train_time_interval is not None:
                passed = time.monotonic() - self._last_time_
                # The clocks of the ranks differ; rank zero's decides.
                due = trainer.strategy.broadcast(passed >= self.train_time_interval.total_seconds())
            if due:
                self._probe(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Probe if the epoch is due."""
        step = trainer.global_step
        if self.every_n_epochs is None or step == self.last_step_ or step < self.not_before_:
            return
        if (trainer.current_epoch + 1) % self.every_n_epochs == 0:
            self._probe(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Probe the final weights."""
        if trainer.global_step != self.last_step_:
            self._probe(trainer, final=True)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to go on as if it had not stopped."""
        return {
            "run_dir": None if self.run_dir_ is None else str(self.run_dir_),
            "last_step": self.last_step_,
            "next_step": self.next_step_,
            "not_before": self.not_before_,
            "probe_seconds": self.probe_seconds_,
            "train_seconds": self._elapsed(),
            "given": sorted(self._given_),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up a checkpoint's state."""
        self._resumed_from_ = Path(state_dict["run_dir"]) if state_dict["run_dir"] else None
        self.last_step_ = state_dict["last_step"]
        self.next_step_ = state_dict["next_step"]
        self.not_before_ = state_dict["not_before"]
        self.probe_seconds_ = state_dict["probe_seconds"]
        self.train_seconds_ = state_dict["train_seconds"]
        self._given_ |= set(state_dict.get("given", ()))  # also the engine's, if it is there

    def _probe(self, trainer: Trainer, *, final: bool = False) -> None:
        began, step = time.monotonic(), trainer.global_step
        # Negative where the length of the data is unknown.
        final = final or 0 < trainer.estimated_stepping_batches <= step
        thorough = final or self.last_step_ < 0
        result = self.engine_.probe(thorough=thorough)
        result.warnings, self._found_ = [*self._found_, *result.warnings], []
        self._last_time_ = time.monotonic()
        seconds = self._last_time_ - began
        self.probe_seconds_ += seconds
        elapsed = max(self._elapsed(), seconds)
        prefix = self.log_prefix or self.name
        result.scalars[f"{prefix}/seconds"] = seconds
        result.scalars[f"{prefix}/overhead"] = self.probe_seconds_ / elapsed
        self.last_step_ = step
        self._plan(trainer, step, elapsed, seconds)
        self._publish(trainer, result, elapsed, charts=thorough, pictures=final)
        self.probe_seconds_ += time.monotonic() - self._last_time_  # logging is part of the cost

    def _plan(self, trainer: Trainer, step: int, elapsed: float, seconds: float) -> None:
        if self.max_overhead is not None and step > 0:
            per_step = (elapsed - self.probe_seconds_) / step
            # One more probe as long as this one must fit under the limit when it is over.
            probes = self.probe_seconds_ + seconds
            wait = (probes / self.max_overhead - elapsed) / max(per_step, 1e-9)
            self.not_before_ = trainer.strategy.broadcast(step + max(0, int(wait)))
        self.next_step_ = self._steps.next_after(max(step, self.not_before_ - 1))

    def _publish(
        self, trainer: Trainer, result: ProbeResult, elapsed: float, *, charts: bool, pictures: bool
    ) -> None:
        for key, value in result.scalars.items():
            trainer.callback_metrics[key] = torch.tensor(value, device=self.engine_.device)
        if not trainer.is_global_zero:
            return
        result.warnings += log_scalars(trainer, result.scalars, self.last_step_)
        record = Record(
            step=self.last_step_,
            epoch=trainer.current_epoch,
            time=elapsed,
            scalars=result.scalars,
            uncalibrated=result.uncalibrated,
            notes=tuple(result.notes),
            warnings=tuple(result.warnings),
        )
        self._tell([*result.warnings, *self._recorder_.append(record, result.matrices)])
        if charts:
            header = self._recorder_.header
            self._tell(log_charts(trainer, header, record, result.matrices, pictures=pictures))

    def _tell(self, problems: Sequence[str]) -> None:
        for problem in problems:
            kind = re.sub(r"[\d.]+", "", problem)
            if kind not in self._told_:
                self._told_.add(kind)
                rank_zero_warn(f"{self.name}: {problem}")

    def _elapsed(self) -> float:
        return self.train_seconds_ + time.monotonic() - self._clock_
