"""Backbones by name: shapes, resolutions, and what a wrong name is told."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from recipes.backbones import IMAGENET_MEAN, IMAGENET_STD, build_backbone, vit
from recipes.mae import MAE
from recipes.masked import MaskedBackbone


@pytest.mark.parametrize(
    ("name", "image_size", "feature_dim"),
    [
        ("small_resnet8", 32, 32),
        ("small_resnet12", 64, 48),
        ("resnet18", 32, 512),
        ("resnet18", 224, 512),
        ("resnet10t", 64, 512),
        ("vit_nano", 32, 96),
        ("vit_tiny", 32, 192),
    ],
)
def test_images_become_features(name, image_size, feature_dim):
    patch_size = 8 if name == "vit_tiny" else None
    backbone = build_backbone(name, image_size, patch_size).eval()
    assert backbone.feature_dim == feature_dim
    images = torch.rand(2, 3, image_size, image_size)
    with torch.no_grad():
        features = backbone(images)
        assert features.shape == (2, feature_dim)
        torch.testing.assert_close(backbone(images.flip(0)), features.flip(0), atol=1e-5, rtol=1e-4)
    assert (features[0] - features[1]).abs().max() > 1e-6


def map_sides(network: nn.Module, image_size: int) -> list[int]:
    sides = []
    for layer in (network.layer1, network.layer4):
        layer.register_forward_hook(lambda _m, _i, maps: sides.append(maps.shape[-1]))
    with torch.no_grad():
        network.eval()(torch.rand(1, 3, image_size, image_size))
    return sides


@pytest.mark.parametrize(
    ("image_size", "sides"), [(32, [32, 4]), (64, [64, 8]), (96, [24, 3]), (224, [56, 7])]
)
def test_a_small_image_keeps_its_resolution_in_the_stem(image_size, sides):
    assert map_sides(build_backbone("resnet18", image_size).network, image_size) == sides


@pytest.mark.parametrize(("patch_size", "tokens"), [(None, 64), (4, 64), (8, 16), (16, 4)])
def test_patches_of_a_chosen_size(patch_size, tokens):
    network = vit("vit_nano", 32, patch_size)
    assert network.patch_embed.num_patches == tokens


@pytest.mark.parametrize("name", ["vit_tiny", "vit_small", "vit_base", "vit_tiny_patch16_384"])
def test_a_name_has_a_patch_size_of_its_own(name):
    with torch.device("meta"):
        assert vit(name, 64).patch_embed.patch_size == (16, 16)


@pytest.mark.parametrize("size", [16, 24])
def test_transformers_take_smaller_crops(size):
    crops = torch.rand(2, 3, size, size)
    assert build_backbone("vit_nano", 32)(crops).shape == (2, 96)
    assert MaskedBackbone("vit_nano", 32, None, pool="avg")(crops).shape == (2, 96)


def test_pooling_chooses_the_class_token_or_the_mean_of_the_patches():
    images = torch.rand(2, 3, 32, 32)
    for pool in ("token", "avg"):
        backbone = MaskedBackbone("vit_nano", 32, None, pool=pool).eval()
        tokens = backbone.tokens(images)
        expected = tokens[:, 0] if pool == "token" else tokens[:, 1:].mean(1)
        torch.testing.assert_close(backbone(images), expected)


def test_hidden_tokens_do_not_matter():
    """Neither those that are left out nor those whose content is replaced."""
    backbone = MaskedBackbone("vit_nano", 32, None, pool="avg").eval()
    images = torch.rand(1, 3, 32, 32)
    changed = images.clone()
    changed[..., :4, 4:8] = 0.5  # the second patch, token 2
    keep = torch.tensor([[0, 1, 3, 40]])
    mask = torch.zeros(1, 65, dtype=torch.bool)
    mask[0, 2] = True
    assert not torch.allclose(backbone.tokens(images), backbone.tokens(changed))
    torch.testing.assert_close(
        backbone.tokens(images, keep=keep), backbone.tokens(changed, keep=keep)
    )
    torch.testing.assert_close(
        backbone.tokens(images, mask=mask), backbone.tokens(changed, mask=mask)
    )


@pytest.mark.parametrize("name", ["resnet18", "resnet10t", "vit_nano"])
def test_borrowed_networks_see_standardised_images(name):
    backbone = build_backbone(name, 32).eval()
    seen = []
    backbone.network.register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0]))
    images = torch.rand(1, 3, 32, 32)
    backbone(images)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    torch.testing.assert_close(seen[0].contiguous(), (images - mean) / std)


def test_no_classifier_is_left():
    for name in ("resnet18", "resnet10t", "vit_nano"):
        linear = [m for m in build_backbone(name, 32).modules() if isinstance(m, nn.Linear)]
        assert not any(m.out_features in (10, 1000) for m in linear), name


@pytest.mark.parametrize(
    ("name", "near"),
    [("resnet81", "resnet18"), ("vit_bas", "vit_base"), ("small_resnet", "small_resnet32")],
)
def test_an_unknown_name_is_told_its_neighbours(name, near):
    with pytest.raises(ValueError, match=rf"no backbone '{name}'. Did you mean .*\b{near}\b"):
        build_backbone(name, 32)


def test_a_name_like_no_other_is_told_where_to_look():
    with pytest.raises(ValueError, match=r"no backbone 'qqqqqqqq'. timm.list_models"):
        build_backbone("qqqqqqqq", 32)


def test_patches_must_divide_the_image():
    with pytest.raises(ValueError, match=r"30 is not divisible by the patch size 4 .*\[1, 2, 3, 5"):
        build_backbone("vit_nano", 30)


@pytest.mark.parametrize("name", ["small_resnet8", "resnet18", "resnet10t"])
def test_convolutions_have_no_patches(name):
    with pytest.raises(ValueError, match=f"patch_size=4, but backbone '{name}' has no patches"):
        build_backbone(name, 32, 4)


def test_masking_needs_a_transformer():
    with pytest.raises(ValueError, match="'resnet18' is not a vision transformer, which this"):
        MAE(backbone="resnet18")
    with pytest.raises(ValueError, match=r"Did you mean .*vit_base"):
        MAE(backbone="vit_bas")
