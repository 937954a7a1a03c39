"""Checkpoints of a run, in the order of their steps, read without running code of theirs."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

SUFFIXES = (".ckpt", ".pt", ".pth")
_STEP = re.compile(r"(?:step|iter|iteration)[-_=]?(\d+)", re.IGNORECASE)
_INSTANTIATORS = (
    "lightning.pytorch.cli.instantiate_module",
    "pytorch_lightning.cli.instantiate_module",
)
_COMPILED = "_orig_mod."  # in the names of what torch.compile has wrapped


@dataclass(frozen=True)
class CheckpointFile:
    """One checkpoint, and when it was made."""

    path: Path
    step: int
    epoch: int


def find_checkpoints(
    given: str | Path | Sequence[str | Path], *, weights_only: bool = True
) -> tuple[list[CheckpointFile], list[str]]:
    """Find the checkpoints at or below some paths; of one step the first by name.

    A checkpoint of Lightning says its step. The step of a bare state dict is read from its name:
    "step-000012.pt", "iter_12.pth".

    Args:
        given: Files, and folders with any below them.
        weights_only: As `torch.load`: False runs whatever code a file brings.

    Returns:
        Checkpoints by rising step, and words on files that cannot be read.

    Raises:
        FileNotFoundError: none is there.
        ValueError: a step that cannot be read; names the file.
    """
    paths = [Path(given)] if isinstance(given, str | Path) else [Path(path) for path in given]
    files = [file for path in paths for file in _files(path)]
    if not files:
        raise FileNotFoundError(
            f"expected checkpoints ({', '.join(SUFFIXES)}) in {', '.join(map(str, paths))}, but "
            "found none."
        )
    found: dict[int, CheckpointFile] = {}
    problems = []
    # By name, so that a "last.ckpt" gives way to the one that is called by its step.
    for file in sorted(files, key=lambda file: (file.stem.startswith("last"), file)):
        try:
            content = read_checkpoint(file, weights_only=weights_only)
        except ValueError as error:
            problems.append(str(error))
            continue
        one = CheckpointFile(file, _step(file, content), int(content.get("epoch", 0)))
        found.setdefault(one.step, one)
    if not found:
        raise ValueError(f"no checkpoint can be read. {' '.join(problems)}")
    return [found[step] for step in sorted(found)], problems


def read_checkpoint(path: Path, *, weights_only: bool) -> Mapping[str, Any]:
    """Read a file onto the CPU; tensors stay on the disk until they are used.

    Raises:
        ValueError: it is damaged, holds no mapping, or more than `weights_only` allows.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=weights_only, mmap=True)
    except pickle.UnpicklingError as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"{path} holds more than weights, and reading it would run code that it brings "
            f"({reason}). If you trust it, pass weights_only=False (`--unsafe`)."
        ) from error
    except Exception as error:
        raise ValueError(f"{path} cannot be read: {str(error).partition('.')[0]}.") from error
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} must hold a mapping, got {type(content).__name__}.")
    return content


def state_of(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights of a checkpoint, or of a bare state dict, under the names before compilation."""
    state = content.get("state_dict", content)
    return {name.replace(_COMPILED, ""): value for name, value in state.items()}


def load_state(module: nn.Module, content: Mapping[str, Any], path: Path) -> None:
    """Give a module the weights of a checkpoint.

    Raises:
        ValueError: keys that are missing or of no use, or shapes that differ; names them.
    """
    try:
        missing, unexpected = module.load_state_dict(state_of(content), strict=False)
    except RuntimeError as error:
        words = " ".join(str(error).split())
        raise ValueError(f"the weights of {path} do not fit: {words}") from None
    keys = {"missing": missing, "not of this model": unexpected}
    if wrong := [f"{_some(names)} {what}" for what, names in keys.items() if names]:
        raise ValueError(
            f"the weights of {path} do not fit {type(module).__name__}: {'; '.join(wrong)}."
        )


def _some(names: Sequence[str]) -> str:
    more = ", ..." if len(names) > 3 else ""
    return f"{len(names)} keys ({', '.join(sorted(names)[:3])}{more}) are"


def build_module(model: Any, path: Path, *, weights_only: bool) -> nn.Module:
    """Make the module whose weights a checkpoint holds.

    Args:
        model: A module, which is taken as it is; a class of LightningModule, made with the
            checkpoint's hyperparameters if it has any; or a callable that makes a module.
        path: A checkpoint.
        weights_only: As `torch.load`.

    Raises:
        ValueError: something else, or hyperparameters that name code of their own.
    """
    if isinstance(model, nn.Module):
        return model
    if isinstance(model, type) and issubclass(model, LightningModule):
        content = read_checkpoint(path, weights_only=weights_only)
        hyper = content.get(model.CHECKPOINT_HYPER_PARAMS_KEY) or {}
        maker = hyper.get("_instantiator")
        if maker not in (None, *_INSTANTIATORS) and weights_only:
            raise ValueError(
                f"{path} wants to be made by {maker!r}, which could be any code. If you trust it, "
                "pass weights_only=False (`--unsafe`)."
            )
        if hyper:
            return model.load_from_checkpoint(path, map_location="cpu", weights_only=weights_only)
        return model()
    if callable(model):
        made = model()
        if isinstance(made, nn.Module):
            return made
        raise ValueError(f"the model's factory must return a module, got {type(made).__name__}.")
    raise ValueError(
        f"model must be a module, a class of LightningModule or a callable, got {model!r}."
    )


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    elif path.is_dir():
        yield from (file for file in path.rglob("*") if file.suffix in SUFFIXES)
    else:
        raise FileNotFoundError(f"expected checkpoints at {path}, but there is nothing.")


def _step(path: Path, content: Mapping[str, Any]) -> int:
    step = content.get("global_step") if "state_dict" in content else None
    if isinstance(step, int):
        return step
    told = _STEP.findall(path.stem)
    if len(told) != 1:
        raise ValueError(
            f"the step of {path} cannot be read: it is no checkpoint of Lightning, and its name "
            'does not say it once, as "step-000012" would. Rename it, or leave it out.'
        )
    return int(told[0])
