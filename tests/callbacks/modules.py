"""Small modules in the styles that people write, and data to train them on."""

from __future__ import annotations

import copy
import importlib.util
import random
import sys
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

CLASSES = 3


def images(n: int = 60, seed: int = 0) -> tuple[Tensor, Tensor]:
    """uint8 images [n, 3, 12, 12] whose brightness tells their class."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % CLASSES
    x = torch.randint(120, (n, 3, 12, 12), generator=generator) + 40 * y[:, None, None, None]
    return x.to(torch.uint8), y


class Noisy(Dataset):
    """Draws from every random state a worker has."""

    def __init__(self, n: int = 48) -> None:
        self.x, self.targets = images(n, seed=1)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        jitter = random.random() + np.random.rand() + torch.rand(1).item()
        return self.x[index] / 255 + 0.05 * jitter, int(self.targets[index])


class Clean(Dataset):
    """The labelled images of the probe, held out."""

    def __init__(self, n: int = 60) -> None:
        self.x, self.targets = images(n, seed=2)
        self.classes = ["dark", "middle", "bright"]

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.x[index], int(self.targets[index])


class Floats(Clean):
    """The same images, ready for a convolution, without any randomness."""

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.x[index] / 255, int(self.targets[index])


def loader(workers: int = 0, batch_size: int = 12) -> DataLoader:
    return DataLoader(Noisy(), batch_size, shuffle=True, num_workers=workers)


def backbone() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, 2),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Conv2d(6, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )


class Base(pl.LightningModule):
    def loss(self, features: Tensor, y: Tensor) -> Tensor:
        return nn.functional.cross_entropy(self.head(features), y)

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW([p for p in self.parameters() if p.requires_grad], 1e-2)


class BackboneModule(Base):
    """A `backbone` attribute, as in lightly's examples."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.head = backbone(), nn.Linear(8, CLASSES)
        self.losses: list[float] = []

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        loss = self.loss(self.backbone(batch[0]), batch[1])
        self.losses.append(loss.item())
        self.log("train_loss", loss)
        return loss


class ForwardModule(Base):
    """Only `forward`, as in Lightning's own examples."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = backbone(), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.stem(x)

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        return self.loss(self(batch[0]), batch[1])


class TeacherModule(Base):
    """Student and EMA teacher, a frozen layer in evaluation mode, a buffer that counts calls."""

    def __init__(self) -> None:
        super().__init__()
        self.student_backbone, self.head = backbone(), nn.Linear(8, CLASSES)
        self.teacher_backbone = copy.deepcopy(self.student_backbone).requires_grad_(False)
        self.frozen = nn.BatchNorm2d(3).eval().requires_grad_(False)
        self.register_buffer("calls", torch.zeros(()))
        self.losses: list[float] = []
        self.flags: list[tuple[bool, ...]] = []

    def train(self, mode: bool = True) -> TeacherModule:
        super().train(mode)
        self.frozen.eval()
        return self

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        self.flags.append(tuple(m.training for m in self.modules()))
        x = self.frozen(batch[0])
        student, teacher = self.student_backbone(x), self.teacher_backbone(x)
        loss = self.loss(student, batch[1]) + (student - teacher.detach()).square().mean()
        self.losses.append(loss.item())
        return loss

    def on_train_batch_end(self, *_: Any) -> None:
        with torch.no_grad():
            pairs = zip(
                self.teacher_backbone.parameters(), self.student_backbone.parameters(), strict=True
            )
            for teacher, student in pairs:
                teacher.lerp_(student, 0.1)


def student(module: Any, x: Tensor) -> Tensor:
    """An encoder that changes a buffer and draws random numbers, as encoders should not."""
    module.calls += 1
    return module.student_backbone(module.frozen(x + torch.rand(1, device=x.device) * 0))


def in_flavour(style: type, base: type) -> type:
    """The same module on the other flavour's LightningModule."""
    spec = importlib.util.spec_from_file_location("other_modules", __file__)
    assert spec is not None
    assert spec.loader is not None
    source = (
        Path(__file__).read_text().replace("lightning.pytorch as pl", "pytorch_lightning as pl")
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules["other_modules"] = module
    exec(compile(source, __file__, "exec"), module.__dict__)
    found: type = getattr(module, style.__name__)
    assert issubclass(found, base)
    return found
