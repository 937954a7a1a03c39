from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from dnc_lightning.functional import orthogonality_summary
from dnc_lightning.metrics import TaskOrthogonality
from tests.metrics.test_collapse import data

Tasks = dict[str, torch.Tensor]


def tasks() -> tuple[torch.Tensor, Tasks]:
    x, y = data()
    return x, {"kind": y, "size": (torch.arange(40) * 7 + y) % 3, "side": torch.arange(40) % 2}


def part(rows: slice) -> tuple[torch.Tensor, Tasks]:
    x, labels = tasks()
    return x[rows], {name: values[rows] for name, values in labels.items()}


def check(got: Tasks, rel: float = 1e-5) -> None:
    expected = orthogonality_summary(*tasks()).scalars
    assert tuple(got) == tuple(expected)
    for key, value in expected.items():
        assert got[key].dtype == torch.float32
        assert float(got[key]) == pytest.approx(float(value), rel=rel, abs=1e-6), key


def test_batches_add_up() -> None:
    metric = TaskOrthogonality()
    for begin in range(0, 40, 7):
        metric.update(*part(slice(begin, begin + 7)))
    check(metric.compute())
    metric.reset()
    check(metric(*tasks()))
    # The order of the tasks is that of the first update.
    metric.reset()
    x, labels = tasks()
    metric.update(x, dict(reversed(labels.items())))
    check(metric.compute())


def test_normalized_features_are_their_own_metric() -> None:
    x, labels = tasks()
    got = TaskOrthogonality(normalize=True)(3 * x, labels)
    unit = x / x.norm(dim=1, keepdim=True)
    expected = orthogonality_summary(unit, labels).scalars["kind-size/abs_cos"]
    assert float(got["kind-size/abs_cos"]) == pytest.approx(float(expected), rel=1e-5)


def test_bad_input_is_refused_at_update() -> None:
    x, labels = tasks()
    with pytest.raises(ValueError, match="at least two tasks"):
        TaskOrthogonality().update(x, {"kind": labels["kind"]})
    with pytest.raises(ValueError, match=r"task 'side': labels must be integers of shape \[40\]"):
        TaskOrthogonality().update(x, labels | {"side": labels["side"][:3]})
    with pytest.raises(ValueError, match=r"task 'kind': .* num_classes=3, got 3"):
        TaskOrthogonality({"kind": 3}).update(x, labels)
    metric = TaskOrthogonality()
    metric.update(x, labels)
    with pytest.raises(ValueError, match=r"tasks \['kind', 'size', 'side'\] of the first update"):
        metric.update(x, {name: labels[name] for name in ("kind", "size")})


def worker(rank: int, world: int, path: str, cuts: list[int], classes: dict | None) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=world)
    try:
        metric = TaskOrthogonality(classes)
        metric.update(*part(slice(cuts[rank], cuts[rank + 1])))
        check(metric.compute())
        assert sum(map(len, metric.features)) == cuts[rank + 1] - cuts[rank]
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize("cuts", [[0, 13, 40], [0, 40, 40]])
@pytest.mark.parametrize("classes", [None, {"kind": 4, "size": 3, "side": 2}])
def test_two_processes_give_the_numbers_of_one(
    cuts: list[int], classes: dict | None, tmp_path: Path
) -> None:
    mp.start_processes(
        worker, (2, str(tmp_path / "store"), cuts, classes), nprocs=2, start_method="fork"
    )
