"""Small fits, and what they leave behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor
from torch.utils.data import DataLoader

from dnc_lightning import ProbeCallback, ProbeSet
from dnc_lightning.reporting import Record, read_run
from tests.callbacks.modules import BackboneModule, Clean, Floats

STEPS = 4  # batches of an epoch


def probe(**options: Any) -> ProbeCallback:
    options = {"metrics": ["collapse"], "examples": False, **options}
    return ProbeCallback(ProbeSet(Clean(), per_class=8), **options)


def data() -> DataLoader[Any]:
    return DataLoader(Floats(48), 48 // STEPS)


def fit(
    folder: Path, *callbacks: pl.Callback, module: Any = None, loader: Any = None, **options: Any
) -> pl.Trainer:
    pl.seed_everything(0, verbose=False)
    ckpt = options.pop("ckpt_path", None)
    settings: dict[str, Any] = {
        "accelerator": "cpu",
        "default_root_dir": folder,
        "logger": False,
        "enable_checkpointing": any(isinstance(c, Checkpoint) for c in callbacks),
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = pl.Trainer(callbacks=list(callbacks), **(settings | options))
    trainer.fit(module or BackboneModule(), data() if loader is None else loader, ckpt_path=ckpt)
    return trainer


def records(callback: ProbeCallback) -> tuple[Record, ...]:
    assert callback.run_dir_ is not None
    return read_run(callback.run_dir_).records


def steps(callback: ProbeCallback) -> list[int]:
    return [record.step for record in records(callback)]


def thorough(callback: ProbeCallback) -> list[int]:
    """Steps whose records hold what the first and last probe alone measure."""
    return [r.step for r in records(callback) if "probe/label/cdnv_low" in r.scalars]


class Manual(BackboneModule):
    """Steps its optimizers itself: one, two, or one behind Lightning's back."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.kind = kind

    def configure_optimizers(self) -> Any:
        one = super().configure_optimizers()
        return (one, super().configure_optimizers()) if self.kind == "two" else one

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        loss = super().training_step(batch, index)
        found = self.optimizers(use_pl_optimizer=self.kind != "raw")
        optimizers = found if isinstance(found, list) else [found]
        for optimizer in optimizers:
            optimizer.zero_grad()
        self.manual_backward(loss)
        if self.kind != "every other" or index % 2:
            for optimizer in optimizers:
                optimizer.step()
        return loss
