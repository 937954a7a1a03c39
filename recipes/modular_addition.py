"""Addition modulo a number: a task whose classes go round in a circle.

A network that adds numbers modulo P sees pairs of numbers and names their sum. Nothing tells it
that numbers have an order, and it finds one: Tan, Gai and Zhang (arXiv:2606.08985) say that means
of such cyclic classes should lie on a circle, not on a simplex. `docs/other_targets.md` shows what
they do here.

Command:
    `python -m recipes.modular_addition fit --config recipes/configs/modular_addition_pairs.yaml`
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dnc_lightning import ProbeSet
from recipes.base import Recipe
from recipes.data.labelled import LabelledImages
from recipes.data.module import ProbedImages
from recipes.optim import Optimization


class Sums(LabelledImages):
    """Pairs of numbers below P as one-hot rows ``[1, 2, P]`` uint8, 0 or 255; labels are the sums.

    Args:
        pairs: ``[N, 2]``.
        modulus: P.
    """

    def __init__(self, pairs: Tensor, modulus: int) -> None:
        super().__init__(pairs.sum(1) % modulus, [str(k) for k in range(modulus)])
        self.pairs = pairs
        self.modulus = modulus

    def image(self, index: int) -> Tensor:
        """Return one pair, ``[1, 2, P]`` uint8."""
        rows = nn.functional.one_hot(self.pairs[index], self.modulus)
        return (255 * rows).to(torch.uint8)[None]

    def picture(self, index: int) -> None:
        """A pair is no picture."""
        raise ValueError("pairs of numbers are no pictures: set model.augment to 'device'.")


class ModularAddition(ProbedImages):
    """All pairs below P, part of them to train on; the probe is of all of them.

    Args:
        modulus: P.
        share: Of the pairs that are trained on, in (0, 1].
        batch_size: Pairs per batch and process.
        seed: Of the choice and the order.
    """

    def __init__(
        self, modulus: int = 31, share: float = 1.0, batch_size: int = 256, seed: int = 0
    ) -> None:
        super().__init__(batch_size, probe_per_class=modulus, seed=seed)
        if modulus < 5 or not 0 < share <= 1:
            raise ValueError(f"need modulus >= 5 and share in (0, 1], got {modulus} and {share}.")
        self.modulus = modulus
        self.share = share

    def train_images(self) -> Sums:
        """The pairs to train on."""
        generator = torch.Generator().manual_seed(self.seed)
        number = round(self.share * self.modulus**2)
        chosen = torch.randperm(self.modulus**2, generator=generator)[:number]
        return Sums(_pairs(self.modulus)[chosen], self.modulus)

    def probe_images(self) -> Sums:
        """All pairs."""
        return Sums(_pairs(self.modulus), self.modulus)

    @property
    def probe_set(self) -> ProbeSet:
        """All pairs, as many of each sum."""
        return ProbeSet(self.probe_images(), per_class=self.modulus, seed=0)


class Adder(Recipe):
    """The embeddings of both numbers, added, through one hidden layer, and a linear head.

    Args:
        modulus: P.
        width: Length of an embedding.
        hidden_dim: D, of the features.
        optimization: Optimizer and schedule.
    """

    def __init__(
        self,
        modulus: int = 31,
        width: int = 64,
        hidden_dim: int = 128,
        optimization: Optimization = Optimization(),  # noqa: B008  frozen
    ) -> None:
        super().__init__([], optimization, "device")
        self.save_hyperparameters()
        self.backbone = Summand(modulus, width, hidden_dim)
        self.classifier = nn.Linear(hidden_dim, modulus, bias=False)

    def forward(self, pairs: Tensor) -> Tensor:
        """Map one-hot pairs [B, 1, 2, P] to features [B, D]."""
        return self.backbone(pairs)

    def training_step(self, batch: tuple, batch_index: int) -> Tensor:
        """Return the cross-entropy of a batch."""
        pairs, labels = batch
        logits = self.classifier(self.backbone(pairs.float() / 255))
        loss = nn.functional.cross_entropy(logits, labels)
        right = (logits.argmax(1) == labels).float().mean()
        self.log_dict({"train/loss": loss, "train/accuracy": right}, prog_bar=True, sync_dist=True)
        return loss


class Summand(nn.Module):
    """Adds the embeddings of two numbers and passes the sum through a hidden layer."""

    def __init__(self, modulus: int, width: int, hidden_dim: int) -> None:
        super().__init__()
        self.embedding = nn.Linear(modulus, width, bias=False)
        self.hidden = nn.Linear(width, hidden_dim)

    def forward(self, pairs: Tensor) -> Tensor:
        """Map one-hot pairs [B, 1, 2, P] to features [B, D]."""
        return torch.relu(self.hidden(self.embedding(pairs[:, 0]).sum(1)))


def _pairs(modulus: int) -> Tensor:
    return torch.cartesian_prod(torch.arange(modulus), torch.arange(modulus))


if __name__ == "__main__":
    from recipes.cli import main

    main(Adder)
