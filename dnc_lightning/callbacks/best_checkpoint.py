"""The checkpoints of the best probes."""

from __future__ import annotations

import difflib
import math
import re
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn

from dnc_lightning.callbacks.checkpoint import RunCheckpoint
from dnc_lightning.callbacks.clock import step_of
from dnc_lightning.callbacks.cost import shared
from dnc_lightning.callbacks.probes import meters_of, probes_of, require_probes, series_of
from dnc_lightning.callbacks.run_state import RunState

SAME = 1e-4
"""Difference of two scores of one step up to which they are those of the same weights."""


class BestProbeCheckpoint(RunCheckpoint):
    """Keep the weights that probed best, each file with the score of exactly its weights.

    A `ModelCheckpoint` saves at steps of its own, with the score of whatever was probed last. This
    one saves right after a probe or not at all, as
    `probe-label-directional_cdnv=0.0387-step=001024.ckpt`. What is nan or infinite is never saved.
    A resumed run goes on comparing with the files of the run before, in their folder.
    `best_model_path`, `best_model_score` and `best_k_models` are those of ModelCheckpoint.

    Args:
        monitor: A key of a `ProbeCallback` of the same Trainer.
        mode: "min" or "max": what is better; default what the declaration of the series says.
        save_top_k: How many to keep, at least 1; -1 keeps all.
        dirpath: Folder; default that of ModelCheckpoint, inside the run's folder.
        save_weights_only: Leave out what only a resumed training needs.

    Raises:
        ValueError: an argument out of range; at setup a Trainer without a `ProbeCallback`; before
            the first step a key that no probe gives.

    Examples:
        ```python
        best = BestProbeCheckpoint("probe/label/few_shot_error/5")
        trainer = Trainer(callbacks=[ProbeCallback(probe), best])
        trainer.fit(model)
        best.best_model_path
        ```
    """

    def __init__(
        self,
        monitor: str = "probe/label/directional_cdnv",
        mode: str | None = None,
        save_top_k: int = 1,
        dirpath: str | Path | None = None,
        save_weights_only: bool = False,
    ) -> None:
        if mode not in (None, "min", "max"):
            raise ValueError(f'mode must be "min" or "max", got {mode!r}.')
        if not isinstance(save_top_k, int) or (save_top_k < 1 and save_top_k != -1):
            raise ValueError(
                f"save_top_k must be an integer of at least 1, or -1 for all, got {save_top_k!r}."
            )
        super().__init__(
            dirpath=dirpath,
            filename=re.sub(r"[^\w.-]+", "-", monitor) + "={score:.6g}-step={step:06d}",
            monitor=monitor,
            mode=mode or "min",
            save_top_k=save_top_k,
            save_weights_only=save_weights_only,
        )
        self._chosen_mode = mode
        self.judged_: tuple[int, float] = (-1, math.nan)  # step and score of the last decision

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that there is a probe, and come after it."""
        super().setup(trainer, pl_module, stage)
        if stage != "fit":
            return
        self._set_mode(trainer)
        callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
        probes = require_probes(
            trainer, "BestProbeCheckpoint saves what a ProbeCallback finds best"
        )
        if callbacks.index(probes[-1]) > callbacks.index(self):
            # Lightning calls its checkpoints last, but not those of its other flavour. A new list:
            # it is going through the old one.
            trainer.callbacks = [c for c in callbacks if c is not self] + [self]  # type: ignore[attr-defined]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look for the key among those of the first probe, and judge that one."""
        super().on_train_start(trainer, pl_module)
        self._check_key(trainer)
        self._forget_lost(trainer)
        self._judge(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Judge a probe after a step."""
        self._judge(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Judge a probe at the end of an epoch."""
        self._judge(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Judge the last probe."""
        self._judge(trainer)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run goes on comparing with."""
        return super().state_dict() | {"judged": self.judged_}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on comparing, in the folder of the run that is resumed."""
        super().load_state_dict(state_dict)
        if self.dirpath == state_dict["dirpath"]:
            self.judged_ = tuple(state_dict["judged"])

    def _set_mode(self, trainer: Trainer) -> None:
        """Take the better direction of the series where none was chosen."""
        series = series_of(probes_of(trainer), str(self.monitor))
        if series is None:
            return  # a key that only a user's metric gives, or none: told before the first step
        declared = {"lower": "min", "higher": "max", None: None}[series.direction]
        if self._chosen_mode is None and declared is None:
            raise ValueError(
                f"BestProbeCheckpoint(monitor={self.monitor!r}): neither a low nor a high "
                f"{series.title} is better by its declaration. Pass mode."
            )
        if self._chosen_mode is None and declared == "max":
            self.mode, self.kth_value = "max", torch.tensor(-torch.inf)

    def _judge(self, trainer: Trainer) -> None:
        step, probe = step_of(trainer), self._source(trainer)
        if trainer.fast_dev_run or probe is None or probe.last_step_ != step:  # type: ignore[attr-defined]
            return
        # Every rank must come to the same decision and file name.
        score = probe.scores_.get(str(self.monitor), math.nan)
        processes = probe.engine_.processes
        score = math.nan if processes.lost else processes.decide(score)
        judged, before = self.judged_
        # The last probe measures its step again, and an accelerator may round otherwise.
        if not math.isfinite(score) or (
            step == judged and math.isclose(score, before, rel_tol=SAME, abs_tol=SAME)
        ):
            return
        self.judged_ = (step, score)
        value = torch.tensor(score, dtype=torch.float64)
        candidates = self._monitor_candidates(trainer)
        with shared(meters_of([probe]), "best checkpoint"):
            self._save_monitor_checkpoint(
                trainer, candidates | {str(self.monitor): value, "score": value}
            )

    def _source(self, trainer: Trainer) -> RunState | None:
        for probe in probes_of(trainer):
            if self.monitor in probe.scores_ or self.monitor in probe.engine_.keys(thorough=True):
                return probe
        return None

    def _check_key(self, trainer: Trainer) -> None:
        probe = self._source(trainer)
        if probe is None:
            known = sorted({key for probe in probes_of(trainer) for key in probe.scores_})
            near = difflib.get_close_matches(str(self.monitor), known, n=5, cutoff=0.5)
            raise ValueError(
                f"BestProbeCheckpoint(monitor={self.monitor!r}): no probe gives this key. Near "
                f"keys: {', '.join(near or known[:5])}."
            )
        if str(self.monitor).endswith("_unbiased"):
            rank_zero_warn(
                f"BestProbeCheckpoint: {self.monitor} is an average over the resolved pairs, of "
                "which an encoder that collapses keeps the best. Monitor directional_cdnv or "
                "few_shot_error, which count all pairs."
            )
        keys = probe.engine_.keys
        if self.monitor in keys(thorough=True) - keys(thorough=False):
            rank_zero_warn(
                f"BestProbeCheckpoint: {self.monitor} is measured at the first and last probe "
                "alone, so it chooses between these two. Monitor a key of every probe."
            )

    def _forget_lost(self, trainer: Trainer) -> None:
        """Leave out files that are no longer there: the run before may have gone on past them."""
        kept = {p: s for p, s in self.best_k_models.items() if self.file_exists(p, trainer)}
        if kept.keys() == self.best_k_models.keys():
            return
        self.best_k_models = kept
        ranked = sorted(kept, key=lambda path: float(kept[path]), reverse=self.mode == "max")
        self.best_model_path = ranked[0] if ranked else ""
        self.best_model_score = kept[ranked[0]] if ranked else None
        self.kth_best_model_path = ranked[-1] if len(ranked) == self.save_top_k else ""
