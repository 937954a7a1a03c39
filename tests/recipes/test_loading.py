"""Loading: a stopped and resumed run sees what an unbroken one sees, in one process or two."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from PIL import Image
from torch import Tensor

from recipes.data import InMemoryImages, ProbedImages, loading
from recipes.data.loading import Draw, Drawn, EpochSampler, ResumableLoader, resumable_batches

pytestmark = pytest.mark.filterwarnings(
    # Resuming runs have no need to save again.
    "ignore:Be aware that when using `ckpt_path`, callbacks used to create the checkpoint need",
)

COUNT = 22  # five batches of 4, and two images that stay over


def numbered(count: int = COUNT) -> InMemoryImages:
    """Image number n is labelled n, so that a batch tells what it was made of."""
    images = torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 2, 2)
    return InMemoryImages(images.clone(), torch.arange(count), list(map(str, range(count))))


class Numbered(ProbedImages):
    def train_images(self) -> InMemoryImages:
        return numbered()

    def probe_images(self) -> InMemoryImages:
        return numbered()


def noisy(image: Image.Image) -> list[Tensor]:
    """Draws from all three generators, and shows the image."""
    pixel = float(np.asarray(image)[0, 0, 0])
    first = torch.full((3, 2, 2), pixel) + torch.rand(3, 2, 2)
    return [first, torch.full((3, 1, 1), random.random() + float(np.random.rand()))]


class Recorder(LightningModule):
    """Keeps what each step sees."""

    def __init__(self, worker_views: Any = None) -> None:
        super().__init__()
        self.worker_views = worker_views
        self.weight = torch.nn.Linear(1, 1)
        self.seen: list[list[int]] = []
        self.images: list[Any] = []

    def training_step(self, batch: tuple, _index: int) -> Tensor:
        self.images.append(batch[0])
        self.seen.append(batch[1].tolist())
        return self.weight(torch.ones(1)).sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        # Recipes ask for this.
        assert self.trainer.estimated_stepping_batches > 0
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(
    data: ProbedImages,
    views: Any = None,
    callbacks: tuple[Callback, ...] = (),
    resume: Path | None = None,
    **limits: Any,
) -> Recorder:
    module = Recorder(views)
    options: dict[str, Any] = {"devices": 1} | limits
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=any(isinstance(c, ModelCheckpoint) for c in callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
        **options,
    )
    trainer.fit(module, data, ckpt_path=resume, weights_only=False if resume else None)
    return module


class AtEnd(Callback):
    """Saves once training is over."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_end(self, trainer: Trainer, _module: LightningModule) -> None:
        trainer.save_checkpoint(self.path)


def saver(when: str, folder: Path, step: int) -> Callback:
    if when == "step":
        return ModelCheckpoint(folder, "stop", every_n_train_steps=step)
    if when == "epoch":
        return ModelCheckpoint(folder, "stop", save_on_train_epoch_end=True)
    return AtEnd(folder / "stop.ckpt")


@pytest.mark.parametrize("stop", [1, 4, 5, 8, 10], ids=lambda k: f"step{k}")
@pytest.mark.parametrize("when", ["step", "epoch", "end"])
def test_a_resumed_run_sees_what_an_unbroken_one_sees(stop, when, tmp_path):
    whole = fit(Numbered(4), max_steps=12)
    first = fit(Numbered(4), callbacks=(saver(when, tmp_path, stop),), max_steps=stop)
    second = fit(Numbered(4), resume=tmp_path / "stop.ckpt", max_steps=12)
    assert len(whole.seen) == 12
    assert first.seen + second.seen == whole.seen


@pytest.mark.parametrize("stop", [3, 5, 7], ids=lambda k: f"step{k}")
def test_views_of_workers_resume_bitwise(stop, tmp_path):
    whole = fit(Numbered(4), noisy, max_steps=10)
    first = fit(
        Numbered(4, num_workers=1),
        noisy,
        callbacks=(saver("step", tmp_path, stop),),
        max_steps=stop,
    )
    second = fit(Numbered(4, num_workers=1), noisy, resume=tmp_path / "stop.ckpt", max_steps=10)
    assert first.seen + second.seen == whole.seen
    for one, other in zip(whole.images, first.images + second.images, strict=True):
        assert [view.shape for view in one] == [(4, 3, 2, 2), (4, 3, 1, 1)]
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert len(torch.cat([views[1].flatten() for views in whole.images]).unique()) == 40


