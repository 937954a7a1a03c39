from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from dnc_lightning.functional import class_geometry, few_shot_bound, ncc_error
from dnc_lightning.metrics import FewShotError
from tests.metrics.test_collapse import data


def check(got: dict[str, torch.Tensor]) -> None:
    x, y = data()
    geometry = class_geometry(x, y)
    for m in (1, 4):
        mean, error = ncc_error(x, y, shots=m, episodes=30)
        # The supports of several numbers of shots are nested, so only the largest draws alike.
        if m == 4:
            assert float(got["few_shot_error/4"]) == pytest.approx(float(mean), abs=1e-6)
            assert float(got["few_shot_error_se/4"]) == pytest.approx(float(error), abs=1e-6)
        expected = float(few_shot_bound(geometry, m))
        assert float(got[f"certificate/{m}"]) == pytest.approx(expected, rel=1e-5)
    assert "shots_needed" in got


def test_batches_add_up() -> None:
    x, y = data()
    metric = FewShotError(shots=(1, 4), episodes=30)
    for begin in range(0, 40, 9):
        metric.update(x[begin : begin + 9], y[begin : begin + 9])
    check(metric.compute())


def test_bad_input() -> None:
    x, y = data()
    with pytest.raises(ValueError, match=r"shots must be integers of at least 1, got \(0,\)"):
        FewShotError(shots=(0,))
    metric = FewShotError(shots=(6,))
    metric.update(x, y)
    with pytest.raises(ValueError, match="class 2 has 6"):
        metric.compute()


def worker(rank: int, world: int, path: str, cut: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=world)
    try:
        x, y = data()
        mine = slice(0, cut) if rank == 0 else slice(cut, None)
        metric = FewShotError(shots=(1, 4), episodes=30)
        metric.update(x[mine], y[mine])
        check(metric.compute())
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize("cut", [15, 40])
def test_two_processes_give_the_numbers_of_one(cut: int, tmp_path: Path) -> None:
    mp.start_processes(worker, (2, str(tmp_path / "store"), cut), nprocs=2, start_method="fork")
