"""timm's models: features before the classifier, by the model's own data configuration."""

from __future__ import annotations

from typing import Any

from dnc_lightning.evaluation.encoders._images import OfRGB, near
from dnc_lightning.evaluation.loaded import OWN_FORWARD, LoadedEncoder
from dnc_lightning.evaluation.network import hugging_face
from dnc_lightning.evaluation.optional import require


def load(rest: str, name: str, *, pretrained: bool, unsafe: bool) -> LoadedEncoder:
    """Load "NAME", or "local-dir:FOLDER" with what timm has saved there; see `load_encoder`."""
    require("timm")
    import timm

    if ":" not in rest and not timm.is_model(rest):
        raise ValueError(
            f"timm {timm.__version__} has no model {rest!r}. {near(rest, timm.list_models())}"
        )
    with hugging_face(f"timm's {rest}"):
        model = timm.create_model(rest, pretrained=pretrained, num_classes=0)
    return described(model, name, f"timm {timm.__version__}, {rest}", pretrained=pretrained)


def described(model: Any, name: str, what: str, *, pretrained: bool) -> LoadedEncoder:
    """A model of timm without classifier, with its own preprocessing."""
    import timm

    config = timm.data.resolve_model_data_config(model)
    transform = timm.data.create_transform(**config, is_training=False)
    size = " x ".join(map(str, config["input_size"][1:]))
    pool = getattr(model, "global_pool", None)
    pool = pool if isinstance(pool, str) else getattr(getattr(model, "head", None), "pool", "")
    tag = model.pretrained_cfg.get("tag") if pretrained else None
    weights = f"weights {tag or 'as given'}" if pretrained else "random weights"
    return LoadedEncoder(
        name,
        model.eval(),
        OfRGB(transform),
        OWN_FORWARD,
        "auto",
        f"{what}, {weights}: what the model returns without classifier"
        + (f" (its own pooling, {pool!r})" if isinstance(pool, str) and pool else "")
        + f"; images by its data configuration, {size} pixels, {config['interpolation']}, "
        f"crop {config['crop_pct']}.",
    )