@pytest.mark.parametrize("stop", [3, 5, 7], ids=lambda k: f"step{k}")
@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_counted_in_epochs_resumes_as_well(stop, workers, tmp_path):
    """The loader exists before Lightning restores the loops, since the model asked for steps."""
    whole = fit(Numbered(4), max_epochs=3)
    fit(Numbered(4), callbacks=(saver("step", tmp_path, stop),), max_epochs=3, max_steps=stop)
    data = Numbered(4, num_workers=workers)
    assert len(whole.seen) == 15
    resumed = fit(data, resume=tmp_path / "stop.ckpt", max_epochs=3)
    assert resumed.seen == whole.seen[stop:]


def test_a_run_counted_in_epochs_resumes_at_their_end(tmp_path):
    whole = fit(Numbered(4), max_epochs=3)
    fit(Numbered(4), callbacks=(saver("epoch", tmp_path, 0),), max_epochs=1)
    for workers in (0, 1):
        data = Numbered(4, num_workers=workers)
        assert fit(data, resume=tmp_path / "stop.ckpt", max_epochs=3).seen == whole.seen[5:]


class MidStep(Callback):
    """Saves between two batches being handed over and used, as a signal may."""

    def __init__(self, path: Path, step: int) -> None:
        self.path, self.step = path, step

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


def test_a_batch_that_was_not_used_comes_again(tmp_path):
    whole = fit(Numbered(4), callbacks=(MidStep(tmp_path / "stop.ckpt", 7),), max_steps=12)
    second = fit(Numbered(4), resume=tmp_path / "stop.ckpt", max_steps=12)
    assert second.seen == whole.seen[7:]


