"""All layers of an encoder: which they are, in which order, and what the page shows of them."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from dnc_lightning import ProbeCallback, ProbeSet, evaluate
from dnc_lightning.functional import cdnv, class_geometry, directional_cdnv, pair_mean
from dnc_lightning.reporting.html import page
from dnc_lightning.reporting.read.layers import effective_depth, law_of, layers_within, profiles
from dnc_lightning.reporting.terminal import print_run
from tests.callbacks.fits import fit, records
from tests.callbacks.modules import BackboneModule, Clean

LIGHT = {"metrics": ["collapse", "few_shot"], "shots": (1, 3)}


class Wrapped(nn.Module):
    """One child, whose layers run in another order than they are named."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Inner()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class Inner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(8, 4)
        self.unused = nn.Linear(3, 3)
        self.blocks = nn.ModuleList([nn.Linear(432, 8), nn.Linear(8, 8)])
        self.norm = nn.LayerNorm(8)
        self.pair = Pair()

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.blocks[1](self.blocks[0](x.flatten(1)).relu()))
        return self.last(self.pair(x)[0])


class Pair(nn.Module):
    """Returns no tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x * self.weight, x


def found(encoder: nn.Module, folder: Path, **options: object) -> list[str]:
    probe = ProbeSet(Clean(), per_class=6)
    done = evaluate(encoder, probe, out=folder, layer=":*", page=False, accelerator="cpu", **LIGHT)
    (run,) = done.runs.values()
    (layers,) = run.header["profiles"].values()
    return layers


def test_layers_come_in_the_order_in_which_they_run(tmp_path: Path) -> None:
    module = BackboneModule()
    module.backbone = Wrapped()
    module.head = nn.Linear(4, 3)
    callback = ProbeCallback(
        ProbeSet(Clean(), per_class=8), encoder="backbone:*", examples=False, **LIGHT
    )
    fit(tmp_path, callback, module=module, max_steps=2)
    expected = ["backbone:net.blocks.0", "backbone:net.blocks.1", "backbone:net.last", "backbone"]
    assert callback.engine_.trained == tuple(expected)
    last = records(callback)[-1].scalars
    # One pass; every layer has the numbers that its features have.
    data, index = Clean(), callback.probe.indices
    with torch.no_grad():
        x = data.x[index].flatten(1) / 255
        geometry = class_geometry(module.eval().backbone.net.blocks[0](x), data.targets[index])
    for name, measure in (("cdnv", cdnv), ("directional_cdnv", directional_cdnv)):
        key = f"probe/backbone:net.blocks.0/label/{name}"
        assert last[key] == pytest.approx(float(pair_mean(measure(geometry))), rel=1e-4)
    assert last["probe/backbone/label/cdnv"] == last["probe/backbone:net.last/label/cdnv"]


def test_a_resnet_has_its_blocks_and_a_vit_too(tmp_path: Path) -> None:
    resnet = found(torchvision.models.resnet18(), tmp_path / "a")
    blocks = [f"layer{k}.{n}" for k in range(1, 5) for n in range(2)]
    assert [name.rpartition(":")[2] for name in resnet[:-1]] == ["conv1", *blocks, "fc"]
    vit = timm.create_model(
        "vit_tiny_patch16_224", img_size=12, patch_size=4, depth=3, num_classes=0
    )
    layers = [name.rpartition(":")[2] for name in found(vit, tmp_path / "b")[:-1]]
    assert layers == ["patch_embed", "blocks.0", "blocks.1", "blocks.2"]


def test_the_page_shows_a_profile_with_the_floor_of_noise(tmp_path: Path) -> None:
    torch.manual_seed(0)

    class Noise(nn.Module):
        """Features that know nothing of the images, in 5 and in 40 dimensions."""

        def __init__(self) -> None:
            super().__init__()
            self.narrow, self.wide = Random(5), Random(40)

        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([self.narrow(x), self.wide(x)], 1)

    probe = ProbeSet(Clean(), per_class=20)
    done = evaluate(Noise(), probe, out=tmp_path, layer=":*", accelerator="cpu", **LIGHT)
    (run,) = done.runs.values()
    (profile,) = profiles(run)
    assert profile.layers[:2] == ("narrow", "wide")
    assert profile.noise["cdnv"] == pytest.approx((20, 20, 20))
    assert profile.noise["directional_cdnv"] == pytest.approx((20 / 10, 20 / 80, 20 / 90))
    for metric in ("cdnv", "directional_cdnv"):
        wide, floor = profile.values[metric][1], profile.noise[metric][1]  # type: ignore[index]
        assert 0.4 < wide / floor < 2.5
    assert all(math.isfinite(error) for error in profile.error)
    html = page(run, finished=True)
    assert "Through the layers" in html
    assert "Measured error by layer" in html


def test_the_effective_depth_is_the_first_layer_that_errs_as_little() -> None:
    assert effective_depth([0.5, 0.2, 0.105, 0.1, 0.1]) == 2
    assert effective_depth([0.5, math.nan, 0.3, 0.4]) == 2  # the best need not be the last
    assert effective_depth([0.3, 0.3]) == 0
    assert effective_depth([math.nan, 0.3]) is None


def test_the_law_of_separation_is_read_off_the_layers() -> None:
    law = law_of([8.0, 4.0, 2.0, 1.0])
    assert law is not None
    assert law.factor == pytest.approx(2)
    assert law.correlation == pytest.approx(-1)
    rising = law_of([1.0, math.nan, 4.0, 5.0])  # at their own depths
    assert rising is not None
    slope = np.polyfit([0, 2, 3], np.log([1, 4, 5]), 1)[0]
    assert rising.factor == pytest.approx(math.exp(-slope))
    assert law_of([3.0, 2.0]) is None
    assert law_of([3.0, math.nan, 0.0, 2.0]) is None
    pooled = law_of([8.0, 4.0, 2.0, 2.0])
    assert pooled is not None
    assert pooled.factor == pytest.approx(2)
    flat = law_of([2.0, 2.0, 2.0, 2.0])
    assert flat is not None
    assert math.isnan(flat.correlation)


def test_nc1_by_layer_is_on_the_page_where_it_was_measured(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(432, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU())
    options = {**LIGHT, "metrics": ["collapse", "simplex"]}
    probe = ProbeSet(Clean(), per_class=20)
    done = evaluate(net, probe, out=tmp_path, layer=":*", accelerator="cpu", **options)
    (run,) = done.runs.values()
    (profile,) = profiles(run)
    assert len(profile.nc1) == 3
    assert all(math.isfinite(value) for value in profile.nc1)
    html = page(run, finished=True)
    assert layers_within(run) == set(run.header["encoders"]) - set(run.header["profiles"])
    out = io.StringIO()
    print_run(run, file=out)
    assert out.getvalue().count("NC2, equinorm") == 1  # of the output
    assert f"{len(layers_within(run))} layers are measured too" in out.getvalue()
    assert "NC1 by layer" in html
    assert "A layer divides it by" in html


class Random(nn.Module):
    """Pseudo-random features by the pixels."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(432, dim) * 300)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(x.flatten(1) @ self.weight)


def test_an_encoder_without_layers_says_what_to_name(tmp_path: Path) -> None:
    module = BackboneModule()
    module.backbone = nn.Sequential(nn.Flatten(), nn.Unflatten(1, (432,)))
    callback = ProbeCallback(ProbeSet(Clean(), per_class=8), encoder="backbone:*", **LIGHT)
    module.extra = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="no layer below 'backbone' gives features"):
        fit(tmp_path, callback, module=module, max_steps=1)
