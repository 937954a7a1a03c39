"""Parameters of `fully_shard`, gathered and given back, in a group of one process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import (
    FSDPModule,
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)

from dnc_lightning.probe.processes import Processes
from dnc_lightning.probe.sharded import gathered

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _group() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


class Blocks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(5, 7), nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))

    def features(self, x: Tensor) -> Tensor:
        return self.first(x)


class Towers(nn.ModuleDict):
    def forward(self, x: Tensor) -> Tensor:
        return self["one"](x) + self["two"](x)


def sharded(policy: MixedPrecisionPolicy) -> tuple[Towers, Blocks]:
    """Two towers below one root, and a plain copy of the first."""
    from torch.distributed.device_mesh import init_device_mesh

    torch.manual_seed(0)
    mesh, plain = init_device_mesh("cpu", (1,)), Blocks()
    towers = Towers({"one": Blocks(), "two": Blocks()})
    towers["one"].load_state_dict(plain.state_dict())
    for tower in towers.values():
        inner = MixedPrecisionPolicy(param_dtype=policy.param_dtype)
        fully_shard(tower.first, mesh=mesh, mp_policy=inner)
        fully_shard(tower, mesh=mesh, mp_policy=policy)
    fully_shard(towers, mesh=mesh, mp_policy=policy)
    register_fsdp_forward_method(towers["one"], "features")
    return towers, plain


def states(module: nn.Module) -> list[object]:
    parts = [part for part in module.modules() if isinstance(part, FSDPModule)]
    kept: list[object] = [part._get_fsdp_state()._is_root for part in parts]
    for part in module.modules():
        kept += [dict(part._forward_pre_hooks), dict(part._forward_hooks)]
    return kept + [hasattr(p, "device_mesh") for p in module.parameters()]


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_inside_it_runs_as_a_plain_module_and_outside_nothing_has_changed(
    dtype: torch.dtype | None,
) -> None:
    policy = MixedPrecisionPolicy(param_dtype=dtype, output_dtype=torch.float32 if dtype else None)
    towers, plain = sharded(policy)
    before, images = states(towers), torch.randn(4, 5)
    tower = towers["one"]
    with torch.no_grad(), gathered(towers, [tower], CPU, Processes()):
        assert not any(hasattr(p, "device_mesh") for p in tower.parameters())
        assert all(hasattr(p, "device_mesh") for p in towers["two"].parameters())
        found, features = tower(images), tower.features(images)
    assert states(towers) == before
    kind = dtype or torch.float32
    tolerance = 2e-2 if dtype else 1e-6
    first = plain.to(kind).features(images.to(kind)).float()
    torch.testing.assert_close(features, first, rtol=tolerance, atol=tolerance)
    whole = plain(images.to(kind)).float()
    torch.testing.assert_close(found, whole, rtol=tolerance, atol=tolerance)
    towers(images)  # the root is training's to decide: that of the tower would forbid this
    assert towers._get_fsdp_state()._is_root


def test_everything_is_given_back_after_an_error() -> None:
    towers, _ = sharded(MixedPrecisionPolicy())
    before = states(towers)
    with pytest.raises(ArithmeticError), gathered(towers, [towers["one"]], CPU, Processes()):
        raise ArithmeticError
    assert states(towers) == before


def test_what_was_whole_stays_whole() -> None:
    """As the root does between a forward pass without gradients and the next backward pass."""
    towers, _ = sharded(MixedPrecisionPolicy())
    tower = towers["one"]
    tower.unshard()
    with gathered(towers, [tower], CPU, Processes()):
        pass
    assert not hasattr(tower.second.weight, "device_mesh")
    assert hasattr(tower.first.weight, "device_mesh")
