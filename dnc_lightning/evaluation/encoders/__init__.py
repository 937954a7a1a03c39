"""Encoders from elsewhere, each run as its authors do: one file a source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dnc_lightning.evaluation.checkpoints import SUFFIXES
from dnc_lightning.evaluation.encoders import files, hub, package, timm, torchvision, transformers
from dnc_lightning.evaluation.loaded import LoadedEncoder

SOURCES = {
    "timm": timm.load,
    "torchvision": torchvision.load,
    "hf": transformers.load,
    "hub": hub.load,
    "package": package.load,
}
"""What stands before the ":" of a spec -> what loads the rest."""

FORMS = (
    '"timm:NAME", "torchvision:NAME", "hf:NAME" or "hf:FOLDER" (transformers), "hub:REPO:NAME" '
    '(torch.hub, with unsafe), "package:efficientnet_lite0", a checkpoint '
    f'({", ".join(SUFFIXES)}) with model=, or "path.to:object"'
)


def load_encoder(
    spec: str,
    *,
    model: Any = None,
    pretrained: bool = True,
    unsafe: bool = False,
    name: str | None = None,
) -> LoadedEncoder:
    """Load an encoder with its own preprocessing, layer and token rule, which it states.

    Args:
        spec: "timm:vit_small_patch16_224", "torchvision:resnet50", "hf:facebook/dinov2-base" or a
            local folder, "hub:REPO:NAME", "package:efficientnet_lite0", "path.to:object", or the
            path of a checkpoint or state dict.
        model: Of a checkpoint: a class of LightningModule, or what makes a module.
        pretrained: False for random weights, as a baseline.
        unsafe: Run code that a checkpoint or a hub's repository brings.
        name: Of the encoder; default the spec.

    Returns:
        What `evaluate` takes.

    Raises:
        ValueError: a spec of another form, an unknown name (near ones are listed), weights that do
            not fit or cannot be downloaded, or what would run code without `unsafe`.
        ModuleNotFoundError: a package that the source needs; names the extra.
    """
    source, _, rest = spec.partition(":")
    if Path(spec).suffix in SUFFIXES:
        return files.load_checkpoint(Path(spec), name or spec, model, unsafe=unsafe)
    if source in SOURCES and rest:
        return SOURCES[source](rest, name or spec, pretrained=pretrained, unsafe=unsafe)
    if rest and all(part.isidentifier() for part in source.split(".")):
        return files.load_object(spec, name or spec)
    raise ValueError(f"an encoder is {FORMS}; got {spec!r}.")
