"""Loading that can stop anywhere: every order and every draw follows from (seed, epoch, index).

A run resumed from a checkpoint, in one process or several, with more or fewer workers, sees the
batches that an unbroken run would have seen.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypedDict

import numpy as np
import torch
import torch.distributed as dist
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.distributed import DistributedSampler

from dnc_lightning.probe.isolation import isolated_rng
from recipes.data.labelled import LabelledImages, Targets

Views = Callable[[Image.Image], list[Tensor]]


class Draw(NamedTuple):
    """One image, taken in one epoch."""

    index: int
    epoch: int


class EpochSampler(DistributedSampler):
    """Shuffles by (seed, epoch) and deals the images out to the processes, one after the other.

    Rank r takes positions r, r + W, r + 2 W ... of W processes, so the ranks' batches number k
    together are batch k of a single process with W times the batch size. The incomplete last
    batch of an epoch is left out; another epoch leaves out other images.

    Being a `DistributedSampler`, Lightning keeps it and tells it the epoch, also with one process.
    World size and rank are those of `torch.distributed`, else 1 and 0.

    Args:
        dataset: The images, only counted here.
        batch_size: Images per batch and process.
        seed: Of the order.
    """

    def __init__(self, dataset: Dataset, batch_size: int, seed: int = 0) -> None:
        world_size, rank = processes()
        super().__init__(dataset, world_size, rank, shuffle=True, seed=seed, drop_last=True)
        self.batch_size = batch_size
        self.num_samples = len(dataset) // world_size // batch_size * batch_size
        self.total_size = self.num_samples * world_size
        self.place: tuple[int, int] | None = None  # epoch, and batches of it to leave out

    def __iter__(self) -> Iterator[Draw]:
        """Yield one epoch's number of draws from `place` on, so the last ones are of the next."""
        epoch, batches = self.place or (self.epoch, 0)
        start = batches * self.batch_size
        yield from self._draws(epoch, slice(start, None))
        if start:
            yield from self._draws(epoch + 1, slice(start))

    def _draws(self, epoch: int, part: slice) -> Iterator[Draw]:
        generator = torch.Generator().manual_seed(mixed_seed(self.seed, epoch))
        order = torch.randperm(len(self.dataset), generator=generator)[: self.total_size]
        mine = order[self.rank :: self.num_replicas][part]
        return (Draw(index, epoch) for index in mine.tolist())


class Drawn(Dataset):
    """What a worker makes of the draws of one batch.

    Args:
        dataset: The images.
        views: None for whole images as uint8, or what makes random views of one PIL image. It
            draws from the global generators of python, numpy and torch, which are seeded for each
            image and restored afterwards.
        seed: Of the views, with epoch and index.
    """

    def __init__(self, dataset: LabelledImages, views: Views | None, seed: int) -> None:
        self.dataset = dataset
        self.views = views
        self.seed = seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitems__(self, draws: list[Draw | int]) -> tuple[Tensor | list[Tensor], Targets]:
        """Return a batch: images ``[B, 3, H, W]`` or a list of views, and targets ``[B]``."""
        # Lightning's overfit_batches puts a sampler of plain numbers in place of ours.
        pairs = [draw if isinstance(draw, Draw) else Draw(draw, 0) for draw in draws]
        indices = [draw.index for draw in pairs]
        if self.views is None:
            return self.dataset.take(indices)
        with isolated_rng(None):
            views = [self._views(draw) for draw in pairs]
        return [torch.stack(view) for view in zip(*views, strict=True)], self.dataset.labels(
            indices
        )

    def _views(self, draw: Draw) -> list[Tensor]:
        seed = mixed_seed(self.seed, draw.epoch, draw.index)
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002 - transforms draw from the global state
        # torch.manual_seed would seed the accelerators as well, which nothing here restores.
        torch.default_generator.manual_seed(seed)
        return list(self.views(self.dataset.picture(draw.index)))


class LoaderState(TypedDict):
    """Where a run is in its data; the same on every rank."""

    epoch: int
    batches: int  # of this epoch, used already
    images: int  # in the training set
    images_per_batch: int  # over all processes
    seed: int


