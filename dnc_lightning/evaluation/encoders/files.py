"""Encoders of one's own: checkpoints, state dicts, and objects by their dotted path."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule
from torch import nn

from dnc_lightning.evaluation.checkpoints import build_module, load_state, read_checkpoint
from dnc_lightning.evaluation.loaded import LoadedEncoder, as_loaded


def load_checkpoint(path: Path, name: str, model: Any, *, unsafe: bool) -> LoadedEncoder:
    """Load the weights of a file into a module; see `load_encoder`."""
    if model is None:
        raise ValueError(
            f"{path} holds weights alone: name what they belong to, a class of LightningModule or "
            "what makes a module, by model= (`--model path.to:object`)."
        )
    model = imported(model) if isinstance(model, str) else model
    module = build_module(model, path, weights_only=not unsafe)
    content: Mapping[str, Any] = read_checkpoint(path, weights_only=not unsafe)
    load_state(module, content, path)
    step = content.get("global_step")
    when = f", step {step}" if isinstance(step, int) else ""
    loaded = as_loaded(module.eval(), name)
    return replace(loaded, statement=f"{type(module).__name__} with the weights of {path}{when}.")


def load_object(spec: str, name: str) -> LoadedEncoder:
    """Import a module, a callable of images, a LoadedEncoder, or a class that makes one."""
    found = imported(spec)
    if isinstance(found, type):
        try:
            found = found()
        except TypeError as error:
            raise ValueError(f"{spec} cannot be made without arguments: {error}.") from error
    if isinstance(found, LoadedEncoder):
        return found
    loaded = as_loaded(found, name)
    kind = "module" if isinstance(found, nn.Module) else "function"
    which = "LightningModule" if isinstance(found, LightningModule) else kind
    return replace(loaded, statement=f"the {which} {spec}, with the weights that it comes with.")


def imported(spec: str) -> Any:
    """The object at "path.to:object".

    Raises:
        ValueError: there is no such module or object.
    """
    module, _, name = spec.partition(":")
    try:
        found: Any = import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f'"path.to:object" must name an object of a module that can be imported, got {spec!r} '
            f"({error})."
        ) from error
    return found
