"""Fashion-MNIST as the studies need it: small, imbalanced or mislabelled, or with coarse kinds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from recipes.data.fashion_mnist import FashionMNIST
from recipes.data.in_memory import InMemoryImages

Profile = Literal["tail", "step"]

KINDS: Mapping[str, tuple[int, ...]] = {
    "top": (0, 2, 4, 6),
    "trouser": (1,),
    "dress": (3,),
    "shoe": (5, 7, 9),
    "bag": (8,),
}
"""Coarse classes and the labels that they hold."""


class FashionKinds(FashionMNIST):
    """Fashion-MNIST with two tasks: `label`, the 10 classes, and `kind`, 5 coarse ones.

    Arguments are those of `FashionMNIST`.
    """

    def train_images(self) -> InMemoryImages:
        """The training images with both tasks."""
        return _with_kinds(super().train_images())

    def probe_images(self) -> InMemoryImages:
        """The test images with both tasks."""
        return _with_kinds(super().probe_images())


class FashionSubset(FashionMNIST):
    """A small part of Fashion-MNIST, which a network can learn by heart.

    Args:
        per_class: Training images of the largest class.
        ratio: Of the largest class to the smallest.
        profile: "tail", classes shrink by one factor from each to the next; "step", the first half
            is large and the second small.
        noise: Share of the training labels that are replaced by another class, drawn at random.
        probe_split: "train" probes the training images, with their labels; "test" the test images.
        data_dir: As `FashionMNIST`.
        batch_size: As `FashionMNIST`.
        probe_per_class: As `FashionMNIST`; at most the smallest class of the training images.
        num_workers: As `FashionMNIST`.
        seed: Also of the labels that are replaced.
    """

    def __init__(
        self,
        per_class: int = 200,
        ratio: float = 1.0,
        profile: Profile = "tail",
        noise: float = 0.0,
        probe_split: Literal["train", "test"] = "train",
        data_dir: str = "data",
        batch_size: int = 100,
        probe_per_class: int = 100,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(
            data_dir, batch_size, probe_per_class=probe_per_class, num_workers=num_workers,
            seed=seed,
        )  # fmt: skip
        if per_class < 1 or ratio < 1 or not 0 <= noise <= 1:
            raise ValueError(
                "a subset needs per_class >= 1, ratio >= 1 and noise in [0, 1], got "
                f"per_class={per_class}, ratio={ratio}, noise={noise}."
            )
        self.per_class = per_class
        self.ratio = ratio
        self.profile = profile
        self.noise = noise
        self.probe_split = probe_split

    def train_images(self) -> InMemoryImages:
        """The first images of every class, as many as it has, some with another label."""
        every = self._read("train")
        counts = sizes(self.per_class, self.ratio, self.profile, len(every.classes))
        rows = torch.cat([
            (every.targets == label).nonzero().flatten()[:count]
            for label, count in enumerate(counts)
        ]).sort().values  # fmt: skip
        labels = mislabelled(every.targets[rows], self.noise, len(every.classes), self.seed)
        return InMemoryImages(every.images[rows], labels, every.classes)

    def probe_images(self) -> InMemoryImages:
        """The training images, or the test images."""
        return self.train_images() if self.probe_split == "train" else super().probe_images()


def sizes(largest: int, ratio: float, profile: Profile, classes: int) -> list[int]:
    """Training images of each class, at least 1; see `FashionSubset`."""
    if profile == "step":
        small = [k >= classes // 2 for k in range(classes)]
    else:
        small = [k / (classes - 1) for k in range(classes)]
    return [max(1, round(largest * ratio ** -float(part))) for part in small]


def mislabelled(labels: Tensor, share: float, classes: int, seed: int) -> Tensor:
    """Labels [N] of which a share is moved to another class, each as likely."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(labels), generator=generator)[: round(share * len(labels))]
    moved = labels.clone()
    step = torch.randint(1, classes, (len(chosen),), generator=generator)
    moved[chosen] = (labels[chosen] + step) % classes
    return moved


def _with_kinds(images: InMemoryImages) -> InMemoryImages:
    kind_of = torch.empty(len(images.classes), dtype=torch.long)
    for kind, labels in enumerate(KINDS.values()):
        kind_of[list(labels)] = kind
    return InMemoryImages(
        images.images,
        {"label": images.targets, "kind": kind_of[images.targets]},
        {"label": list(images.classes), "kind": list(KINDS)},
    )
