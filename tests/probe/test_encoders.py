from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import nn

from dnc_lightning.probe.embed import Embedder
from dnc_lightning.probe.encoders import find_encoders, run_encoders
from dnc_lightning.probe.pooling import check_output
from dnc_lightning.probe.trial import Trial, try_encoders

IMAGES = torch.rand(2, 3, 8, 8)


def module(**children: nn.Module) -> pl.LightningModule:
    built = pl.LightningModule()
    for name, child in children.items():
        setattr(built, name, child)
    return built


def tried(m: nn.Module, encoder: Any = None) -> Trial:
    embedder = Embedder(m, (), torch.device("cpu"))
    return try_encoders(m, find_encoders(m, encoder), IMAGES, "auto", embedder.trace)


def embed(m: nn.Module, encoder: Any = None) -> dict[str, torch.Tensor]:
    return run_encoders(m, tried(m, encoder).encoders, IMAGES)


def conv() -> nn.Module:
    return nn.Conv2d(3, 4, 3)


def test_the_rule_for_no_encoder() -> None:
    m = module(student_backbone=conv(), teacher_backbone=conv(), encoder=conv())
    trial = tried(m)
    assert trial.encoders[0].source == "encoder"
    assert "student_backbone, teacher_backbone; name one or several with encoder=" in trial.message
    assert not trial.failed


def test_forward_is_the_last_resort() -> None:
    class Plain(pl.LightningModule):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.flatten(1)

    assert "Probing forward ([N, D]), the module's own forward" in tried(Plain()).message
    assert torch.equal(embed(Plain())["forward"], IMAGES.flatten(1))
    with pytest.raises(ValueError, match=r"no encoder found .* submodules are \['stem'\]"):
        find_encoders(module(stem=conv()), None)


class Transformer(nn.Module):
    """Like torchvision's: its attribute `encoder` takes tokens, not images."""

    def __init__(self) -> None:
        super().__init__()
        self.proj, self.encoder = nn.Conv2d(3, 5, 4, 4), nn.LayerNorm(5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.encoder(self.proj(x).flatten(2).transpose(1, 2)).mean(1)


def test_a_name_that_does_not_run_on_images_gives_way_to_the_next() -> None:
    class Forward(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = Transformer()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.model(x)

    m = Forward()
    assert torch.equal(embed(m)["forward"], m.model(IMAGES))
    assert tried(m).failed
    assert "Probing forward ([N, D]), the module's own forward that gives" in tried(m).message
    assert "(model.encoder: Given normalized_shape=[5]" in tried(m).message
    m = module(model=Transformer())
    assert torch.equal(embed(m)["model"], m.model(IMAGES))
    with pytest.raises(ValueError, match=r"'model.encoder' failed on float probe images of shape"):
        tried(m, "model.encoder")
    with pytest.raises(ValueError, match=r"no encoder of .* features .*encoder: Given normal"):
        tried(module(encoder=nn.LayerNorm(5), backbone=nn.LayerNorm(6)))


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
    views = {
        "early": "student:1",
        "late": "student",
        "teacher": "teacher",
        "own": lambda m, x: x[:, 0, 0],
    }
    encoders = tried(m, views).encoders
    calls.clear()
    out = run_encoders(m, encoders, IMAGES)
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


@pytest.mark.parametrize(
    ("output", "match"),
    [
        ({"features": IMAGES}, "got dict. Pass encoder=lambda"),
        (torch.ones(2, 3).long(), "floating point tensor .* got a tensor of torch.int64"),
        (torch.ones(3, 4), r"for N=2 images, got \[3, 4\]"),
        (torch.ones(2), r"for N=2 images, got \[2\]"),
    ],
)
def test_what_is_not_features_is_refused(output: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        check_output(output, 2, "backbone")


def test_an_error_of_the_encoder_itself_names_the_encoder_and_gives_way() -> None:
    class Unpacks(nn.Module):
        def forward(self, batch: Any) -> Any:
            images, _ = batch
            return images

    module = nn.ModuleDict({"backbone": Unpacks()})
    trace = Embedder(module, (), torch.device("cpu")).trace
    images = torch.rand(5, 3, 4, 4)
    with pytest.raises(ValueError, match=r"'backbone' failed on float .*unpack.*another encoder="):
        try_encoders(module, find_encoders(module, "backbone"), images, "auto", trace)
    module["net"] = nn.Sequential(nn.Flatten(), nn.Linear(48, 2))
    trial = try_encoders(module, find_encoders(module, None), images, "auto", trace)
    assert [encoder.source for encoder in trial.encoders] == ["net"]


@pytest.mark.parametrize("names", [{1: "net", "1": "net"}, {"": "net"}])
def test_names_of_encoders_must_differ(names: Any) -> None:
    module = nn.ModuleDict({"net": nn.Flatten()})
    with pytest.raises(ValueError, match="different names that are not empty"):
        find_encoders(module, names)
