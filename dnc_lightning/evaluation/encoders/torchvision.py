"""torchvision's models: what their last linear layer is given, by the weights' own transforms."""

from __future__ import annotations

from torch import nn

from dnc_lightning.evaluation.encoders._images import OfRGB, near
from dnc_lightning.evaluation.loaded import OWN_FORWARD, LoadedEncoder
from dnc_lightning.evaluation.network import weights_cache
from dnc_lightning.evaluation.optional import require


def load(rest: str, name: str, *, pretrained: bool, unsafe: bool) -> LoadedEncoder:
    """Load "NAME" with its default weights; see `load_encoder`."""
    require("torchvision")
    import torchvision
    from torchvision import models

    known = models.list_models(module=models)
    if rest not in known:
        raise ValueError(
            f"torchvision {torchvision.__version__} has no classifier {rest!r}. {near(rest, known)}"
        )
    weights = models.get_model_weights(rest).DEFAULT
    with weights_cache(f"torchvision's {rest}", "download.pytorch.org"):
        model = models.get_model(rest, weights=weights if pretrained else None)
    layer = without_classifier(model)
    which = str(weights) if pretrained else "random weights"
    return LoadedEncoder(
        name,
        model.eval(),
        OfRGB(weights.transforms()),
        OWN_FORWARD,
        "auto",
        f"torchvision {torchvision.__version__}, {rest}, {which}: what its last linear layer "
        f"({layer}) is given; images by the transforms of {weights}.",
    )


def without_classifier(model: nn.Module) -> str:
    """Let the last linear layer pass on what it is given; returns its path."""
    paths: list[str] = [p for p, layer in model.named_modules() if isinstance(layer, nn.Linear)]
    model.set_submodule(paths[-1], nn.Identity())
    return paths[-1]