class Dump(Callback):
    """Writes what each rank saw."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        (self.folder / f"{trainer.global_rank}.json").write_text(json.dumps(module.seen))


def test_two_processes_share_the_batches_of_one(tmp_path):
    stopped, resumed = tmp_path / "stopped", tmp_path / "resumed"
    for folder, stop, begin in ((stopped, 3, None), (resumed, 8, stopped / "stop.ckpt")):
        folder.mkdir()
        fit(
            Numbered(2),
            callbacks=(saver("step", folder, stop), Dump(folder)),
            resume=begin,
            max_steps=stop,
            devices=2,
            strategy="ddp_fork",
        )
    ranks = [
        [batch for folder in (stopped, resumed) for batch in json.loads(path(folder))]
        for path in (lambda f: (f / "0.json").read_text(), lambda f: (f / "1.json").read_text())
    ]
    one = fit(Numbered(4), max_steps=8)
    assert [sorted(a + b) for a, b in zip(*ranks, strict=True)] == [sorted(b) for b in one.seen]


def flat(batches: Iterable[list[int]]) -> list[int]:
    return list(chain.from_iterable(batches))


def draws(monkeypatch, world_size: int, batch_size: int, epoch: int = 1) -> list[list[list[int]]]:
    """Batches of indices, for each rank."""
    found = []
    for rank in range(world_size):
        monkeypatch.setattr(loading, "processes", lambda r=rank: (world_size, r))
        sampler = EpochSampler(numbered(), batch_size, seed=5)
        sampler.set_epoch(epoch)
        indices = [draw.index for draw in sampler]
        assert len(indices) == len(sampler)
        found.append([indices[i : i + batch_size] for i in range(0, len(indices), batch_size)])
    return found


@pytest.mark.parametrize(("world_size", "batch_size"), [(2, 3), (3, 2), (4, 1), (3, 7)])
def test_ranks_together_take_the_batches_of_one_process(monkeypatch, world_size, batch_size):
    (one,) = draws(monkeypatch, 1, world_size * batch_size)
    ranks = draws(monkeypatch, world_size, batch_size)
    assert [sorted(flat(batches)) for batches in zip(*ranks, strict=True)] == [
        sorted(batch) for batch in one
    ]
    assert len(set(flat(one))) == len(one) * world_size * batch_size


def test_epochs_and_seeds_have_their_own_order(monkeypatch):
    orders = [draws(monkeypatch, 1, 1, epoch)[0] for epoch in (0, 1, 2)]
    assert len({str(order) for order in orders}) == 3
    data = numbered()
    shifted = [[d.index for d in EpochSampler(data, 1, seed)] for seed in (6, 7)]
    assert not any(flat(order) in shifted for order in orders[1:])


class Counted(InMemoryImages):
    """Remembers which images were read."""

    def __init__(self) -> None:
        source = numbered()
        super().__init__(source.images, source.targets, source.classes)
        self.read: list[int] = []

    def take(self, indices: list[int]) -> Any:
        self.read += indices
        return super().take(indices)


def test_batches_used_already_are_not_read_again():
    data = Counted()
    first = resumable_batches(data, 4)
    batches = iter(first)
    used = [next(batches)[1].tolist() for _ in range(2)]
    state = json.loads(json.dumps(first.state_dict()))
    data.read.clear()
    second = resumable_batches(data, 4)
    second.load_state_dict(state)
    rest = [labels.tolist() for _, labels in second]
    assert data.read == flat(rest)
    assert len(rest) == len(second) == 5
    assert len(set(flat(used + rest[:3]))) == 20
    assert used == [labels.tolist() for _, labels in resumable_batches(data, 4)][:2]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_place_may_be_restored_after_the_iterator_was_made(workers):
    """Some strategies read the checkpoint late, when workers have begun to load already."""
    loader = resumable_batches(numbered(), 4, num_workers=workers)
    expected = [labels.tolist() for _, labels in loader]
    state = resumable_batches(numbered(), 4).state_dict() | {"batches": 3}
    late = resumable_batches(numbered(), 4, num_workers=workers)
    batches = iter(late)
    late.load_state_dict(state)
    found = [labels.tolist() for _, labels in batches]
    assert found[:2] == expected[3:]
    assert len(found) == 5
    assert late.state_dict() == state | {"epoch": 1}


@pytest.mark.parametrize("change", [{"batch_size": 3}, {"seed": 1}, {"dataset": numbered(30)}])
def test_another_order_is_refused_in_the_middle_of_an_epoch(change):
    def loader(**changed: Any) -> ResumableLoader:
        return resumable_batches(**({"dataset": numbered(), "batch_size": 4} | changed))

    first = loader()
    next(iter(first))
    with pytest.raises(ValueError, match=r"resumes only with the same.*expected.*got.*batch_size"):
        loader(**change).load_state_dict(first.state_dict())
    loader(**change).load_state_dict(loader().state_dict())


@pytest.mark.parametrize("views", [None, noisy])
def test_loading_leaves_the_global_generators_alone(views):
    before = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()
    assert len(list(resumable_batches(numbered(), 4, views=views))) == 5
    assert random.getstate() == before[0]
    assert (np.random.get_state()[1] == before[1]).all()
    assert torch.equal(torch.get_rng_state(), before[2])


def test_draws_depend_on_seed_epoch_and_index_alone():
    def view(seed: int, *batch: Draw) -> list[float]:
        images, _ = Drawn(numbered(), noisy, seed).__getitems__(list(batch))
        return images[1].flatten()[::3].tolist()

    assert view(0, Draw(3, 1), Draw(4, 1))[1] == view(0, Draw(4, 1))[0]
    different = view(0, Draw(3, 1), Draw(1, 3), Draw(3, 2)) + view(1, Draw(3, 1))
    assert len(set(different)) == 4


@pytest.mark.parametrize("batch_size", [0, 23])
def test_a_batch_must_fit_the_data(batch_size):
    with pytest.raises(ValueError, match=f"between 1 and .*, 22; got {batch_size}. Lower"):
        resumable_batches(numbered(), batch_size)


def test_a_batch_must_fit_the_data_of_each_process(monkeypatch):
    monkeypatch.setattr(loading, "processes", lambda: (3, 0))
    assert len(resumable_batches(numbered(), 7)) == 1
    with pytest.raises(ValueError, match=r"22 / 3 processes = 7; got 8. Lower"):
        resumable_batches(numbered(), 8)


@pytest.mark.filterwarnings("ignore:You requested to overfit but enabled train")
def test_overfitting_a_few_batches_works():
    module = fit(Numbered(4), max_epochs=2, overfit_batches=2)
    assert module.seen == [[0, 1, 2, 3], [4, 5, 6, 7]] * 2
