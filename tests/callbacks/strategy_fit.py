"""Two fits under a strategy, with a probe and without; a script, for processes that it starts.

    python -m tests.callbacks.strategy_fit FOLDER CASE DATA_PARALLEL TENSOR_PARALLEL

leaves in FOLDER the records, and the whole weights after each step of both fits.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy
from torch import Tensor, nn
from torch.utils.data import DataLoader

from dnc_lightning import ProbeCallback, ProbeSet
from dnc_lightning.instruments import DEFAULT, Duality
from tests.callbacks.modules import Floats

STEPS, BATCH = 4, 6


def backbone() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(432, 32), nn.ReLU(), nn.Linear(32, 16))


class Both(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.head = backbone(), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.backbone(x))


class Whole(pl.LightningModule):
    """Nothing is split."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Both()

    def training_step(self, batch: Any, index: int) -> Tensor:
        return nn.functional.cross_entropy(self.model(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.1)


class Split(Whole):
    """By `fully_shard`, `parallelize_module` or both, as the case says."""

    def __init__(self, case: str) -> None:
        super().__init__()
        self.case = case

    def configure_model(self) -> None:
        from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
        from torch.distributed.tensor.parallel import (
            ColwiseParallel,
            RowwiseParallel,
            parallelize_module,
        )

        assert self.device_mesh is not None
        mesh, layers = self.device_mesh["data_parallel"], self.model.backbone
        if "tp" in self.case:
            plan = {"1": ColwiseParallel(), "3": RowwiseParallel()}
            parallelize_module(layers, self.device_mesh["tensor_parallel"], plan)
        options: dict[str, Any] = {"mesh": mesh}
        if "bf16" in self.case:
            options["mp_policy"] = MixedPrecisionPolicy(param_dtype=torch.bfloat16)
        if "nested" in self.case or "blocks" in self.case:
            fully_shard(layers[1], **options)
            fully_shard(layers[3], **options)
        if "nested" in self.case:
            fully_shard(layers, **options)
        if "fsdp" in self.case:
            fully_shard(self.model, **options)


class Weights(pl.Callback):
    """Saves the whole weights after each step, and says where each fit ended."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        whole = {
            name: value.full_tensor() if hasattr(value, "full_tensor") else value.clone()
            for name, value in pl_module.model.state_dict().items()
        }
        torch.save(whole, self.folder / f"rank{trainer.global_rank}-{trainer.global_step}.pt")


def fails_on_rank_one(module: Any, images: Tensor) -> Tensor:
    if module.trainer.global_rank == 1 and module.global_step == 2:
        raise ArithmeticError("bad block")
    features: Tensor = module.model.backbone(images)
    return features


def probe_set() -> ProbeSet:
    """513 images: shards of 257 and 256, which are two batches and one."""
    return ProbeSet(Floats(520), per_class=171)


def strategy_of(case: str, data: int, tensor: int) -> Any:
    if case == "single":
        return "auto"
    if case.startswith("ddp"):
        return DDPStrategy(
            start_method=case.removeprefix("ddp_"),  # type: ignore[arg-type]
            process_group_backend="gloo",
        )
    return ModelParallelStrategy(
        data_parallel_size=data, tensor_parallel_size=tensor, process_group_backend="gloo"
    )


def fit(folder: Path, case: str, data: int, tensor: int, *, probed: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pl.seed_everything(5, verbose=False)
    encoder: Any = fails_on_rank_one if "fails" in case else None
    callback = ProbeCallback(
        probe_set(),
        encoder=encoder,
        every_n_train_steps=1,
        metrics=[*DEFAULT, Duality("model.head")],
    )
    trainer = pl.Trainer(
        max_steps=STEPS,
        accelerator="cpu",
        devices=data * tensor,
        strategy=strategy_of(case, data, tensor),
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[*([callback] if probed else []), Weights(folder)],
    )
    whole = case == "single" or case.startswith("ddp")
    trainer.fit(Whole() if whole else Split(case), DataLoader(Floats(48), BATCH, shuffle=False))


if __name__ == "__main__":
    torch.set_num_threads(1)
    place, which = Path(sys.argv[1]), sys.argv[2]
    for name in ("probed", "plain"):
        fit(place / name, which, int(sys.argv[3]), int(sys.argv[4]), probed=name == "probed")
