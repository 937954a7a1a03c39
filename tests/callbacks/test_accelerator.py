"""What needs a GPU: training that does not notice, and the numbers of the CPU.

pytest -q tests/callbacks/test_accelerator.py
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy
from torch import Tensor, nn
from torch.utils.data import DataLoader

from dnc_lightning import ProbeCallback, ProbeSet
from dnc_lightning.instruments import BUILT_IN
from dnc_lightning.probe.processes import Processes
from dnc_lightning.probe.sharded import gathered
from dnc_lightning.reporting import read_run
from tests.callbacks.modules import BackboneModule, Clean, Floats, backbone
from tests.callbacks.strategy_fit import Split

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
    # Advice of torch and Lightning that depends on the GPU
    pytest.mark.filterwarnings("default"),
]

STEPS = 6


def fit(
    folder: Path, module: pl.LightningModule, *, probed: bool, **options: Any
) -> tuple[dict[str, Tensor], Path | None]:
    """The state after training, and where the records are."""
    pl.seed_everything(5, verbose=False)
    for part in module.modules():
        if hasattr(part, "reset_parameters"):
            part.reset_parameters()
    callback = ProbeCallback(ProbeSet(Clean(), per_class=15), every_n_train_steps=2)
    settings: dict[str, Any] = {
        "max_steps": STEPS,
        "accelerator": "gpu",
        "devices": 1,
        "default_root_dir": folder,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "deterministic": True,
    }
    trainer = pl.Trainer(callbacks=[callback] if probed else [], **(settings | options))
    trainer.fit(module, DataLoader(Floats(48), 8, shuffle=True))
    assert trainer.global_step == STEPS
    state = {
        key: (value.full_tensor() if hasattr(value, "full_tensor") else value).detach().cpu()
        for key, value in module.state_dict().items()
    }
    generators = {"cpu": torch.get_rng_state(), "gpu": torch.cuda.get_rng_state().cpu()}
    return state | generators, callback.run_dir_


@pytest.fixture(autouse=True)
def _deterministic(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    yield
    torch.use_deterministic_algorithms(False)


def assert_harmless(folder: Path, make: Any, **options: Any) -> None:
    plain, _ = fit(folder / "plain", make(), probed=False, **options)
    probed, records = fit(folder / "probed", make(), probed=True, **options)
    assert all(torch.equal(plain[key], probed[key]) for key in plain)
    assert records is not None
    found = read_run(records).records
    assert [r.step for r in found] == [0, 2, 4, 6]
    assert all(r.scalars["probe/label/cdnv"] > 0 and not r.warnings for r in found)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_training_on_a_gpu_is_bitwise_the_same(precision: Any, tmp_path: Path) -> None:
    assert_harmless(tmp_path, BackboneModule, precision=precision)


class Compiled(BackboneModule):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = torch.compile(self.backbone, backend="aot_eager")  # type: ignore[assignment]


def test_compiled_training_on_a_gpu_is_bitwise_the_same(tmp_path: Path) -> None:
    torch._dynamo.reset()
    assert_harmless(tmp_path, Compiled)


def test_fully_sharded_training_on_a_gpu_is_bitwise_the_same(tmp_path: Path) -> None:
    """FSDP2 in one process, over nccl: streams, mixed precision and its root of training."""

    def strategy() -> Any:
        return ModelParallelStrategy(data_parallel_size=1, tensor_parallel_size=1)

    for case in ("fsdp_blocks", "fsdp_nested_bf16"):
        pairs = [
            fit(tmp_path / case / str(probed), Split(case), probed=probed, strategy=strategy())
            for probed in (False, True)
        ]
        (plain, _), (probed_state, records) = pairs
        assert all(torch.equal(plain[key], probed_state[key]) for key in plain)
        assert records is not None
        assert all(not r.warnings for r in read_run(records).records)


def test_fsdp1_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"FSDPStrategy cannot be probed.*ModelParallelStrategy"):
        fit(tmp_path, BackboneModule(), probed=True, strategy=FSDPStrategy())


class Frozen(BackboneModule):
    """Weights that both devices hold alike."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            self.backbone = backbone()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.0)


def test_the_numbers_of_all_instruments_are_those_of_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    found = {}
    for accelerator in ("gpu", "cpu"):
        pl.seed_everything(5, verbose=False)
        callback = ProbeCallback(ProbeSet(Clean(), per_class=15), metrics=list(BUILT_IN))
        trainer = pl.Trainer(
            max_steps=1,
            accelerator=accelerator,
            devices=1,
            default_root_dir=tmp_path / accelerator,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[callback],
        )
        trainer.fit(Frozen(), DataLoader(Floats(48), 8))
        assert callback.run_dir_ is not None
        found[accelerator] = read_run(callback.run_dir_).records[0].scalars
    assert found["gpu"].keys() == found["cpu"].keys()
    for key, value in found["cpu"].items():
        if not key.endswith(("seconds", "overhead")):
            assert found["gpu"][key] == pytest.approx(value, rel=2e-3, abs=1e-3, nan_ok=True), key


def test_a_model_that_does_not_fit_whole_is_not_gathered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Said before anything is gathered, and training goes on."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_: (-(2**50), 2**36))

    class Watched(Split):
        def on_train_start(self) -> None:
            with (
                pytest.raises(MemoryError, match=r"parameters whole.*are free"),
                gathered(self, [self], self.device, Processes()),
            ):
                raise AssertionError("gathered")

    strategy: Any = ModelParallelStrategy(data_parallel_size=1, tensor_parallel_size=1)
    fit(tmp_path, Watched("fsdp_blocks"), probed=False, strategy=strategy)


def test_a_nan_on_the_gpu_is_said(tmp_path: Path) -> None:
    class Broken(BackboneModule):
        def on_train_start(self) -> None:
            nn.init.constant_(self.backbone[0].weight, math.nan)

    _, records = fit(tmp_path, Broken(), probed=True)
    assert records is not None
    first = read_run(records).records[-1]
    assert math.isnan(first.scalars["probe/label/cdnv"])
    assert any("nan or infinity" in text for text in first.warnings)
