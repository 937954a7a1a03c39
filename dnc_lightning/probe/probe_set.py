"""A labelled data set, turned into a fixed stratified set of images to embed."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal, Protocol, get_args

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from dnc_lightning.functional.linear_probe import half_of_each_class
from dnc_lightning.probe.hierarchy import Hierarchy, add_coarse_tasks
from dnc_lightning.probe.images import as_tensor
from dnc_lightning.probe.isolation import isolated_rng
from dnc_lightning.probe.items import SampleError, item_image, naming_sample, sample_name
from dnc_lightning.probe.label_sources import Source, read_source
from dnc_lightning.probe.labels import Task, check_task_names, tasks_of
from dnc_lightning.probe.reading import one_thread
from dnc_lightning.probe.stratify import stratified
from dnc_lightning.probe.targets import read_targets

OnError = Literal["raise", "skip"]


class MapDataset(Protocol):
    """Anything with a length and items by index."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Any: ...


class ProbeSet:
    """A fixed, stratified, labelled set of images that is embedded again and again.

    Args:
        dataset: Map-style; items are `(image, label, ...)`, `(image, {"task": label}, ...)` or
            rows `{"image": ..., "label": ...}` (Hugging Face); `read_tasks` says which columns of
            rows are tasks. Images are PIL images of any mode, tensors [C, H, W] or arrays
            [H, W, C], scaled by the range of their type as `as_tensor` says, or refused.
        per_class: Samples of each class of each task, at least 1; unbiased estimates need 4, and
            about 100 resolve most pairs. Unitless.
        labels: In place of the labels of the items. One task: [N] integers, bools or class names,
            as a tensor, array or list. Several: a dict task -> [N] of these, or a pandas DataFrame
            with a row per sample and a column per task, such as a table of attributes. Or which
            columns of the items are tasks: a name, or a list of names.
        transform: Applied to each image once, before the first step; no augmentation. Without
            one, images are taken as they are. uint8 images, and floats that are multiples of
            1/255, are kept as uint8 and reach the encoder as floats in [0, 1].
        seed: Of the choice of samples and of a random transform.
        hierarchy: Further tasks, each a coarser version of another one: coarse name -> mapping,
            or, where there are several tasks, (fine task, mapping). A mapping is a dict, class name
            or label -> coarse name or number; a tensor [C_fine] of coarse numbers, by label; or
            the path of a JSON file that holds such a dict.
        targets: Continuous targets, for the instrument `Regression`: name -> [N] or [N, n] numbers,
            a row for each sample of the data set. Samples are chosen by the labels alone.
        num_workers: Processes that decode the images, as a DataLoader's; 0 is this process alone.
            None is as many as the Trainer's training loader has, where it was given to `fit`, else
            one for each core that is there for this process, at most 16; and 0 where reading takes
            less than about two seconds, as of tensors in memory. Images are bitwise the same.
        on_error: "raise" stops at a sample that cannot be read; "skip" leaves it out, on every
            process, and says so in every record. Other mistakes always raise.

    Raises:
        ValueError: an argument out of range here; at setup of the callback labels of the wrong
            shape, type or range, one class only, fewer than `per_class` samples of a class, names
            of tasks that would not tell metric keys apart, a sample that cannot be read, which is
            named, or a hierarchy that misses a class or knows one that the task does not have.

    Examples:
        >>> images = torch.zeros(20, 3, 8, 8, dtype=torch.uint8)
        >>> data = torch.utils.data.TensorDataset(images, torch.arange(20) % 2)
        >>> probe = ProbeSet(data, per_class=5)
        >>> len(probe)
        10
        >>> animals = ["cat", "dog", "car", "bus"] * 5
        >>> kind = {"cat": "animal", "dog": "animal", "car": "vehicle", "bus": "vehicle"}
        >>> probe = ProbeSet(data, per_class=5, labels={"thing": animals}, hierarchy={"kind": kind})
        >>> {name: task.classes for name, task in probe.tasks.items()}
        {'thing': ('bus', 'car', 'cat', 'dog'), 'kind': ('animal', 'vehicle')}
    """

    def __init__(
        self,
        dataset: MapDataset,
        per_class: int = 100,
        labels: Any = None,
        transform: Callable[[Any], Any] | None = None,
        seed: int = 0,
        *,
        hierarchy: Hierarchy | None = None,
        targets: Mapping[str, Any] | None = None,
        num_workers: int | None = None,
        on_error: OnError = "raise",
    ) -> None:
        if not isinstance(per_class, int) or per_class < 1:
            raise ValueError(f"per_class must be an integer of at least 1, got {per_class!r}.")
        if num_workers is not None and (not isinstance(num_workers, int) or num_workers < 0):
            raise ValueError(f"num_workers must be None or at least 0, got {num_workers!r}.")
        if on_error not in get_args(OnError):
            raise ValueError(f'on_error must be "raise" or "skip", got {on_error!r}.')
        _check_map_style(dataset)
        self.dataset = dataset
        self.per_class = per_class
        self.labels = labels
        self.transform = transform
        self.seed = seed
        self.hierarchy = hierarchy
        self._every_target = read_targets(targets, len(dataset))
        self.num_workers = num_workers
        self.on_error = on_error
        self._left_out: list[int] = []  # indices of chosen samples that cannot be read
        self._first: tuple[int, torch.Size] | None = None  # index and shape of the first image read

    @cached_property
    def indices(self) -> Tensor:
        """Chosen samples, [n] indices into the data set, in random order."""
        readable = torch.ones(len(self.dataset), dtype=torch.bool)
        readable[list(self._source.unreadable)] = False
        rows = readable.nonzero().flatten()
        tasks = {
            name: replace(task, labels=task.labels[rows]) for name, task in self._all_tasks.items()
        }
        return rows[stratified(tasks, self.per_class, self.seed)]

    @cached_property
    def tasks(self) -> dict[str, Task]:
        """Labels [n] and class names of the chosen samples, task by task."""
        return {
            name: replace(task, labels=task.labels[self.indices])
            for name, task in self._all_tasks.items()
        }

    @property
    def targets(self) -> dict[str, Tensor]:
        """Continuous targets [n, k] of the chosen samples, by name."""
        return {name: values[self.indices] for name, values in self._every_target.items()}

    @property
    def skipped(self) -> list[int]:
        """Indices of the samples that could not be read and are left out, rising."""
        return sorted([*self._source.unreadable, *self._left_out])

    def __len__(self) -> int:
        """Number n of chosen samples."""
        return len(self.indices)

    def transformed(self, transform: Callable[[Any], Any]) -> ProbeSet:
        """The same samples through a transform, such as that of an encoder."""
        other = self._alike()
        other.transform = transform
        return other

    def rechosen(self, per_class: int, labels: Any, seed: int) -> ProbeSet:
        """Of the same data set as many samples as these arguments choose; all else is as here."""
        other = self._alike()
        other.per_class, other.labels, other.seed, other._left_out = per_class, labels, seed, []
        for name in ("indices", "tasks", "_source", "_all_tasks"):
            vars(other).pop(name, None)
        return other

    def halves(self) -> tuple[ProbeSet, ProbeSet]:
        """Two probe sets without a sample in common, each with half of every class.

        Classes are those of the first task; the greater half of an odd one is in the first set.

        Raises:
            ValueError: a class with one sample, or one of another task that a half has none of.
        """
        first = next(iter(self.tasks.values())).labels
        chosen = half_of_each_class(first, torch.Generator().manual_seed(self.seed))
        found = self._alike(), self._alike()
        for half, mask in zip(found, (chosen, ~chosen), strict=True):
            vars(half)["indices"] = self.indices[mask]
            vars(half).pop("tasks", None)
            for name, task in half.tasks.items():
                count = torch.bincount(task.labels, minlength=len(task.classes))
                if not bool(count.all()):
                    raise ValueError(
                        f"one half has no sample of class {task.classes[int(count.argmin())]!r} of "
                        f"task {name!r}. Raise per_class."
                    )
        return found

    def _alike(self) -> ProbeSet:
        """One with the same arguments, and the labels and samples that are known already."""
        other = copy.copy(self)
        other._left_out, other._first = list(self._left_out), None
        return other

    def leave_out(self, lost: Tensor) -> None:
        """Drop chosen samples that cannot be read; later ones move up.

        Args:
            lost: [n], which ones.

        Raises:
            ValueError: a class of a task keeps fewer than 2 samples; names it and one that is lost.
        """
        if not lost.any():
            return
        for name, task in self.tasks.items():
            counts = torch.bincount(task.labels[~lost], minlength=len(task.classes))
            for position in lost.nonzero().flatten().tolist():
                label = int(task.labels[position])
                if counts[label] < 2:
                    sample = sample_name(self.dataset, int(self.indices[position]))
                    raise ValueError(
                        f"every class must keep 2 samples that can be read, but class "
                        f"{task.classes[label]!r} of task {name!r} keeps {int(counts[label])}: "
                        f"among others {sample} cannot be read. Repair it, or raise per_class."
                    )
        self._left_out += self.indices[lost].tolist()
        vars(self)["indices"] = self.indices[~lost]
        del self.tasks

    def image(self, position: int) -> Tensor:
        """Read and transform chosen sample `position`: uint8 or float32, [C, H, W].

        Draws of a random transform depend on `seed` and the sample alone, so that every process
        sees the same images; the caller's random states are untouched.

        Raises:
            UnreadableError: a ValueError that names the sample and, where one can be found, its
                file, which cannot be read.
            ValueError: likewise. The sample holds no image, or contradicts the labels; the
                transform does not return one tensor; the shape is not that of the first image.
        """
        index = int(self.indices[position])
        with naming_sample(self.dataset, index), isolated_rng(None), one_thread():
            seed = (self.seed * 1_000_003 + index) % 2**32
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002 - transforms draw from the global state
            torch.default_generator.manual_seed(seed)
            item = self.dataset[index]
            self._source.check(index, item)
            image = as_tensor(self._transformed(item_image(item)))
        self._check_shape(index, image.shape)
        return image

    def _transformed(self, image: Any) -> Any:
        if self.transform is None:
            return image
        try:
            return self.transform(image)
        except Exception as error:
            if hasattr(image, "load"):
                image.load()  # Pillow decodes here at the latest: is it the file that is broken?
            raise SampleError(
                f"transform failed on an image of type {type(image).__name__}: {error!r}. Pass "
                "ProbeSet(transform=...) that takes the images of the data set."
            ) from error

    def _check_shape(self, index: int, shape: torch.Size) -> None:
        if self._first is None:
            self._first = index, shape
        first, expected = self._first
        if shape != expected:
            raise ValueError(
                f"probe images must have one shape, got {list(expected)} of sample {first} and "
                f"{list(shape)} of sample {index}. Pass ProbeSet(transform=...) that resizes and "
                "crops, and converts to RGB where needed."
            )

    @cached_property
    def _source(self) -> Source:
        with isolated_rng(None):
            return read_source(self.dataset, self.labels, skip=self.on_error == "skip")

    @cached_property
    def _all_tasks(self) -> dict[str, Task]:
        tasks = add_coarse_tasks(tasks_of(self._source), self.hierarchy)
        check_task_names(tasks)
        return tasks


def _check_map_style(dataset: Any) -> None:
    if isinstance(dataset, DataLoader):
        raise ValueError("dataset must be a data set, got a DataLoader. Pass its .dataset.")
    if isinstance(dataset, Mapping):
        raise ValueError(
            f"dataset must be one data set, got a mapping of {', '.join(map(repr, dataset))}. Pass "
            "one of its values."
        )
    sized = hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")
    if isinstance(dataset, IterableDataset) or not sized:
        raise ValueError(
            "dataset must be map-style (with __len__ and __getitem__), got "
            f"{type(dataset).__name__}. Copy the start of a stream into a list first: "
            "ProbeSet(list(itertools.islice(dataset, 10_000)))."
        )
