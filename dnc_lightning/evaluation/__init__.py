"""Frozen encoders and folders of checkpoints: the numbers of a training run without one."""

from dnc_lightning.evaluation.encoders import load_encoder
from dnc_lightning.evaluation.evaluate import Evaluation, evaluate
from dnc_lightning.evaluation.loaded import LoadedEncoder
from dnc_lightning.evaluation.replay import replay

__all__ = ["Evaluation", "LoadedEncoder", "evaluate", "load_encoder", "replay"]
