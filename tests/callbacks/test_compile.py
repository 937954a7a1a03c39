"""Compiled modules are probed as they were written, and their training does not notice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import nn

from dnc_lightning import ProbeCallback, ProbeSet
from dnc_lightning.reporting import read_run
from tests.callbacks.modules import BackboneModule, Clean, ForwardModule, loader
from tests.callbacks.test_do_no_harm import assert_same
from tests.callbacks.test_do_no_harm import fit as fit_and_note

# Dynamo's own look at tensors inside a graph
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")

ENCODERS = {"out": "backbone", "early": "backbone:2"}


class Counting:
    """A backend that runs graphs as they are, and counts those it is given."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, graph: torch.fx.GraphModule, _: list[torch.Tensor]) -> Callable[..., Any]:
        self.graphs += 1
        return graph.forward


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def wrapped(module: Any, backend: Any) -> Any:
    module.backbone = torch.compile(module.backbone, backend=backend)
    return module


def in_place(module: Any, backend: Any) -> Any:
    module.backbone.compile(backend=backend)
    return module


def inside(module: Any, backend: Any) -> Any:
    """Layers of the backbone, one of each kind, and one that calibration hooks."""
    module.backbone[0] = torch.compile(module.backbone[0], backend=backend)
    module.backbone[1].compile(backend=backend)
    module.backbone[2] = torch.compile(module.backbone[2], backend=backend)
    return module


def as_a_whole(module: Any, backend: Any) -> Any:
    return torch.compile(module, backend=backend)


def offset() -> BackboneModule:
    """A backbone whose first layer is far from its BatchNorm's initial statistics."""
    torch.manual_seed(0)
    module = BackboneModule()
    with torch.no_grad():
        module.backbone[0].bias.add_(3)
    return module


def records(module: Any, path: Path) -> list[Any]:
    pl.seed_everything(1, verbose=False)
    callback = ProbeCallback(ProbeSet(Clean(), per_class=15), encoder=ENCODERS)
    trainer = pl.Trainer(
        max_steps=3,
        accelerator="cpu",
        default_root_dir=path,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[callback],
    )
    trainer.fit(module, loader())
    assert callback.run_dir_ is not None
    return list(read_run(callback.run_dir_).records)


def assert_same_numbers(compiled: list[Any], eager: list[Any]) -> None:
    """Of probes before any step; later ones train by arithmetic of another order."""
    assert [r.step for r in compiled] == [r.step for r in eager]
    for key in ("scalars", "uncalibrated"):
        numbers = getattr(eager[0], key)
        assert numbers["probe/early/label/cdnv"] > 0
        for name, value in numbers.items():
            if not name.endswith(("seconds", "overhead")):
                assert getattr(compiled[0], key)[name] == pytest.approx(
                    value, rel=1e-6, nan_ok=True
                )
    assert all(r.warnings == () for r in compiled)


@pytest.mark.parametrize("compile_", [wrapped, in_place, inside, as_a_whole])
def test_calibrated_values_and_layers_are_those_of_the_module_underneath(
    compile_: Any, tmp_path: Path
) -> None:
    eager = records(offset(), tmp_path / "eager")
    compiled = records(compile_(offset(), Counting()), tmp_path / "compiled")
    key = "probe/out/label/cdnv"
    assert eager[0].scalars[key] != pytest.approx(eager[0].uncalibrated[key], rel=0.1)
    assert_same_numbers(compiled, eager)


@pytest.mark.parametrize("compile_", [wrapped, in_place])
def test_before_torch_2_6_the_original_takes_the_place_of_the_compiled(
    compile_: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    eager = records(offset(), tmp_path / "eager")
    monkeypatch.delattr(torch.compiler, "set_stance")
    backend = Counting()
    compiled = records(compile_(offset(), backend), tmp_path / "compiled")
    assert_same_numbers(compiled, eager)
    assert backend.graphs == 1


def trained(compile_: Any, backend: Any, path: Path, *, probed: bool) -> dict[str, Any]:
    torch._dynamo.reset()
    callback = ProbeCallback(
        ProbeSet(Clean(), per_class=15), every_n_train_steps=1, encoder=ENCODERS
    )
    module = compile_(BackboneModule(), backend)
    return fit_and_note(module, [callback] if probed else [], path)


@pytest.mark.parametrize(
    "compile_",
    [wrapped, in_place, inside, pytest.param(as_a_whole, marks=pytest.mark.slow)],
)
def test_training_is_bitwise_the_same_and_nothing_is_compiled_for_a_probe(
    compile_: Any, tmp_path: Path
) -> None:
    alone, beside = Counting(), Counting()
    plain = trained(compile_, alone, tmp_path, probed=False)
    watched = trained(compile_, beside, tmp_path, probed=True)
    assert beside.graphs == alone.graphs > 0
    assert_same(watched, plain)


def test_a_compiled_forward_is_probed_eagerly(tmp_path: Path) -> None:
    """torch.compile of a module whose `forward` is the encoder."""

    class Noted(ForwardModule):
        losses: list[float] = []  # noqa: RUF012 - only for the fit below

    numbers = {}
    for name in ("eager", "compiled"):
        torch.manual_seed(0)
        module = Noted()
        with torch.no_grad():
            module.stem[0].bias.add_(3)
        backend = Counting()
        callback = ProbeCallback(ProbeSet(Clean(), per_class=15), every_n_train_steps=1)
        wrapped_module = torch.compile(module, backend=backend) if name == "compiled" else module
        trainer = pl.Trainer(
            max_steps=2,
            accelerator="cpu",
            default_root_dir=tmp_path / name,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[callback],
        )
        pl.seed_everything(1, verbose=False)
        trainer.fit(wrapped_module, loader())
        assert callback.run_dir_ is not None
        numbers[name] = read_run(callback.run_dir_).records[0].scalars["probe/label/cdnv"]
    assert numbers["compiled"] == pytest.approx(numbers["eager"], rel=1e-6)


def test_a_stance_of_the_users_stays(tmp_path: Path) -> None:
    module = wrapped(offset(), Counting())
    records(module, tmp_path / "first")
    with torch.compiler.set_stance("fail_on_recompile"):
        assert all(r.warnings == () for r in records(module, tmp_path / "second"))
        with pytest.raises(RuntimeError, match="fail_on_recompile"):
            torch.compile(torch.nn.Linear(2, 2), backend=Counting())(torch.ones(1, 2))


@pytest.mark.slow
def test_inductor(tmp_path: Path) -> None:
    counters = torch._dynamo.utils.counters["stats"]
    graphs, results = [], []
    for probed in (False, True):
        before = counters["unique_graphs"]
        results.append(trained(wrapped, "inductor", tmp_path, probed=probed))
        graphs.append(counters["unique_graphs"] - before)
    assert graphs[0] == graphs[1] > 0
    assert_same(results[1], results[0])
    torch._dynamo.reset()
    eager = records(offset(), tmp_path / "eager")
    assert_same_numbers(records(wrapped(offset(), "inductor"), tmp_path / "compiled"), eager)


def test_layers_of_a_compiled_backbone_have_their_plain_names(tmp_path: Path) -> None:
    module = BackboneModule()
    module.backbone = nn.Sequential(*module.backbone[:4], torch.compile(module.backbone[4:]))
    module.backbone = torch.compile(module.backbone, backend=Counting())
    callback = ProbeCallback(ProbeSet(Clean(), per_class=5), encoder="backbone:4.5")
    fit_and_note(module, [callback], tmp_path)
    assert callback.engine_.names == ("backbone:4.5",)
    assert callback.engine_.empty["backbone:4.5"].shape == (0, 8)
