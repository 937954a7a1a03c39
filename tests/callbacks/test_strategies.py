"""Every strategy: the numbers of the whole weights, and training that does not notice."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy

from dnc_lightning.callbacks import strategies
from dnc_lightning.functional import (
    COLLAPSE_KEYS,
    class_geometry,
    collapse_summary,
    duality,
    head_decisions,
)
from dnc_lightning.reporting import Record, read_run
from tests.callbacks.fits import fit, probe
from tests.callbacks.modules import BackboneModule, Floats
from tests.callbacks.strategy_fit import STEPS, Both, probe_set

ROOT = Path(__file__).parents[2]


def run(folder: Path, case: str, data: int, tensor: int) -> dict[int, Record]:
    """Both fits of strategy_fit; the records by their steps."""
    words = [sys.executable, "-m", "tests.callbacks.strategy_fit", folder, case, data, tensor]
    known = {k: v for k, v in os.environ.items() if k not in ("LOCAL_RANK", "NODE_RANK")}
    done = subprocess.run(
        list(map(str, words)),
        cwd=ROOT,
        env=known | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = {r.step: r for r in read_run(folder / "probed" / "dnc" / "probe").records}
    assert list(found) == list(range(STEPS + 1))
    return found


def weights(folder: Path, fit: str, rank: int, step: int) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(folder / fit / f"rank{rank}-{step}.pt")
    return found


def assert_training_is_the_same(folder: Path, processes: int) -> None:
    for rank in range(processes):
        for step in range(1, STEPS + 1):
            plain, probed = (weights(folder, fit, rank, step) for fit in ("plain", "probed"))
            assert all(torch.equal(plain[name], probed[name]) for name in plain), (rank, step)
    moved = weights(folder, "plain", 0, 1)["backbone.1.weight"] - plain["backbone.1.weight"]
    assert moved.abs().max() > 1e-4


def assert_numbers_are_those_of_the_weights(
    folder: Path,
    records: dict[int, Record],
    kind: torch.dtype = torch.float32,
    tolerance: float = 1e-4,
) -> None:
    """Embed with the saved weights, whole, in this process."""
    model, data, chosen = Both().to(kind), Floats(520), probe_set().indices
    for step in range(1, STEPS + 1):
        model.load_state_dict(weights(folder, "probed", 0, step))
        images = (data.x[chosen] / 255).to(kind)
        features = model.backbone(images).detach().float()
        expected = collapse_summary(class_geometry(features, data.targets[chosen]))
        for key in COLLAPSE_KEYS:
            logged = records[step].scalars[f"probe/label/{key}"]
            assert logged == pytest.approx(float(expected[key]), rel=tolerance), (step, key)
        weight, bias = model.head.weight.detach(), model.head.bias.detach()
        labels, scalars = data.targets[chosen], records[step].scalars
        head = duality(weight.float(), class_geometry(features, labels, unbiased=True))
        decided = head_decisions(features, labels, weight.float(), bias.float())
        nc3, nc4 = scalars["probe/label/nc3"], scalars["probe/label/nc4"]
        assert nc3 == pytest.approx(float(head.distance), rel=3 * tolerance), step
        assert nc4 == pytest.approx(float(decided.mismatch), abs=0.02), step
        assert not records[step].warnings


def check(folder: Path, case: str, data: int = 1, tensor: int = 1, **options: Any) -> None:
    records = run(folder, case, data, tensor)
    assert_training_is_the_same(folder, data * tensor)
    assert_numbers_are_those_of_the_weights(folder, records, **options)


@pytest.mark.slow
def test_single_process(tmp_path: Path) -> None:
    check(tmp_path, "single")


@pytest.mark.slow
def test_ddp_fork(tmp_path: Path) -> None:
    check(tmp_path, "ddp_fork", 2)


@pytest.mark.slow
def test_ddp_spawn(tmp_path: Path) -> None:
    check(tmp_path, "ddp_spawn", 2)


@pytest.mark.slow
def test_fsdp2_nested(tmp_path: Path) -> None:
    """Layers, backbone and model are sharded; the probe starts in the middle."""
    check(tmp_path, "fsdp_nested", 2)


@pytest.mark.slow
def test_fsdp2_root(tmp_path: Path) -> None:
    """The model alone is sharded: the backbone's parameters belong to what contains it."""
    check(tmp_path, "fsdp", 2)


@pytest.mark.slow
def test_fsdp2_blocks_and_their_root(tmp_path: Path) -> None:
    """The usual recipe: layers, then what contains them all."""
    check(tmp_path, "fsdp_blocks", 2)


@pytest.mark.slow
def test_fsdp2_in_one_process(tmp_path: Path) -> None:
    check(tmp_path, "fsdp_blocks", 1)


@pytest.mark.slow
def test_fsdp2_mixed_precision(tmp_path: Path) -> None:
    check(tmp_path, "fsdp_nested_bf16", 2, kind=torch.bfloat16, tolerance=0.03)


@pytest.mark.slow
def test_tensor_parallel(tmp_path: Path) -> None:
    check(tmp_path, "tp", 1, 2)


@pytest.mark.slow
@pytest.mark.parametrize(("data", "tensor"), [(2, 1), (1, 2), (2, 2)])
def test_fsdp2_and_tensor_parallel(data: int, tensor: int, tmp_path: Path) -> None:
    check(tmp_path, "fsdp_blocks_tp", data, tensor)


