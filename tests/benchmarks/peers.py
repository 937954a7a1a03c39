"""The same run watched by stable-pretraining's callbacks and by ours: values, cost, side effects.

    pip install stable-pretraining
    python -m tests.benchmarks.peers

Trains SimCLR on Factors three times from one seed: watched by nobody, by stable-pretraining's
RankMe, LiDAR, OnlineKNN and OnlineProbe, and by a ProbeCallback with "health", "knn", "linear" and
views. Both look at the same steps and at the same 864 held-out images.
"""

from __future__ import annotations

import tempfile
import time
from typing import Any

import lightning.pytorch as pl
import torch
import torchmetrics
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from dnc_lightning import ProbeCallback, ProbeSet, image_views
from recipes.augment import DeviceViews, Views
from recipes.backbones import build_backbone
from recipes.data import Factors

STEPS, EVERY, BATCH, TASK = 90, 30, 128, "colour"


class Rows(Dataset):
    """What stable-pretraining takes: dicts."""

    def __init__(self, dataset: Any, chosen: Any = None) -> None:
        self.dataset = dataset
        self.chosen = range(len(dataset)) if chosen is None else chosen

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, index: int) -> dict[str, Any]:
        image, labels = self.dataset[int(self.chosen[index])]
        return {"image": image.float() / 255, "label": int(labels[TASK])}


class Clock(pl.Callback):
    """Seconds of the fit, and of validation where there is one."""

    def __init__(self) -> None:
        self.validating = 0.0

    def on_train_start(self, *_: Any) -> None:
        self.began = time.perf_counter()

    def on_validation_start(self, *_: Any) -> None:
        self._at = time.perf_counter()

    def on_validation_end(self, *_: Any) -> None:
        self.validating += time.perf_counter() - self._at

    def on_train_end(self, *_: Any) -> None:
        self.seconds = time.perf_counter() - self.began


def forward(self: Any, batch: dict[str, Any], stage: str) -> dict[str, Any]:
    """SimCLR; what is queued is the features of the first view."""
    if stage != "fit":
        return {"embedding": self.backbone(batch["image"])}
    torch.manual_seed(self.trainer.global_step)  # so that what else draws moves no view
    first, second = self.draw(batch["image"])
    a, b = self.backbone(first), self.backbone(second)
    loss = contrast(self.head(a), self.head(b))
    return {"embedding": a, "loss": loss}


def contrast(a: Tensor, b: Tensor, temperature: float = 0.1) -> Tensor:
    """NT-Xent."""
    z = nn.functional.normalize(torch.cat([a, b]), dim=1)
    logits = (z @ z.T / temperature).fill_diagonal_(-torch.inf)
    return nn.functional.cross_entropy(logits, torch.arange(len(z)).roll(len(a)))


def run(watch: str) -> dict[str, Any]:
    """One fit; what was found."""
    import stable_pretraining as spt
    from stable_pretraining.callbacks import LiDAR, OnlineKNN, OnlineProbe, RankMe

    pl.seed_everything(0, verbose=False)
    data = Factors()
    data.prepare_data()
    data.setup("fit")
    held_out: ProbeSet = data.probe_set
    backbone = build_backbone("small_resnet32", 32, None)
    dim = backbone.feature_dim
    head = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, 128))
    views = DeviceViews([Views(min_scale=0.7)])
    module = spt.Module(
        forward=forward,
        backbone=backbone,
        head=head,
        draw=views,
        optim={"optimizer": {"type": "AdamW", "lr": 1e-3}, "scheduler": {"type": "ConstantLR"}},
    )
    clock = Clock()
    callbacks: list[Any] = [clock]
    classes = len(held_out.tasks[TASK].classes)
    queue = {"queue_length": 1024}

    def scores() -> dict[str, Any]:
        return {"top1": torchmetrics.classification.MulticlassAccuracy(classes, average="micro")}

    if watch == "stable-pretraining":
        callbacks += [
            RankMe("rankme", "embedding", target_shape=dim, **queue),
            LiDAR("lidar", "embedding", target_shape=dim, **queue),
            OnlineKNN(
                "knn",
                "embedding",
                "label",
                metrics=scores(),
                input_dim=dim,
                num_classes=classes,
                k=20,
                **queue,
            ),
            OnlineProbe(
                module,
                "probe",
                "embedding",
                "label",
                probe=nn.Linear(dim, classes),
                loss=nn.CrossEntropyLoss(),
                metrics=scores(),
            ),
        ]
    if watch == "dnc_lightning":
        every = {"encoder": "backbone", "every_n_train_steps": EVERY, "examples": False}
        callbacks.append(ProbeCallback(held_out, metrics=["health", "knn", "linear"], **every))
        shift = v2.Compose([v2.RandomResizedCrop(32, (0.7, 1.0)), v2.ColorJitter(0.4, 0.4, 0.4)])
        shown = image_views(data.train_images(), shift, images=100, views=10)
        callbacks.append(ProbeCallback(shown, metrics=["views"], name="views", **every))
    generator = torch.Generator().manual_seed(0)
    loader = DataLoader(
        Rows(data.train_images()), BATCH, shuffle=True, generator=generator, drop_last=True
    )
    validation = DataLoader(Rows(held_out.dataset, held_out.indices), BATCH)
    watched = watch == "stable-pretraining"
    trainer = pl.Trainer(
        max_steps=STEPS,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        val_check_interval=EVERY if watched else None,
        check_val_every_n_epoch=None if watched else 1,
        limit_val_batches=None if watched else 0,
        callbacks=callbacks,
        default_root_dir=tempfile.mkdtemp(),
    )
    trainer.fit(module, loader, validation if watched else None)
    found = {k: float(v) for k, v in trainer.callback_metrics.items()}
    spent = sum(c.probe_seconds_ for c in callbacks if isinstance(c, ProbeCallback))
    return {
        "seconds": clock.seconds,
        "watching": clock.validating or spent,
        "weights": torch.cat([p.detach().flatten() for p in backbone.parameters()]),
        "found": found,
    }


def main() -> None:
    """Print what each found, and whether the weights are those of the run that nobody watched."""
    runs = {name: run(name) for name in ("nobody", "stable-pretraining", "dnc_lightning")}
    bare = runs["nobody"]["weights"]
    for name, one in runs.items():
        same = torch.equal(one["weights"], bare)
        seconds, watching = one["seconds"], one["watching"]
        print(f"{name}: {seconds:.1f} s, watching {watching:.1f} s, weights same: {same}")
        for key, value in sorted(one["found"].items()):
            wanted = ("rankme", "lidar", "knn", "probe_top1", "top1", "alignment")
            if any(word in key for word in wanted) and not key.endswith("_se"):
                print(f"    {key} {value:.4g}")


if __name__ == "__main__":
    main()
