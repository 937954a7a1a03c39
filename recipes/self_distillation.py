"""What DINO and DINOv2 share: a teacher that follows the student, and the loss between them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Literal

import torch
from lightly.loss.swav_loss import sinkhorn
from lightly.models.modules.center import Center
from lightly.models.utils import deactivate_requires_grad, update_momentum
from lightly.utils.scheduler import cosine_schedule
from torch import Tensor, nn

from recipes.augment import Views
from recipes.base import Augment, Recipe
from recipes.optim import Optimization

Centering = Literal["mean", "sinkhorn"]


class Teacher(Recipe):
    """A recipe whose modules `student_*` have a moving average `teacher_*`.

    Args:
        views: As for `Recipe`, like the next two.
        optimization: Optimizer and schedule.
        augment: Where views are made.
        momentum: Of the teacher at the start; it rises to 1 over the run.
    """

    def __init__(
        self,
        views: Sequence[Views],
        optimization: Optimization,
        augment: Augment,
        momentum: float,
    ) -> None:
        super().__init__(views, optimization, augment)
        self.teacher_momentum = momentum

    def begin_teacher(self, *names: str) -> None:
        """Start every `teacher_{name}` as a frozen copy of `student_{name}`."""
        self.taught = names
        for student, teacher in self._pairs():
            teacher.load_state_dict(student.state_dict())
            deactivate_requires_grad(teacher)

    def update_teacher(self, batch_index: int) -> None:
        """Move the teacher towards the student."""
        if batch_index % self.trainer.accumulate_grad_batches:
            return  # the student has not moved since
        total = self.total_steps
        step = min(self.global_step, total)
        momentum = cosine_schedule(step, total, self.teacher_momentum, 1.0)
        for student, teacher in self._pairs():
            update_momentum(student, teacher, momentum)

    def _pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        return [
            (getattr(self, f"student_{name}"), getattr(self, f"teacher_{name}"))
            for name in self.taught
        ]


def projection_head(kind: type[nn.Module], *widths: int, batch_norm: bool = False) -> nn.Module:
    """Return one of lightly's heads of these widths."""
    with warnings.catch_warnings():
        # lightly's heads use the older of torch's two weight norms, which a user cannot change.
        warnings.filterwarnings("ignore", ".*weight_norm. is deprecated", FutureWarning)
        return kind(*widths, batch_norm=batch_norm)


class SelfDistillation(nn.Module):
    """Cross-entropy between the teacher's and the student's assignments of different views.

    The teacher must not put everything into one cluster. "mean" subtracts a running mean from its
    logits (Caron et al. 2021, section 3.1), "sinkhorn" makes every batch use all clusters equally
    (Oquab et al. 2024, section 4).

    Args:
        output_dim: Number of clusters K.
        centering: "mean" or "sinkhorn".
        teacher_temperature: Temperature of the targets.
        student_temperature: Temperature of the student.
    """

    def __init__(
        self,
        output_dim: int,
        centering: Centering,
        teacher_temperature: float,
        student_temperature: float,
    ) -> None:
        super().__init__()
        self.center = Center((1, output_dim)) if centering == "mean" else None
        self.teacher_temperature = teacher_temperature
        self.student_temperature = student_temperature

    def forward(self, teacher: list[Tensor], student: list[Tensor]) -> Tensor:
        """Average over all pairs of a teacher's view with another view of the student.

        Args:
            teacher: Logits [B, K] of the views that the teacher saw.
            student: Logits [B, K] of the same views and further ones, in the same order.
        """
        targets = self.targets(torch.cat(teacher)).chunk(len(teacher))
        logs = [torch.log_softmax(view / self.student_temperature, dim=-1) for view in student]
        terms = [
            -(target * log).sum(-1).mean()
            for t, target in enumerate(targets)
            for s, log in enumerate(logs)
            if s != t
        ]
        return torch.stack(terms).mean()

    @torch.no_grad()
    def targets(self, logits: Tensor) -> Tensor:
        """Turn the teacher's logits [N, K] into assignments [N, K] that sum to 1."""
        logits = logits.float()
        if self.center is None:
            # A factor per sample leaves the balanced assignment as it is, and cannot overflow.
            logits = logits - logits.amax(1, keepdim=True)
            return sinkhorn(logits, epsilon=self.teacher_temperature, gather_distributed=True)
        assigned = torch.softmax((logits - self.center.value) / self.teacher_temperature, dim=-1)
        self.center.update(logits)
        return assigned
