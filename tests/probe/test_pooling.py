"""Which axis holds features, and which tokens are patches, of encoders as people have them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
import pytest
import timm
import torch
import torchvision
from lightly.models.modules import MaskedVisionTransformerTIMM
from timm.models.cait import Cait
from timm.models.vision_transformer import VisionTransformer
from timm.models.xcit import Xcit
from torch import Tensor, nn

from dnc_lightning.probe.embed import Embedder
from dnc_lightning.probe.encoders import find_encoders, run_encoders
from dnc_lightning.probe.pooling import Layout, pool
from dnc_lightning.probe.trial import try_encoders

IMAGES = torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
SMALL = {
    "img_size": 32,
    "patch_size": 8,
    "embed_dim": 24,
    "depth": 2,
    "num_heads": 2,
    "num_classes": 0,
}


class Holder(pl.LightningModule):
    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone.eval()


def embed(backbone: nn.Module, encoder: Any, pooling: Any = "auto") -> tuple[Tensor, str]:
    """Features [N, D] by a layout that was fixed on the trial, and its words."""
    module = Holder(backbone)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    trace = Embedder(module, (), torch.device("cpu")).trace
    trial = try_encoders(module, find_encoders(module, encoder), IMAGES, pooling, trace)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in module.modules())
    with torch.no_grad():
        (features,) = run_encoders(module, trial.encoders, IMAGES).values()
    return features, str(trial.encoders[0].layout)


def output_of(backbone: nn.Module, layer: str) -> Tensor:
    """What a layer returns, by a hook of our own."""
    kept = []
    hook = backbone.get_submodule(layer).register_forward_hook(lambda *call: kept.append(call[2]))
    with torch.no_grad():
        backbone.eval()(IMAGES)
    hook.remove()
    return kept[-1]


def timm_swin() -> nn.Module:
    return timm.create_model(
        "swin_tiny_patch4_window7_224",
        img_size=32,
        window_size=4,
        embed_dim=24,
        depths=(1, 1),
        num_heads=(2, 2),
        num_classes=0,
    )


def torchvision_swin() -> nn.Module:
    return torchvision.models.SwinTransformer([4, 4], 24, [1, 1], [2, 2], [4, 4])


@pytest.mark.parametrize(
    ("build", "layer"),
    [
        (timm_swin, "norm"),
        (timm_swin, "layers.0"),
        (timm_swin, "layers.1"),
        (timm_swin, "patch_embed"),
        (torchvision_swin, "features"),
        (torchvision_swin, "features.1"),
        (torchvision_swin, "norm"),
    ],
)
def test_maps_with_features_last(build: Callable[[], nn.Module], layer: str) -> None:
    backbone = build()
    features, layout = embed(backbone, f"backbone:{layer}")
    maps = output_of(backbone, layer)
    assert maps.shape[1] == maps.shape[2] != maps.shape[3]
    assert torch.equal(features, maps.mean((1, 2)))
    assert layout == "maps [N, H, W, D], mean"


def test_a_callable_that_returns_maps_with_features_last() -> None:
    backbone = timm_swin()
    features, _ = embed(backbone, lambda module, x: module.backbone.forward_features(x))
    with torch.no_grad():
        assert torch.equal(features, backbone.forward_features(IMAGES).mean((1, 2)))
        torch.testing.assert_close(features, backbone(IMAGES))  # timm's own pooling


def resnet_until_pooling() -> nn.Module:
    return nn.Sequential(*list(torchvision.models.resnet18().children())[:-1])


@pytest.mark.parametrize(
    ("build", "layer"),
    [
        (torchvision.models.resnet18, "layer1"),
        (torchvision.models.resnet18, "layer4"),  # one position
        (resnet_until_pooling, "8"),
        (torchvision_swin, "permute"),
        (torchvision.models.convnext_tiny, "features.1"),
        (torchvision.models.convnext_tiny, "features"),
    ],
)
def test_maps_with_features_second(build: Callable[[], nn.Module], layer: str) -> None:
    backbone = build()
    features, layout = embed(backbone, f"backbone:{layer}")
    assert torch.equal(features, output_of(backbone, layer).mean((2, 3)))
    assert layout == "maps [N, D, H, W], mean"


class Square(nn.Module):
    """Maps of 8 features at 8 x 8 places: the shape tells nothing."""

    def __init__(self, change: Callable[[Tensor], Tensor], any_size: bool) -> None:
        super().__init__()
        self.conv, self.change, self.any_size = nn.Conv2d(3, 8, 4, 4), change, any_size

    def forward(self, x: Tensor) -> Tensor:
        assert self.any_size or x.shape[-1] == 32
        return self.change(self.conv(x))


def test_a_shape_that_tells_nothing() -> None:
    last, second = Square(lambda y: y.permute(0, 2, 3, 1), True), Square(torch.relu, True)
    with torch.no_grad():
        assert torch.equal(embed(last, "backbone")[0], last(IMAGES).mean((1, 2)))
        assert torch.equal(embed(second, "backbone")[0], second(IMAGES).mean((2, 3)))
        plain = Square(lambda y: y, False)  # the very tensor that the convolution made
        assert torch.equal(embed(plain, "backbone")[0], plain(IMAGES).mean((2, 3)))
        refused = Square(lambda y: y.permute(0, 2, 3, 1), False)
        with pytest.raises(ValueError, match=r"returns \[N, 8, 8, 8\].*mean\(\(1, 2\)\)") as error:
            embed(refused, "backbone")
        remedy = "lambda module, images: module.backbone(images).mean((1, 2))"
        assert f"Pass encoder={remedy} for" in str(error.value)
        assert torch.equal(embed(refused, eval(remedy))[0], refused(IMAGES).mean((1, 2)))
        refused.output_fmt = "NHWC"  # as timm's models say it of themselves
        assert torch.equal(embed(refused, "backbone")[0], refused(IMAGES).mean((1, 2)))


@pytest.mark.parametrize(
    ("build", "layer", "prefix", "has_class"),
    [
        (lambda: VisionTransformer(**SMALL), "blocks.0", 1, True),
        (lambda: VisionTransformer(**SMALL), "norm", 1, True),
        (lambda: VisionTransformer(**SMALL), "patch_embed", 0, False),
        (lambda: VisionTransformer(**SMALL, reg_tokens=4), "blocks.1", 5, True),
        (
            lambda: VisionTransformer(**SMALL, reg_tokens=4, no_embed_class=True),
            "blocks.0",
            5,
            True,
        ),
        (
            lambda: VisionTransformer(**SMALL, class_token=False, global_pool="avg"),
            "norm",
            0,
            False,
        ),
        (
            lambda: VisionTransformer(**SMALL, class_token=False, reg_tokens=3, global_pool="avg"),
            "blocks.1",
            3,
            False,
        ),
        (lambda: Xcit(**SMALL, cls_attn_layers=1), "blocks.0", 0, False),
        (lambda: Xcit(**SMALL, cls_attn_layers=1), "blocks.1", 0, False),
        (lambda: Xcit(**SMALL, cls_attn_layers=1), "cls_attn_blocks.0", 1, True),
        (lambda: Cait(**SMALL), "blocks.1", 0, False),
        (lambda: torchvision.models.VisionTransformer(32, 8, 2, 2, 24, 48), "encoder", 1, True),
        (
            lambda: MaskedVisionTransformerTIMM(VisionTransformer(**SMALL, reg_tokens=2)),
            "vit.blocks.0",
            3,
            True,
        ),
    ],
)
def test_tokens(build: Callable[[], nn.Module], layer: str, prefix: int, has_class: bool) -> None:
    backbone = build()
    tokens = output_of(backbone, layer)
    assert tokens.shape == (len(IMAGES), 16 + prefix, 24)
    path, patches = f"backbone:{layer}", tokens[:, prefix:].mean(1)
    assert torch.equal(embed(backbone, path, "mean")[0], patches)
    assert torch.equal(embed(backbone, path)[0], tokens[:, 0] if has_class else patches)
    if has_class:
        assert torch.equal(embed(backbone, path, "cls")[0], tokens[:, 0])
    else:
        with pytest.raises(ValueError, match=r'no class token is among them. Use pooling="mean"'):
            embed(backbone, path, "cls")


def test_tokens_whose_class_token_was_cut_off_or_that_stand_across() -> None:
    backbone = VisionTransformer(**SMALL).eval()
    with torch.no_grad():
        tokens = backbone.forward_features(IMAGES)
    features, layout = embed(backbone, lambda m, x: m.backbone.forward_features(x)[:, 1:])
    assert torch.equal(features, tokens[:, 1:].mean(1))
    assert layout == "tokens [N, T, D], mean"
    features, layout = embed(backbone, lambda m, x: m.backbone.forward_features(x).mT)
    assert torch.equal(features, tokens[:, 0])
    assert layout == "tokens [N, D, T], class token"


def test_tokens_that_cannot_be_told_apart_are_refused() -> None:
    backbone = VisionTransformer(**SMALL)
    with pytest.raises(ValueError, match="class or register tokens were mixed into"):
        embed(backbone, lambda m, x: m.backbone.forward_features(x)[:, :9])
    with pytest.raises(ValueError, match="no tokens of patches to average"):
        embed(backbone, lambda m, x: m.backbone.forward_features(x)[:, :1], "mean")


def test_maps_have_no_class_token() -> None:
    with pytest.raises(ValueError, match="have no class token"):
        embed(torchvision.models.resnet18(), "backbone:layer1", "cls")


def test_the_layout_is_fixed() -> None:
    layout = Layout(4, 6, last=True)
    assert torch.equal(pool(torch.ones(2, 6, 6, 6), 2, layout, "backbone"), torch.ones(2, 6))
    with pytest.raises(ValueError, match=r"maps \[N, H, W, D\], mean with D=6 .* \[2, 6, 3, 3\]"):
        pool(torch.ones(2, 6, 3, 3), 2, layout, "backbone")
