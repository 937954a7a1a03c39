"""Checkpoints at the steps of the probes."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor

from dnc_lightning.callbacks.clock import step_of
from dnc_lightning.callbacks.cost import shared
from dnc_lightning.callbacks.probes import meters_of, probes_of
from dnc_lightning.callbacks.schedules import LogSpaced


class RunCheckpoint(ModelCheckpoint):
    """A ModelCheckpoint that goes on in the folder of the run that is resumed.

    Its steps are those of the probes.
    """

    def __init__(self, dirpath: str | Path | None, **options: Any) -> None:
        super().__init__(
            dirpath=dirpath, auto_insert_metric_name=False, enable_version_counter=False, **options
        )
        self._chosen_dirpath = dirpath

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on in the folder of the run that is resumed, if it is there and no other is chosen."""
        if self._chosen_dirpath is None and Path(state_dict["dirpath"]).is_dir():
            self.dirpath = state_dict["dirpath"]
        super().load_state_dict(state_dict)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Nothing: steps alone decide."""

    def on_last_probe(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the final model while it still has the weights that were probed last."""
        self.on_train_end(trainer, pl_module)

    def _monitor_candidates(self, trainer: Trainer) -> dict[str, Tensor]:
        return super()._monitor_candidates(trainer) | {"step": torch.tensor(step_of(trainer))}


class LogSpacedCheckpoint(RunCheckpoint):
    """Keep a checkpoint of every step that is probed, and leave one to resume from when stopped.

    A collapse is early, so are the checkpoints: before the first step, then log-spaced, and at the
    end, each as `step-{step}.ckpt`, the latest also as `last.ckpt`. In one process the first Ctrl-C
    lets the step end and saves it, a second one stops at once. SIGTERM saves too, in any number of
    processes. `ckpt_path="last"` resumes the newest run in the folders of the Trainer and of its
    loggers, and saves into the folder that it began.

    Args:
        dirpath: Folder; default that of ModelCheckpoint, inside the run's folder.
        schedule: Steps to save at; default those that the Trainer's `ProbeCallback` probes, else
            `LogSpaced()`.
        save_weights_only: Leave out what only a resumed training needs.

    Examples:
        ```python
        trainer = Trainer(callbacks=[ProbeCallback(probe), LogSpacedCheckpoint()])
        trainer.fit(model, ckpt_path="last")
        ```
    """

    def __init__(
        self,
        dirpath: str | Path | None = None,
        schedule: LogSpaced | None = None,
        save_weights_only: bool = False,
    ) -> None:
        super().__init__(
            dirpath=dirpath,
            filename="step-{step:06d}",
            save_top_k=-1,
            save_last=True,
            save_weights_only=save_weights_only,
        )
        self.schedule = schedule
        self._saved_ = -1  # step of the last checkpoint
        self._interrupted_ = False
        self._handler_: Any = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the untrained model, and take over Ctrl-C."""
        super().on_train_start(trainer, pl_module)
        self.step_: int = step_of(trainer)  # at the end of the last batch
        self.next_step_: int = self._steps.next_after(self.step_)
        self._interrupted_, self._saved_ = False, -1
        # Processes may be a step apart: none of them can stop for all.
        if trainer.world_size == 1 and threading.current_thread() is threading.main_thread():
            self._handler_ = signal.signal(signal.SIGINT, self._interrupt)
        if self.step_ == 0:
            self._save(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save if the step is due or the last one."""
        step = step_of(trainer)
        if step == self.step_:
            return  # gradients accumulate: a run resumed from here would lose them
        self.step_ = step
        if self._due(trainer) or self._interrupted_:
            self._save(trainer)
        if self._interrupted_:
            raise KeyboardInterrupt

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save if the end of an epoch is probed."""
        if self._due(trainer):
            self._save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the final model."""
        self._save(trainer)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Save on SIGTERM, which Lightning raises between two steps on all processes."""
        if isinstance(exception, SIGTERMException):
            self._save(trainer)
        self._give_back()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give Ctrl-C back."""
        super().teardown(trainer, pl_module, stage)
        self._give_back()

    def _find_last_checkpoints(self, trainer: Trainer) -> set[str]:
        """Where Lightning looks for "last": in every run, not only in this process's new one."""
        name = f"{self.CHECKPOINT_NAME_LAST}.ckpt"
        if self.dirpath is not None:
            return {str(path) for path in Path(self.dirpath).glob(name)}
        roots = {trainer.default_root_dir, *(logger.save_dir for logger in trainer.loggers)}
        # A run's folder is the root, or root/name/version; no deeper, for the root may be large.
        patterns = [f"{above}checkpoints/{name}" for above in ("", "*/", "*/*/")]
        return {str(p) for root in roots if root for ptn in patterns for p in Path(root).glob(ptn)}

    def _due(self, trainer: Trainer) -> bool:
        step = step_of(trainer)
        if self.schedule is None and (probes := probes_of(trainer)):
            return any(probe.last_step_ == step for probe in probes)
        if due := step >= self.next_step_:
            self.next_step_ = self._steps.next_after(step)
        return due

    @property
    def _steps(self) -> LogSpaced:
        return self.schedule or LogSpaced()

    def _give_back(self) -> None:
        if self._handler_ is not None:
            signal.signal(signal.SIGINT, self._handler_)
            self._handler_ = None

    def _interrupt(self, signum: int, frame: Any) -> None:
        if self._interrupted_:
            raise KeyboardInterrupt
        self._interrupted_ = True
        rank_zero_info("Ctrl-C: saving after this step; press it again to stop at once.")

    def _save(self, trainer: Trainer) -> None:
        step = step_of(trainer)
        if trainer.fast_dev_run or step == self._saved_:  # type: ignore[attr-defined]
            return
        self._saved_ = step
        with shared(meters_of(probes_of(trainer)), "checkpoint"):
            candidates = self._monitor_candidates(trainer)
            self._save_topk_checkpoint(trainer, candidates)
            self._save_last_checkpoint(trainer, candidates)
