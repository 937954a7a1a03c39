"""A small causal language model on the source code of Python itself, byte by byte.

The class of a context is the byte that comes next (Wu and Papyan, arXiv:2405.17767): there are more
classes than dimensions, none is ever decided, and the text lies on every machine that has Python.

Command:
    `python -m recipes.language fit --config recipes/configs/language_python.yaml`
"""

from __future__ import annotations

import sysconfig
from pathlib import Path

import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from dnc_lightning.probe import TokenProbe
from recipes.base import Recipe
from recipes.data.labelled import LabelledImages
from recipes.data.module import ProbedImages
from recipes.optim import Optimization

BYTES = 256


class Text(LabelledImages):
    """Windows of a text, one behind the other, ``[T]`` int64; labels say nothing.

    Args:
        tokens: ``[N]``.
        length: T.
    """

    def __init__(self, tokens: Tensor, length: int) -> None:
        self.windows = tokens[: len(tokens) // length * length].view(-1, length)
        super().__init__(torch.zeros(len(self.windows), dtype=torch.long), ["text"])

    def image(self, index: int) -> Tensor:
        """Return one window, ``[T]`` int64."""
        return self.windows[index].long()

    def picture(self, index: int) -> None:
        """A text is no picture."""
        raise ValueError("windows of a text are no pictures: set model.augment to 'device'.")


class PythonSource(ProbedImages):
    """Files of the standard library of this Python, every tenth of them held out for the probe.

    Args:
        length: Bytes of a window.
        megabytes: Of text to train on, at most.
        context: Bytes that a probed context has.
        probe_per_class: Contexts of each next byte.
        batch_size: Windows per batch and process.
        seed: Of the order and of the probe's choice.
    """

    def __init__(
        self,
        length: int = 128,
        megabytes: float = 4.0,
        context: int = 64,
        probe_per_class: int = 50,
        batch_size: int = 32,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, probe_per_class, seed=seed)
        self.length = length
        self.megabytes = megabytes
        self.context = context

    def train_images(self) -> Text:
        """Windows of the text to train on."""
        files = [path for place, path in enumerate(source_files()) if place % 10]
        return Text(read_bytes(files)[: int(self.megabytes * 1e6)], self.length)

    def probe_images(self) -> Text:
        """Windows of the held-out text."""
        return Text(read_bytes(source_files()[::10]), self.length)

    @property
    def probe_set(self) -> TokenProbe:
        """Held-out contexts by the byte that comes next."""
        tokens = read_bytes(source_files()[::10])
        return TokenProbe(
            tokens, self.probe_per_class, self.context, names=lambda byte: repr(chr(byte))[1:-1]
        )


class Language(Recipe):
    """GPT-2 of transformers, trained from scratch.

    Args:
        width: D, of the features.
        layers: Blocks.
        heads: Of attention.
        length: Bytes that it can take.
        optimization: Optimizer and schedule.
    """

    def __init__(
        self,
        width: int = 48,
        layers: int = 2,
        heads: int = 4,
        length: int = 128,
        optimization: Optimization = Optimization(),  # noqa: B008  frozen
    ) -> None:
        super().__init__([], optimization, "device")
        self.save_hyperparameters()
        config = GPT2Config(
            vocab_size=BYTES, n_positions=length, n_embd=width, n_layer=layers, n_head=heads,
            bos_token_id=0, eos_token_id=0,
        )  # fmt: skip
        self.model = GPT2LMHeadModel(config)

    def training_step(self, batch: tuple, batch_index: int) -> Tensor:
        """Return the cross-entropy of the next bytes."""
        ids = batch[0]
        loss = self.model(input_ids=ids, labels=ids).loss
        self.log("train/loss", loss, prog_bar=True, sync_dist=True)
        return loss


def source_files() -> list[Path]:
    """Modules of the standard library, in the order of their names."""
    return sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))


def read_bytes(files: list[Path]) -> Tensor:
    """Their bytes, ``[N]`` uint8 in an integer type that counts."""
    raw = b"\n".join(path.read_bytes() for path in files)
    return torch.frombuffer(bytearray(raw), dtype=torch.uint8).to(torch.int16)


if __name__ == "__main__":
    from recipes.cli import main

    main(Language)
