"""Pictures to every logger that takes them, and to a file in the run's folder."""

from __future__ import annotations

from lightning import Trainer
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from torch import Tensor
from torchvision.utils import save_image

from dnc_lightning.callbacks.loggers import run_folder


def log_picture(trainer: Trainer, key: str, picture: Tensor) -> None:
    """Log one picture on rank zero.

    Args:
        trainer: Whose loggers, folder and step to use.
        key: Name of the picture.
        picture: [3, H, W], float in 0..1.
    """
    if not trainer.is_global_zero or trainer.fast_dev_run:
        return
    step = trainer.global_step
    path = run_folder(trainer) / "pictures" / f"{key.replace('/', '-')}-{step:06d}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    save_image(picture.float(), path)
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(key, picture.float(), step)
        elif isinstance(logger, WandbLogger):
            logger.log_image(key, [str(path)], step=step)
