"""Class and register tokens are found where they stand, whatever they are called."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

import dnc_lightning
from tests.probe.test_pooling import IMAGES, embed


class Vit(nn.Module):
    """Tokens in the order given: "c" class, "r" three registers, "p" sixteen patches."""

    def __init__(self, order: str, name: str = "cls_token", registers: str = "registers") -> None:
        super().__init__()
        self.order, self.name, self.registers_name = order, name, registers
        self.patches = nn.Conv2d(3, 24, 8, 8)
        for letter, kind, count in (("c", name, 1), ("r", registers, 3)):
            if letter in order:
                setattr(self, kind, nn.Parameter(torch.randn(1, count, 24) * 0.02))
        count = sum({"c": 1, "r": 3, "p": 16}[letter] for letter in order)
        self.pos_token = nn.Parameter(torch.randn(1, count, 24) * 0.02)
        layer = nn.TransformerEncoderLayer(24, 2, 32, dropout=0.0, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patches(x).flatten(2).transpose(1, 2)
        parts = {"p": patches}
        for letter, kind in (("c", self.name), ("r", self.registers_name)):
            if letter in self.order:
                parts[letter] = getattr(self, kind).expand(len(x), -1, -1)
        tokens = torch.cat([parts[letter] for letter in self.order], 1)
        return self.layers(tokens + self.pos_token)


def where(order: str) -> dict[str, list[int]]:
    positions: dict[str, list[int]] = {}
    for letter in order:
        start = sum(map(len, positions.values()))
        positions[letter] = list(range(start, start + {"c": 1, "r": 3, "p": 16}[letter]))
    return positions


def close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("order", ["cp", "pc", "crp", "rcp", "prc", "cpr", "rp", "pr", "p"])
@pytest.mark.parametrize("layer", ["", ":layers", ":layers.layers.0"])
def test_tokens_are_found_where_they_stand(order: str, layer: str) -> None:
    torch.manual_seed(0)
    backbone = Vit(order).eval()
    with torch.no_grad():
        module = nn.ModuleDict({"backbone": backbone})
        tokens = dnc_lightning.layer_output(module, f"backbone{layer}", IMAGES)
    places = where(order)
    mean = tokens[:, places["p"]].mean(1)
    expected = tokens[:, places["c"][0]] if "c" in places else mean
    close(embed(backbone, f"backbone{layer}")[0], expected)
    close(embed(backbone, f"backbone{layer}", "mean")[0], mean)


@pytest.mark.parametrize("name", ["cls", "cls_emb", "class_embedding", "classtok"])
def test_names_of_class_tokens(name: str) -> None:
    backbone = Vit("pc", name).eval()
    with torch.no_grad():
        close(embed(backbone, "backbone")[0], backbone(IMAGES)[:, -1])


@pytest.mark.parametrize("name", ["summary", "g", "query", "token"])
def test_a_name_that_tells_nothing_is_asked_for(name: str) -> None:
    backbone = Vit("pc", name).eval()
    match = r'those at 16 are no patches.*Use pooling="cls" .* or pooling="mean"'
    with pytest.raises(ValueError, match=match):
        embed(backbone, "backbone")
    with torch.no_grad():
        tokens = backbone(IMAGES)
    close(embed(backbone, "backbone", "cls")[0], tokens[:, -1])
    close(embed(backbone, "backbone", "mean")[0], tokens[:, :-1].mean(1))


class Embedded(nn.Module):
    """A class token from a buffer or an embedding."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.conv = nn.Conv2d(3, 8, 8, 8)
        self.cls = nn.Embedding(1, 8)
        self.register_buffer("cls_token", torch.randn(1, 1, 8))
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        token = self.cls.weight[None] if self.kind == "embedding" else self.cls_token
        patches = self.conv(x).flatten(2).transpose(1, 2)
        return self.layer(torch.cat([token.expand(len(x), -1, -1), patches], 1))


@pytest.mark.parametrize("kind", ["embedding", "buffer"])
def test_class_tokens_that_are_no_parameters_of_their_own(kind: str) -> None:
    backbone = Embedded(kind).eval()
    with torch.no_grad():
        close(embed(backbone, "backbone")[0], backbone(IMAGES)[:, 0])


def test_tokens_of_scales_that_have_class_tokens_each() -> None:
    backbone = timm.create_model("coat_lite_tiny", img_size=32, num_classes=0).eval()
    module = nn.ModuleDict({"backbone": backbone})
    for layer, has_class in (("patch_embed2", False), ("serial_blocks2.0", True)):
        with torch.no_grad():
            tokens = dnc_lightning.layer_output(module, f"backbone:{layer}", IMAGES)
        expected = tokens[:, 0] if has_class else tokens.mean(1)
        close(embed(backbone, f"backbone:{layer}")[0], expected)


class Returns(nn.Module):
    def __init__(self, change: Any) -> None:
        super().__init__()
        self.conv, self.change = nn.Conv2d(3, 8, 3, 2), change

    def forward(self, x: Tensor) -> Any:
        return self.change(self.conv(x))


@dataclasses.dataclass
class Output:
    features: Tensor
    loss: Tensor


@pytest.mark.parametrize(
    ("change", "remedy"),
    [
        (lambda y: [y, y + 1], "module.backbone(images)[1]"),
        (lambda y: (y + 1, None), "module.backbone(images)[0]"),
        (lambda y: {"feat": y + 1, "n": 3}, "module.backbone(images)['feat']"),
        (lambda y: Output(y + 1, y.sum()), "module.backbone(images).features"),
        (lambda y: (y + 1)[:, :, None], "module.backbone(images).flatten(2).mean(2)"),
        (lambda y: (y + 1).flatten(2).permute(2, 0, 1), "module.backbone(images).transpose(0, 1)"),
    ],
)
def test_the_remedy_for_outputs_of_another_kind_works(change: Any, remedy: str) -> None:
    backbone = Returns(change).eval()
    with pytest.raises(ValueError, match="Pass encoder=lambda module, images: ") as error:
        embed(backbone, "backbone")
    assert f"lambda module, images: {remedy}" in str(error.value)
    features = embed(backbone, eval(f"lambda module, images: {remedy}"))[0]
    with torch.no_grad():
        close(features, (backbone.conv(IMAGES) + 1).mean((2, 3)))


def test_the_remedy_for_layers_of_another_kind_works() -> None:
    backbone = nn.Sequential(Returns(lambda y: (y, y + 1)), Returns(lambda y: y))
    backbone[1].conv = nn.Identity()
    backbone[1].change = lambda pair: pair[0].mean((2, 3))
    with pytest.raises(ValueError, match="Pass encoder=") as error:
        embed(backbone, "backbone:0")
    remedy = "lambda module, images: dnc_lightning.layer_output(module, 'backbone:0', images)[1]"
    assert remedy in str(error.value)
    with torch.no_grad():
        expected = backbone[0](IMAGES)[1].mean((2, 3))
    close(embed(backbone, eval(remedy))[0], expected)


def test_halves_are_averaged_in_float32() -> None:
    backbone = Returns(lambda y: y.bfloat16()).eval()
    with torch.no_grad():
        assert torch.equal(embed(backbone, "backbone")[0], backbone(IMAGES).float().mean((2, 3)))