class ResumableLoader(DataLoader):
    """A loader whose place is stored in Lightning's checkpoints, and found again.

    Batches are one stream, epoch after epoch: a pass begins where the one before ended, be it in
    the middle of an epoch, and is one epoch long, which is what Lightning counts by. So what a
    step sees depends on how many batches were used before it, and on nothing else. After
    `load_state_dict`, batches that were used already are left out without being read.

    Args:
        dataset: Takes `Draw`.
        in_flight: Tells how many batches have been handed out but not been used; asked when a
            checkpoint is written, which may happen in the middle of a step.
        **kwargs: Those of `torch.utils.data.DataLoader`, with an `EpochSampler`.
    """

    def __init__(
        self, dataset: Dataset, in_flight: Callable[[], int] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(dataset, **kwargs)
        self.in_flight = in_flight
        self._handed_out: int | None = None  # batches, counted from the first one of epoch 0

    def __iter__(self) -> Iterator[Any]:
        """Return an iterator over as many batches as an epoch has."""
        first = self._position()
        return self._count(first, self._from(first))

    def _from(self, position: int) -> Iterator[Any]:
        self.sampler.place = divmod(position, len(self))
        return super().__iter__()

    def _count(self, first: int, batches: Iterator[Any]) -> Iterator[Any]:
        # Lightning may make the iterator before it has restored a checkpoint or set the epoch.
        if self._position() != first:
            batches = self._from(self._position())
        for position, batch in enumerate(batches, self._position() + 1):
            self._handed_out = position
            yield batch

    def _position(self) -> int:
        # Lightning counts epochs anew in some resumed runs, so its number only begins a run.
        if self._handed_out is not None:
            return self._handed_out
        return getattr(self.sampler, "epoch", 0) * len(self)

    def state_dict(self) -> LoaderState:
        """Return the place of the first batch that no step has used yet."""
        waiting = self.in_flight() if self.in_flight and self._handed_out else 0
        epoch, batches = divmod(max(0, self._position() - waiting), len(self))
        return {"epoch": epoch, "batches": batches, **self._identity()}

    def load_state_dict(self, state: LoaderState) -> None:
        """Go on where `state` was taken.

        Raises:
            ValueError: In the middle of an epoch, the data, the number of images per batch (over
                all processes) or the seed are not those of the stopped run.
        """
        mine = self._identity()
        then = {key: state[key] for key in mine}
        if state["batches"] and then != mine:
            raise ValueError(
                "a run that stopped in the middle of an epoch resumes only with the same number of "
                "images, batch size times processes, and seed: expected "
                f"{then}, got {mine}. Set data.batch_size and trainer.devices so that their "
                "product agrees, or start a new run from the checkpoint's weights."
            )
        self._handed_out = state["epoch"] * len(self) + state["batches"]

    def _identity(self) -> dict[str, int]:
        return {
            "images": len(self.dataset),
            "images_per_batch": self.batch_size * getattr(self.sampler, "num_replicas", 1),
            "seed": getattr(self.sampler, "seed", 0),
        }


def resumable_batches(
    dataset: LabelledImages,
    batch_size: int,
    *,
    views: Views | None = None,
    num_workers: int = 0,
    seed: int = 0,
    pin_memory: bool = False,
    in_flight: Callable[[], int] | None = None,
) -> ResumableLoader:
    """Return a shuffling, resumable loader of whole batches, without the incomplete last one.

    Args:
        dataset: The images to draw from.
        batch_size: Images per batch and process.
        views: As in `Drawn`.
        num_workers: Processes that load; 0 loads in the training process.
        seed: Of order and views.
        pin_memory: Whether batches go to page-locked memory, to reach a GPU sooner.
        in_flight: As in `ResumableLoader`.

    Returns:
        A loader of what `Drawn` makes.

    Raises:
        ValueError: If the dataset cannot fill one batch of every process.
    """
    world_size, _ = processes()
    largest = len(dataset) // world_size
    if not 1 <= batch_size <= largest:
        shared = f" / {world_size} processes = {largest}" if world_size > 1 else ""
        raise ValueError(
            "batch_size must lie between 1 and the number of training images, "
            f"{len(dataset)}{shared}; got {batch_size}. Lower batch_size or load more images."
        )
    return ResumableLoader(
        Drawn(dataset, views, seed),
        in_flight=in_flight,
        batch_size=batch_size,
        sampler=EpochSampler(dataset, batch_size, seed),
        drop_last=True,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        pin_memory=pin_memory,
        collate_fn=as_it_is,
        # Else each pass would take a number from the global stream that the model draws from.
        generator=torch.Generator().manual_seed(0),
    )


def processes() -> tuple[int, int]:
    """Return the number of training processes and this one's rank."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_world_size(), dist.get_rank()
    return 1, 0


def mixed_seed(*parts: int) -> int:
    """Return one seed below 2**63 that differs between tuples of non-negative integers."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))


def as_it_is(batch: Any) -> Any:
    """Return what came: `Drawn` has made a batch of it already."""
    return batch
