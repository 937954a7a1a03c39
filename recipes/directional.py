"""Directional collapse as a further term of a self-supervised loss, by one key of a configuration.

With labels of a share of the images it is a semi-supervised method: what it reaches on that task is
no achievement of self-supervision, and `docs/training.md` shows what it does to others.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from lightning import LightningDataModule
from torch import Tensor

from dnc_lightning.losses.collapse import DirectionalCollapseLoss, Form
from recipes.data.labelled import LabelledImages


@dataclass(frozen=True)
class Directional:
    """What is added to a loss."""

    weight: float  # of the term
    labels: float = 0.0  # share of the training images whose labels it sees; 0: none
    task: str | None = None  # whose labels, for data with several
    batch: int = 64  # labelled images of a step, beside the unlabelled ones
    form: Form = "bound"  # of the loss, see `DirectionalCollapseLoss`

    def __post_init__(self) -> None:
        if not self.weight > 0 or not 0 <= self.labels <= 1 or self.batch < 2:
            raise ValueError(
                "directional needs weight > 0, labels in [0, 1] and batch >= 2, got "
                f"weight={self.weight}, labels={self.labels}, batch={self.batch}."
            )


class DirectionalTerm:
    """The term: of labelled images, or of the views of each image as a class of its own.

    Args:
        settings: Weight and labels.
    """

    def __init__(self, settings: Directional) -> None:
        self.settings = settings
        self.loss = DirectionalCollapseLoss(settings.form)

    def open(self, data: LightningDataModule) -> None:
        """Choose the images whose labels are seen: of each class the same share, at least two.

        Raises:
            ValueError: the data has no such task.
        """
        if not self.settings.labels:
            return
        self.images_: LabelledImages = data.train_set_
        targets = self.images_.targets
        tasks = targets if isinstance(targets, dict) else {None: targets}
        if self.settings.task not in tasks:
            named = " or ".join(repr(name) for name in tasks)
            raise ValueError(
                f"The data has no task {self.settings.task!r}. Set model.directional.task to "
                f"{named}."
            )
        self.targets_: Tensor = tasks[self.settings.task]
        self.chosen_ = stratified_share(self.targets_, self.settings.labels)

    def draw(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Random labelled images [B, 3, H, W] uint8 and labels [B] of one step."""
        drawn = self.chosen_[torch.randint(len(self.chosen_), (self.settings.batch,))]
        images, _ = self.images_.take(drawn.tolist())
        return images.to(device), self.targets_[drawn].to(device)

    def __call__(self, features: Tensor, labels: Tensor) -> Tensor:
        """The weighted term of features [N, D] and labels [N]."""
        return self.settings.weight * self.loss(features, labels)


def stratified_share(labels: Tensor, share: float, seed: int = 0) -> Tensor:
    """Indices of a share of every class, at least two of each, the same for the same seed.

    Args:
        labels: [N] classes.
        share: In (0, 1].
        seed: Of the choice.
    """
    generator = torch.Generator().manual_seed(seed)
    found = []
    for label in labels.unique():
        rows = (labels == label).nonzero().flatten()
        number = max(2, round(share * len(rows)))
        found.append(rows[torch.randperm(len(rows), generator=generator)[:number]])
    return torch.cat(found)


# Checkpoints store a model's arguments; these are plain data.
torch.serialization.add_safe_globals([Directional])
