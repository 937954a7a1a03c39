from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import nn

from dnc_lightning.probe.encoders import find_encoders, pool, run_encoders

IMAGES = torch.rand(2, 3, 8, 8)


class Tokens(nn.Module):
    def __init__(self, cls: bool) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, 5, 4, 4)
        if cls:
            self.cls_token = nn.Parameter(torch.full((1, 1, 5), 7.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.proj(x).flatten(2).transpose(1, 2)
        return (
            torch.cat([self.cls_token.expand(len(x), -1, -1), tokens], 1)
            if hasattr(self, "cls_token")
            else tokens
        )


def module(**children: nn.Module) -> pl.LightningModule:
    built = pl.LightningModule()
    for name, child in children.items():
        setattr(built, name, child)
    return built


def embed(m: nn.Module, encoder: Any = None, pooling: str = "auto") -> dict[str, torch.Tensor]:
    return run_encoders(m, find_encoders(m, encoder).encoders, IMAGES, pooling)


def conv() -> nn.Module:
    return nn.Conv2d(3, 4, 3)


def test_the_rule_for_no_encoder() -> None:
    m = module(student_backbone=conv(), teacher_backbone=conv(), encoder=conv())
    lookup = find_encoders(m, None)
    assert lookup.encoders[0].source == "encoder"
    assert "student_backbone, teacher_backbone; name one or several with encoder=" in lookup.message


def test_forward_is_the_last_resort() -> None:
    class Plain(pl.LightningModule):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.flatten(1)

    assert "Probing Plain.forward" in find_encoders(Plain(), None).message
    assert torch.equal(embed(Plain())["forward"], IMAGES.flatten(1))
    with pytest.raises(ValueError, match=r"no encoder found .* submodules are \['stem'\]"):
        find_encoders(module(stem=conv()), None)


def test_a_wrong_path_lists_near_names() -> None:
    m = module(backbone=nn.Sequential(conv()), teacher_backbone=conv())
    with pytest.raises(ValueError, match=r"'backbon' does not exist .*Near names: backbone"):
        find_encoders(m, "backbon")
    with pytest.raises(ValueError, match=r"no module 'layer9'\. Near names: 0"):
        find_encoders(m, "backbone:layer9")
    with pytest.raises(ValueError, match=r"dotted path, a callable .* got int"):
        find_encoders(m, 3)
    with pytest.raises(ValueError, match="empty mapping"):
        find_encoders(m, {})
    with pytest.raises(ValueError, match="must not contain '/'"):
        find_encoders(m, {"a/b": "backbone"})


def test_layers_student_and_teacher_in_one_pass() -> None:
    calls = []

    class Counted(nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            calls.append(len(x))
            return super().forward(x)

    m = module(student=Counted(conv(), nn.ReLU(), nn.Conv2d(4, 6, 3)), teacher=conv())
    out = embed(
        m,
        {
            "early": "student:1",
            "late": "student",
            "teacher": "teacher",
            "own": lambda m, x: x[:, 0, 0],
        },
    )
    assert calls == [2]
    assert list(out) == ["early", "late", "teacher", "own"]
    assert torch.equal(out["early"], m.student[0](IMAGES).relu().mean((2, 3)))
    assert torch.equal(out["late"], m.student(IMAGES).mean((2, 3)))
    assert torch.equal(out["own"], IMAGES[:, 0, 0])
    assert not m.student[1]._forward_hooks


def test_a_layer_that_does_not_run_is_named() -> None:
    backbone = nn.ModuleDict({"used": conv(), "unused": conv()})
    backbone.forward = lambda x: backbone["used"](x)
    with pytest.raises(ValueError, match="did not run its layer 'unused'"):
        embed(module(backbone=backbone), "backbone:unused")


@pytest.mark.parametrize("cls", [True, False])
def test_pooling_of_tokens(cls: bool) -> None:
    m = module(backbone=Tokens(cls))
    tokens = m.backbone(IMAGES)
    assert torch.equal(embed(m)["backbone"], tokens[:, 0] if cls else tokens.mean(1))
    assert torch.equal(embed(m, pooling="cls")["backbone"], tokens[:, 0])
    assert torch.equal(embed(m, pooling="mean")["backbone"], tokens.mean(1))


@pytest.mark.parametrize(
    ("output", "pooling", "match"),
    [
        ({"features": IMAGES}, "auto", "got dict. Pass encoder=lambda"),
        (torch.ones(2, 3).long(), "auto", "floating point tensor"),
        (torch.ones(3, 4), "auto", r"for N=2 images, got \[3, 4\]"),
        (torch.ones(2), "auto", r"for N=2 images, got \[2\]"),
        (torch.ones(2, 3, 4, 4), "cls", "no class token"),
    ],
)
def test_what_is_not_features_is_refused(output: Any, pooling: str, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        pool(output, IMAGES, pooling, nn.Identity(), "backbone")
