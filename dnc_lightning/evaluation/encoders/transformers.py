"""Vision towers of Hugging Face transformers, each by the output that its authors use.

ViTMAE masks three quarters of the patches at random also in evaluation mode, unless told otherwise;
I-JEPA has no class token: its first token is the patch at the top left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dnc_lightning.evaluation.encoders._images import OfRGB
from dnc_lightning.evaluation.loaded import OWN_FORWARD, LoadedEncoder
from dnc_lightning.evaluation.network import hugging_face
from dnc_lightning.evaluation.optional import require

Output = Literal["pooled", "class token", "mean"]


@dataclass(frozen=True)
class Rule:
    """How images become features in one family of models."""

    output: Output
    tower: str | None = None  # class of the vision tower; None: what AutoModel makes


RULES = {
    "clip": Rule("pooled", "CLIPVisionModel"),
    "clip_vision_model": Rule("pooled", "CLIPVisionModel"),
    "siglip": Rule("pooled", "SiglipVisionModel"),
    "siglip_vision_model": Rule("pooled", "SiglipVisionModel"),
    "siglip2": Rule("pooled", "Siglip2VisionModel"),
    "vit_mae": Rule("class token", "ViTMAEModel"),
    "ijepa": Rule("mean", "IJepaModel"),
    "dinov2": Rule("class token"),
    "dinov2_with_registers": Rule("class token"),
    "dinov3_vit": Rule("class token"),
    "vit": Rule("class token"),
    "deit": Rule("class token"),
    "vit_msn": Rule("class token"),
    "beit": Rule("pooled"),
    "data2vec-vision": Rule("pooled"),
    "swin": Rule("pooled"),
    "swinv2": Rule("pooled"),
    "convnext": Rule("pooled"),
    "convnextv2": Rule("pooled"),
    "dinov3_convnext": Rule("pooled"),
    "resnet": Rule("pooled"),
    "regnet": Rule("pooled"),
}
"""`model_type` of a configuration -> the rule."""

WORDS = {
    "pooled": "pooler_output",
    "class token": "the class token of last_hidden_state, after the last norm",
    "mean": "the mean of all tokens of last_hidden_state, which are patches",
}


class Features(nn.Module):
    """Runs a vision tower and takes one output, [N, D]."""

    def __init__(self, model: nn.Module, output: Output) -> None:
        super().__init__()
        self.model = model
        self.output = output

    def forward(self, images: Tensor) -> Tensor:
        """Embed images [N, 3, H, W]."""
        found = self.model(pixel_values=images, **self._still(images))
        if self.output == "pooled":
            pooled: Tensor = found.pooler_output
            return pooled.flatten(1)
        tokens: Tensor = found.last_hidden_state
        return tokens[:, 0] if self.output == "class token" else tokens.mean(1)

    def _still(self, images: Tensor) -> dict[str, Any]:
        """Arguments that take the chance out of ViTMAE: its patches in their own order."""
        config: Any = self.model.config
        if config.model_type != "vit_mae":
            return {}
        patches = (images.shape[2] // config.patch_size) * (images.shape[3] // config.patch_size)
        order = torch.arange(patches, device=images.device, dtype=images.dtype)
        return {"noise": order.expand(len(images), -1)}


def load(rest: str, name: str, *, pretrained: bool, unsafe: bool) -> LoadedEncoder:
    """Load a name of the hub or a local folder; see `load_encoder`."""
    require("transformers")
    import transformers

    with hugging_face(f"Hugging Face's {rest}"):
        config = transformers.AutoConfig.from_pretrained(rest)
        kind = config.model_type
        if kind not in RULES:
            raise ValueError(
                f"{rest} is of the family {kind!r}, whose features no rule names; there are "
                f"{', '.join(RULES)}. Pass a callable that returns its features."
            )
        rule, changes = RULES[kind], {"mask_ratio": 0.0} if kind == "vit_mae" else {}
        made = getattr(transformers, rule.tower or "AutoModel")
        if pretrained:
            model = made.from_pretrained(rest, **changes)
        else:
            tower = getattr(config, "vision_config", config)
            tower.update(changes)
            model = made(tower) if rule.tower else made.from_config(tower)
        processor = transformers.AutoImageProcessor.from_pretrained(rest)

    def transform(image: Any) -> Tensor:
        pixels: Tensor = processor(image, return_tensors="pt")["pixel_values"][0]
        return pixels

    masked = ", mask_ratio 0" if changes else ""
    return LoadedEncoder(
        name,
        Features(model.eval(), rule.output),
        OfRGB(transform),
        OWN_FORWARD,
        "auto",
        f"transformers {transformers.__version__}, {type(model).__name__} of {rest}{masked}"
        f"{'' if pretrained else ', random weights'}: {WORDS[rule.output]}; images by "
        f"{type(processor).__name__}.",
    )
