"""An alarm when a representation collapses."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_warn

from dnc_lightning.callbacks.clock import step_of
from dnc_lightning.callbacks.cost import shared
from dnc_lightning.callbacks.loggers import send_alert
from dnc_lightning.callbacks.probes import meters_of, require_probes
from dnc_lightning.callbacks.run_state import RunState
from dnc_lightning.callbacks.tripwire import Tripwire
from dnc_lightning.reporting.read.alarm import ALARM, Signs, judge, signs_of
from dnc_lightning.reporting.read.best import checkpoint_until


class CollapseAlarm(Callback):
    """Says once that a representation collapses, at which step, and which checkpoint is healthy.

    After each probe it compares every encoder with its own past: ranks of the features, measured
    error and directional CDNV of all tasks. It tells four kinds apart, each when its signs have
    held at two or three probes in a row: *complete* (features lie on one line or point),
    *dimensional* (few of the dimensions are left), *sudden* (a change far outside those of the
    latest probes), *not finite*. Between probes it reads the loss, which says at once where it is
    nan, does not move, or is that of guessing among the prototypes; and every 32 steps the features
    of one batch, which where they fall call for a probe at the next step. It reads what is there
    and changes nothing.

    An alarm is a warning, an alert in W&B, and stands on top of the page and of `dnc show`, which
    find the first three kinds in the records of any run, also without this callback. What it
    catches and what it misses is measured in docs/measurements.md.

    Args:
        stop: End the training, as an EarlyStopping does.

    Attributes:
        alarms_: What was said so far, in words; on every rank.

    Raises:
        ValueError: at setup, a Trainer without a `ProbeCallback`.

    Examples:
        ```python
        trainer = Trainer(callbacks=[ProbeCallback(probe), CollapseAlarm(stop=True)])
        ```
    """

    def __init__(self, stop: bool = False) -> None:
        self.stop = stop
        self.alarms_: list[str] = []
        self._raised_: set[str] = set()  # encoder and kind
        self._history_: dict[str, list[Signs]] = {}  # probe and encoder -> all probes so far
        self._seen_: dict[str, int] = {}  # probe -> step of the last one judged

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check, before the first step, that there is a probe to watch."""
        if stage == "fit":
            self._probes_: list[RunState] = require_probes(
                trainer, "CollapseAlarm watches what a ProbeCallback finds"
            )
            self._tripwire_: Tripwire | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start anew, unless the run is resumed."""
        if step_of(trainer) == 0:
            self.alarms_.clear()
            self._raised_.clear()
            self._history_.clear()
            self._seen_.clear()

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Look at this batch's features, if it is the one to look at."""
        if self._tripwire_ is None:
            self._tripwire_ = Tripwire(pl_module, self._probes_[0].engine_.embedder.encoders)
        self._tripwire_.begin()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Judge a new probe, and what the steps since the last look have shown."""
        self._judge(trainer)
        if self._tripwire_ is not None and self._tripwire_.end(outputs):
            with shared(meters_of(self._probes_), None):
                told, fell = self._tripwire_.look()
            # Losses and features of the ranks differ; rank zero's decide.
            decide = self._probes_[0].engine_.processes.decide
            decided = int(decide(2 * (told is not None) + fell))
            if decided & 1:
                for probe in self._probes_:
                    probe.probe_soon()
            if decided & 2:
                self._raise(trainer, self._probes_[0], "loss", told or "see rank zero")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Judge a probe at the end of an epoch."""
        self._judge(trainer)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Judge the last probe, which has run whatever the order of the callbacks."""
        self._judge(trainer)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run goes on comparing with."""
        return {
            "alarms": list(self.alarms_),
            "raised": sorted(self._raised_),
            "seen": dict(self._seen_),
            "history": {k: [asdict(signs) for signs in v] for k, v in self._history_.items()},
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up a checkpoint's state."""
        self.alarms_ = list(state_dict["alarms"])
        self._raised_, self._seen_ = set(state_dict["raised"]), dict(state_dict["seen"])
        self._history_ = {k: [Signs(**s) for s in v] for k, v in state_dict["history"].items()}

    def _judge(self, trainer: Trainer) -> None:
        for probe in self._probes_:
            step = probe.last_step_
            if step < 0 or step == self._seen_.get(probe.name):
                continue
            self._seen_[probe.name] = step
            header = {
                "name": probe.name,
                "prefixes": probe.engine_.prefixes,
                "tasks": {name: task.classes for name, task in probe.engine_.tasks.items()},
                "shots": probe.shots,
                "ways": probe.ways,
            }
            for encoder, signs in signs_of(probe.scores_, header, step).items():
                history = self._history_.setdefault(f"{probe.name}/{encoder}", [])
                history.append(signs)
                alarm = judge(encoder, history)
                if alarm is not None and self._raised_.isdisjoint(
                    f"{probe.name}/{encoder}/{kind}" for kind in alarm.told_by
                ):
                    kind = f"{encoder}/{alarm.kind}"
                    self._raise(trainer, probe, kind, alarm.words, alarm.healthy)

    def _raise(
        self,
        trainer: Trainer,
        probe: RunState,
        kind: str,
        words: str,
        healthy: int | None = None,
    ) -> None:
        """Say it on every surface, once a kind; the same on every rank but for the words."""
        if (known := f"{probe.name}/{kind}") in self._raised_:
            return
        self._raised_.add(known)
        step = step_of(trainer)
        if kind == "loss":
            words = f"{words}, at step {step:,}."
            probe.found(f"{ALARM}{words}")  # no record shows it by itself
        kept = None
        if healthy is not None and probe.run_dir_ is not None:
            kept = checkpoint_until(probe.run_dir_, healthy)
        advice = f" Last healthy checkpoint: {kept}." if kept is not None else ""
        text = f"{words}{advice}{' Training is stopped.' if self.stop else ''}"
        self.alarms_.append(text)
        rank_zero_warn(f"CollapseAlarm, {probe.name}: {text}")
        if trainer.is_global_zero:
            for problem in send_alert(trainer, title=f"Collapse at step {step:,}", text=text):
                rank_zero_warn(f"CollapseAlarm: {problem}")
        trainer.should_stop |= self.stop
