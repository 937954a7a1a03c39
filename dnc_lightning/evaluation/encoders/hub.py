"""Models of torch.hub: code of a repository, so only where that is allowed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from dnc_lightning.evaluation.loaded import OWN_FORWARD, LoadedEncoder
from dnc_lightning.evaluation.network import weights_cache


def load(rest: str, name: str, *, pretrained: bool, unsafe: bool) -> LoadedEncoder:
    """Load "REPO:NAME", a repository on GitHub or a local folder; see `load_encoder`."""
    repo, _, entry = rest.rpartition(":")
    if not repo:
        raise ValueError(f'a model of torch.hub is "hub:REPO:NAME", got "hub:{rest}".')
    if not unsafe:
        raise ValueError(
            f"hub:{rest} runs code of {repo}. If you trust it, pass unsafe=True (`--unsafe`)."
        )
    source = "local" if Path(repo).is_dir() else "github"
    with weights_cache(f"torch.hub's {rest}", "github.com"):
        hub: Any = torch.hub
        model = hub.load(repo, entry, source=source, trust_repo=True, pretrained=pretrained)
    return LoadedEncoder(
        name,
        model.eval(),
        None,
        OWN_FORWARD,
        "auto",
        f"torch.hub {repo}, {entry}{'' if pretrained else ', random weights'}: what the model "
        "returns; images as the probe set gives them, since hubs name no preprocessing.",
    )
