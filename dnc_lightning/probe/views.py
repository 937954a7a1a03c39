"""Several views of each of some images, as a probe set whose classes are the images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from dnc_lightning.probe.items import item_image
from dnc_lightning.probe.probe_set import MapDataset, ProbeSet


class _Repeated:
    """Each chosen image several times over."""

    def __init__(self, dataset: MapDataset, chosen: list[int], views: int) -> None:
        self.dataset, self.chosen, self.views = dataset, chosen, views

    def __len__(self) -> int:
        return len(self.chosen) * self.views

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image = index // self.views
        return item_image(self.dataset[self.chosen[image]]), image


def image_views(
    dataset: MapDataset,
    transform: Callable[[Any], Any],
    *,
    images: int = 100,
    views: int = 10,
    seed: int = 0,
    num_workers: int | None = None,
) -> ProbeSet:
    """A probe set of random views, whose one task "image" says of which image each is.

    With a callback of its own it shows LiDAR and alignment, without any labels:

    ```python
    views = image_views(dataset, train_transform)
    ProbeCallback(views, name="views", metrics=["views"])
    ```

    Args:
        dataset: Map-style, as of ProbeSet; labels are not needed.
        transform: The random augmentation of training, of one image. Its draws depend on the seed
            and the view alone, so that every probe sees the same views.
        images: How many to choose; the paper of LiDAR has about 1,000.
        views: Of each image, at least 2; there 10 to 50.
        seed: Of the choice and of the views.
        num_workers: As of ProbeSet.

    Raises:
        ValueError: fewer than two images or views, or fewer images than are to be chosen.
    """
    if views < 2 or images < 2:
        raise ValueError(f"two images of two views are the least, got {images} and {views}.")
    if len(dataset) < images:
        raise ValueError(f"the data set has {len(dataset)} images, fewer than images={images}.")
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(dataset), generator=generator)[:images].tolist()
    repeated = _Repeated(dataset, chosen, views)
    labels = {"image": torch.arange(len(repeated)) // views}
    return ProbeSet(repeated, views, labels, transform, seed=seed, num_workers=num_workers)