@pytest.mark.slow
def test_a_failing_rank_of_fsdp2_skips_its_probe(tmp_path: Path) -> None:
    records = run(tmp_path, "fsdp_nested_fails", 2, 1)
    assert_training_is_the_same(tmp_path, 2)
    assert "rank 1: ArithmeticError('bad block')" in records[2].warnings[0]
    for step, record in records.items():
        assert math.isnan(record.scalars["probe/label/cdnv"]) == (step == 2)


class FSDPStrategy(DDPStrategy):
    """Stands for Lightning's, which wants an accelerator; it is known by its name."""


class DeepSpeedStrategy(DDPStrategy):
    """The same."""

    zero_stage_3 = True


@pytest.mark.parametrize("kind", [FSDPStrategy, DeepSpeedStrategy])
def test_what_splits_parameters_in_its_own_way_is_refused(
    kind: type[DDPStrategy], tmp_path: Path
) -> None:
    reasons = {FSDPStrategy: "flattens parameters", DeepSpeedStrategy: "ZeRO stage 3"}
    strategy: Any = kind(process_group_backend="gloo")
    trainer = pl.Trainer(
        accelerator="cpu", devices=1, strategy=strategy, logger=False, default_root_dir=tmp_path
    )
    with pytest.raises(
        ValueError,
        match=rf"{kind.__name__} cannot be probed.*{reasons[kind]}.*ModelParallelStrategy",
    ):
        probe().setup(trainer, BackboneModule(), "fit")


def test_zero_stages_one_and_two_are_not_refused(tmp_path: Path) -> None:
    strategy: Any = DeepSpeedStrategy(process_group_backend="gloo")
    strategy.zero_stage_3 = False
    trainer = pl.Trainer(
        accelerator="cpu", devices=1, strategy=strategy, logger=False, default_root_dir=tmp_path
    )
    strategies.check_strategy(trainer)


def test_processes_without_torch_distributed_are_refused() -> None:
    """As those of XLA: a stand-in, for its strategy wants a TPU."""
    strategy = type("XLAStrategy", (), {})()
    trainer: Any = SimpleNamespace(world_size=8, global_rank=0, strategy=strategy)
    with pytest.raises(ValueError, match=r"XLAStrategy cannot be probed.*torch.distributed"):
        strategies.processes_of(trainer)


def late_on_rank_one(module: Any, images: torch.Tensor) -> torch.Tensor:
    if module.trainer.global_rank == 1 and module.global_step == 2:
        time.sleep(7)
    features: torch.Tensor = module.backbone(images)
    return features


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:probe. The processes have lost each other")
def test_a_rank_that_does_not_come_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strategies, "DEADLINE", timedelta(seconds=3))
    tested = probe(encoder=late_on_rank_one, every_n_train_steps=1)
    began = time.monotonic()
    fit(tmp_path, tested, Ends(tmp_path), max_steps=6, devices=2, strategy="ddp_fork")
    assert time.monotonic() - began < 60
    records = {r.step: r for r in read_run(tmp_path / "dnc" / "probe").records}
    # The last one says so, and nothing is probed after it.
    assert list(records) == [0, 1, 2]
    assert records[1].scalars["probe/label/cdnv"] > 0
    assert math.isnan(records[2].scalars["probe/label/cdnv"])
    assert "lost each other" in records[2].warnings[0]
    assert {path.name for path in tmp_path.glob("ended-*")} == {"ended-0-6", "ended-1-6"}


class Ends(pl.Callback):
    """Leaves a file for each rank that trains to the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_end(self, trainer: pl.Trainer, *_: Any) -> None:
        (self.folder / f"ended-{trainer.global_rank}-{trainer.global_step}").touch()


def out_of_memory_on_rank_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The geometry of the second probe does not fit on rank 1, between two sums."""
    from dnc_lightning.probe import bench

    works, calls = bench.class_geometry, []

    def fails(*args: Any, reduce: Any = None, **options: Any) -> Any:
        calls.append(1)
        if torch.distributed.get_rank() == 1 and len(calls) == 4:
            reduce(torch.zeros(()))
            raise torch.OutOfMemoryError("4.00 GiB")
        if len(calls) == 4:
            reduce(torch.zeros(()))
        return works(*args, reduce=reduce, **options)

    monkeypatch.setattr(bench, "class_geometry", fails)


@pytest.mark.filterwarnings("ignore:probe. .*Measuring failed")
def test_a_failing_measurement_on_one_rank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out_of_memory_on_rank_one(monkeypatch)
    tested = probe(every_n_train_steps=1, normalize=True)
    fit(tmp_path, tested, Ends(tmp_path), max_steps=4, devices=2, strategy="ddp_fork")
    records = read_run(tmp_path / "dnc" / "probe").records
    assert [r.step for r in records][:5] == [0, 1, 2, 3, 4]
    bad = [r for r in records if r.warnings]
    assert len(bad) == 1
    assert "rank 1: OutOfMemoryError('4.00 GiB')" in bad[0].warnings[0]
    assert math.isnan(bad[0].scalars["probe/label/cdnv"])
    assert all(r.scalars["probe/label/cdnv"] > 0 for r in records if r is not bad[0])
    assert {path.name for path in tmp_path.glob("ended-*")} == {"ended-0-4", "ended-1-4"}


def broken_on_rank_one(module: Any, images: torch.Tensor) -> torch.Tensor:
    if module.trainer.global_rank == 1:
        raise ArithmeticError("bad block")
    features: torch.Tensor = module.backbone(images)
    return features


def test_a_mistake_that_one_rank_finds_at_setup_ends_all(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(Exception, match="bad block"):
        fit(
            tmp_path,
            probe(encoder=broken_on_rank_one),
            max_steps=1,
            devices=2,
            strategy="ddp_fork",
        )
    assert time.monotonic() - began < 60
