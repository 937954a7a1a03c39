"""What a run adds to a probe's callback, and what of it a checkpoint keeps."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torchmetrics import Metric

from dnc_lightning.callbacks.cost import Meter
from dnc_lightning.callbacks.recorder import Recorder, RecordingCallback
from dnc_lightning.callbacks.schedules import Schedule
from dnc_lightning.instruments import Instrument
from dnc_lightning.probe.engine import ProbeEngine
from dnc_lightning.probe.pooling import Pooling
from dnc_lightning.probe.probe_set import ProbeSet
from dnc_lightning.probe.results import ProbeResult

_RESUMED = ("last_step", "next_step", "not_before", "scores")


class RunState(RecordingCallback):
    """A probe's callback as those see it who build its engine, keep its records or warn.

    The arguments are those of `ProbeCallback`, which stores them.
    """

    probe: ProbeSet
    encoder: str | Mapping[str, Any] | Callable[[Any, Tensor], Tensor] | None
    pooling: Pooling
    normalize: bool
    metrics: Sequence[str | Instrument | Metric] | None
    every_n_epochs: int | None
    train_time_interval: timedelta | None
    shots: Sequence[int]
    ways: int | None
    max_overhead: float | None
    name: str
    dirpath: str | Path | None
    examples: bool
    preprocess: Callable[[Any, Tensor], Tensor] | None
    _steps: Schedule
    engine_: ProbeEngine  # from the start of a fit on
    meter_: Meter

    def _reset(self) -> None:
        self.last_step_ = -1  # step of the last probe
        self.scores_: dict[str, float] = {}  # what it found, under the keys that are logged
        self.next_step_ = 0  # no probe by the step schedule before it
        self.not_before_ = 0  # no probe at all before it, for max_overhead
        self.train_seconds_ = 0.0  # wall time of training before `_clock_` was set
        self._clock_ = self._last_time_ = time.monotonic()
        # The same one: callbacks that stand before may have counted their setup already.
        vars(self).setdefault("meter_", Meter(time.monotonic)).resume(0.0, 0.0)
        self._recorder_ = Recorder()
        self._resumed_from_: Path | None = None
        self._further_: set[str] = set()  # keys that only probes have shown, see KnownKeys
        self.replaced_: ProbeResult | None = None  # of trained weights that an average replaced
        self._ended_ = False  # the last probe was made
        self._asked_ = False  # for a probe at the next step, see `probe_soon`
        self._told_: set[str] = set()
        self._found_: list[str] = []  # warnings for the next record
        self._module_: int | None = None  # id of what was fitted last
        self._given_: set[str] = set()  # names of BatchNorm layers, see ProbeEngine.given

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Let another run go on in the folder, and part from the other processes."""
        super().teardown(trainer, pl_module, stage)
        if hasattr(self, "engine_"):
            self.engine_.processes.close()

    @property
    def state_key(self) -> str:
        """Tell several probes of one Trainer apart in its checkpoints."""
        return self._generate_state_key(name=self.name)

    @property
    def run_dir_(self) -> Path | None:
        """Folder of the records, once they are open; None on every rank but zero."""
        writer = self._recorder_.writer
        return None if writer is None else writer.folder

    @property
    def probe_seconds_(self) -> float:
        """Wall time so far of all that the package did for this probe."""
        return self.meter_.spent

    @property
    def records_written_(self) -> int:
        """Records of this process so far; 0 on every rank but zero."""
        return self._recorder_.written

    def probe_soon(self) -> None:
        """Ask for a probe at the next step, whatever the schedule; call on every rank."""
        self._asked_ = True

    def found(self, warning: str) -> None:
        """Put into the next record what another callback has warned of."""
        self._found_.append(warning)
        list(untold([warning], self._told_))

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to go on as if it had not stopped."""
        return {name: getattr(self, f"{name}_") for name in _RESUMED} | {
            "run_dir": None if self.run_dir_ is None else str(self.run_dir_),
            "train_seconds": self._elapsed(),
            "probe_seconds": self.meter_.spent,
            "wall_seconds": self.meter_.elapsed,
            "given": sorted(self._given_),
            "further": sorted(self._further_),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up a checkpoint's state."""
        self._resumed_from_ = Path(state_dict["run_dir"]) if state_dict["run_dir"] else None
        for name in (*_RESUMED, "train_seconds"):
            if name in state_dict:  # an earlier version kept fewer
                setattr(self, f"{name}_", state_dict[name])
        elapsed = state_dict.get("wall_seconds", state_dict.get("train_seconds", 0.0))
        self.meter_.resume(state_dict.get("probe_seconds", 0.0), elapsed)
        # Also the engine's, if it is there.
        self._given_ |= set(state_dict.get("given", ()))
        self._further_ |= set(state_dict.get("further", ()))

    def _elapsed(self) -> float:
        return self.train_seconds_ + time.monotonic() - self._clock_


def untold(problems: Sequence[str], told: set[str]) -> Iterator[str]:
    """Yield problems of a kind that was not `told` before; numbers make no new kind."""
    for problem in problems:
        kind = re.sub(r"[\d.]+", "", problem)
        if kind not in told:
            told.add(kind)
            yield problem
