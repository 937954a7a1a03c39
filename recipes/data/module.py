"""What every data module of the recipes has in common."""

from __future__ import annotations

from abc import abstractmethod

from lightning import LightningDataModule

from dnc_lightning import ProbeSet
from recipes.data.labelled import LabelledImages
from recipes.data.loading import LoaderState, ResumableLoader, resumable_batches


class ProbedImages(LightningDataModule):
    """Shuffled training batches and a held-out labelled probe set.

    Random views are made where the model says. Without an attribute `worker_views`, batches are
    ``(images [B, 3, H, W] uint8, targets)`` and the model augments them on its device. If
    `worker_views` is a callable, PIL image -> list of float tensors ``[3, s, s]``, it runs in the
    loader's workers and batches are ``([view_1 [B, 3, s, s], view_2 ...], targets)``. Targets are
    ``[B]`` int64, or a mapping task -> ``[B]``.

    Order and views depend on `seed`, epoch and image alone: neither on the number of workers nor
    on where a run was stopped and resumed.

    Args:
        batch_size: Images per batch and process.
        probe_per_class: Probe images per class.
        num_workers: Processes per training process that load images; 0 loads in between steps.
        seed: Of the order and of the views that workers make.
    """

    def __init__(
        self,
        batch_size: int,
        probe_per_class: int = 100,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.probe_per_class = probe_per_class
        self.num_workers = num_workers
        self.seed = seed
        self.loader_: ResumableLoader | None = None
        self.place_: LoaderState | None = None

    @abstractmethod
    def train_images(self) -> LabelledImages:
        """Open the training images."""

    @abstractmethod
    def probe_images(self) -> LabelledImages:
        """Open the held-out images that the probe chooses from."""

    @property
    def probe_set(self) -> ProbeSet:
        """The held-out labelled images; needs no `setup`, so that a command line can link it."""
        return ProbeSet(self.probe_images(), per_class=self.probe_per_class, seed=0)

    def setup(self, stage: str) -> None:
        """Open the training images."""
        self.train_set_ = self.train_images()
        self.loader_ = self.place_ = None

    def train_dataloader(self) -> ResumableLoader:
        """Return shuffled whole batches, which checkpoints know how to resume.

        Raises:
            ValueError: If there are fewer images than one batch of every process takes.
        """
        trainer = self.trainer
        views, on_gpu, in_flight = None, False, None
        if trainer is not None:
            views = getattr(trainer.lightning_module, "worker_views", None)
            on_gpu = trainer.strategy.root_device.type == "cuda"
            in_flight = self._in_flight
        self.loader_ = resumable_batches(
            self.train_set_,
            self.batch_size,
            views=views,
            num_workers=self.num_workers,
            seed=self.seed,
            pin_memory=on_gpu,
            in_flight=in_flight,
        )
        if self.place_ is not None:
            self.loader_.load_state_dict(self.place_)
            self.place_ = None
        return self.loader_

    # Lightning restores the loader itself as well, but not at the end of an epoch, nor if a model
    # asks for `trainer.estimated_stepping_batches`, which makes the loader before that.
    def state_dict(self) -> dict:
        """Return the place in the data, for the checkpoint."""
        return {} if self.loader_ is None else {"loader": self.loader_.state_dict()}

    def load_state_dict(self, state_dict: dict) -> None:
        """Go on at the place in the data where the checkpoint was written."""
        if self.loader_ is None:
            self.place_ = state_dict["loader"]
        else:
            self.loader_.load_state_dict(state_dict["loader"])

    def _in_flight(self) -> int:
        # A signal, such as Slurm's before it requeues a job, saves in the middle of a step;
        # Lightning then repeats that step.
        batches = self.trainer.fit_loop.epoch_loop.batch_progress.current
        return batches.ready - batches.processed
