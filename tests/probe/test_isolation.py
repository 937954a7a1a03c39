"""What a module holds is after a probe what it was before."""

from __future__ import annotations

import random
from collections import Counter, OrderedDict, deque
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dnc_lightning.probe.isolation import evaluating


class Busy(nn.Module):
    """Changes all it has, as modules in the wild do."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)
        self.calls, self.last, self.made_later = 0, None, None
        self.queue: deque[Tensor] = deque([torch.zeros(1), torch.ones(1)], maxlen=2)
        self.names, self.seen, self.sums = ["a", "b"], {"x"}, {"n": torch.zeros(2), "m": 1}
        self.nested = {"rows": [[1], [2, 3]], "tally": Counter(a=2)}
        self.order = OrderedDict(a=1, b=2)
        self.plain = torch.zeros(3)
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.register_buffer("table", torch.zeros(2), persistent=False)
        self.register_buffer("wide", torch.zeros(1).expand(4))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.last = x
        self.cache = x * 2
        self.queue.append(x)
        self.names.insert(0, "c")
        self.names[1] = "d"
        self.seen.add("y")
        self.sums["n"] += 1
        self.sums["m"] = 2
        del self.order["a"]
        self.order["a"] = 1
        self.nested["rows"][0].append(9)
        self.nested["tally"].update("abc")
        self.plain.add_(1)
        self.count.data.add_(1)  # past the version counter
        self.table = torch.ones(5)
        self.register_buffer("late", torch.ones(1))
        if self.made_later is None:
            self.made_later = nn.Linear(3, 3)
        self.layer.register_forward_hook(lambda *_: None)
        self.layer.requires_grad_(self.training)
        self.train()
        return self.made_later(self.layer(x))


def contents(module: Busy) -> dict[str, Any]:
    return {
        "calls": module.calls,
        "last": module.last is None,
        "queue": [float(t.sum()) for t in module.queue],
        "names": list(module.names),
        "seen": set(module.seen),
        "sums": {k: v.tolist() if isinstance(v, Tensor) else v for k, v in module.sums.items()},
        "nested": repr(module.nested),
        "order": list(module.order),
        "plain": module.plain.tolist(),
        "state": {k: v.tolist() for k, v in module.state_dict().items()},
        "table": module.table.tolist(),
        "children": [name for name, _ in module.named_modules()],
        "attributes": set(vars(module)),
        "hooks": len(module.layer._forward_hooks),
        "flags": [m.training for m in module.modules()],
        "learning": [p.requires_grad for p in module.parameters()],
    }


def test_attributes_containers_tensors_and_registries_are_put_back() -> None:
    module = Busy()
    module.layer.eval()
    before, queue, version = contents(module), module.queue, module.count._version
    with evaluating(module), torch.no_grad():
        module(torch.ones(2, 3))
        assert module.calls == 1
        assert contents(module) != before
    assert contents(module) == before
    assert module.queue is queue
    assert module.queue.maxlen == 2
    assert module.count._version == version  # a graph that saved it can still run backward


def test_they_are_put_back_when_the_pass_fails() -> None:
    module = Busy()
    before = contents(module)

    def fail() -> None:
        with evaluating(module), torch.no_grad():
            module(torch.ones(2, 3))
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert contents(module) == before


def test_lazy_layers_keep_their_shape() -> None:
    module = nn.Sequential(nn.LazyLinear(4), nn.LazyBatchNorm1d(), nn.LazyLinear(2))
    with evaluating(module), torch.no_grad():
        module(torch.ones(3, 5))
    assert [type(m) for m in module] == [nn.Linear, nn.BatchNorm1d, nn.Linear]
    assert all(m.training for m in module)
    assert module[0].in_features == 5
    module(torch.randn(3, 5)).sum().backward()


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
def test_scripted_modules_and_reparametrised_ones() -> None:
    scripted = torch.jit.script(nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)))
    normed = nn.utils.parametrizations.weight_norm(nn.Linear(3, 3))
    module = nn.Sequential(scripted, normed, nn.LSTM(3, 2))
    state = {k: v.clone() for k, v in module.state_dict().items()}
    with evaluating(module), torch.no_grad():
        assert not any(m.training for m in module.modules())
        module(torch.ones(2, 3))
    assert all(m.training for m in module.modules())
    for name, value in module.state_dict().items():
        assert torch.equal(value, state[name])


class Random(nn.Module):
    """Draws from generators of its own, and counts in arrays and tuples."""

    def __init__(self) -> None:
        super().__init__()
        self.own = torch.Generator().manual_seed(1)
        self.kept = {"python": random.Random(2), "numpy": np.random.default_rng(3)}
        self.old = np.random.RandomState(4)
        self.count, self.pair = np.zeros(2), (torch.zeros(2), [0])

    def forward(self) -> list[float]:
        self.count += 1
        self.pair[0].add_(1)
        self.pair[1][0] += 1
        return [
            float(torch.rand(1, generator=self.own)),
            self.kept["python"].random(),
            self.kept["numpy"].random(),
            self.old.rand(),
            *self.count.tolist(),
            *self.pair[0].tolist(),
            *self.pair[1],
        ]


def test_generators_arrays_and_tuples_go_on_as_if_nothing_had_run() -> None:
    module, alone = Random(), Random()
    with evaluating(module):
        assert module() == alone()
        assert module() == alone()
    assert module() == Random()()
