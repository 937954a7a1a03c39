from __future__ import annotations

from pathlib import Path

import matplotlib
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torchmetrics import MetricCollection

from dnc_lightning.functional import COLLAPSE_KEYS, class_geometry, collapse_summary
from dnc_lightning.metrics import DirectionalCollapse
from tests.functional import reference

matplotlib.use("Agg")


def data() -> tuple[torch.Tensor, torch.Tensor]:
    x, y = reference.asymmetric(0, (9, 14, 6, 11), 8)
    return torch.as_tensor(x).float(), torch.as_tensor(y)


def expected() -> dict[str, torch.Tensor]:
    return collapse_summary(class_geometry(*data()))


def check(got: dict[str, torch.Tensor], rel: float = 1e-4) -> None:
    assert tuple(got) == COLLAPSE_KEYS
    for key, value in expected().items():
        assert float(got[key]) == pytest.approx(float(value), rel=rel), key


def test_batches_add_up() -> None:
    x, y = data()
    metric = DirectionalCollapse()
    for begin in range(0, 40, 7):
        metric.update(x[begin : begin + 7], y[begin : begin + 7])
    check(metric.compute())
    metric.reset()
    check(metric(x, y))


def test_normalized_features_are_their_own_metric() -> None:
    x, y = data()
    metric = DirectionalCollapse(normalize=True)
    unit = x / x.norm(dim=1, keepdim=True)
    value = metric(3 * x, y)["cdnv"]
    assert float(value) == pytest.approx(
        float(collapse_summary(class_geometry(unit, y))["cdnv"]), rel=1e-5
    )


def test_in_a_collection_and_plotted() -> None:
    x, y = data()
    both = MetricCollection(
        {"raw": DirectionalCollapse(4), "unit": DirectionalCollapse(4, normalize=True)}
    )
    both.update(x, y)
    values = both.compute()
    assert values["raw_cdnv"] != values["unit_cdnv"]
    metric = DirectionalCollapse(4)
    history = [metric(x, y) for _ in range(3)]
    figure, _ = metric.plot(history)
    assert figure is not None
    matplotlib.pyplot.close("all")


def test_bad_input_is_refused_at_update() -> None:
    x, y = data()
    with pytest.raises(ValueError, match=r"labels must be integers of shape \[40\]"):
        DirectionalCollapse().update(x, y[:3])
    with pytest.raises(ValueError, match="num_classes=3, got 3"):
        DirectionalCollapse(3).update(x, y)


def worker(rank: int, world: int, path: str, cuts: list[int], num_classes: int | None) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=world)
    try:
        x, y = data()
        metric = DirectionalCollapse(num_classes)
        metric.update(x[cuts[rank] : cuts[rank + 1]], y[cuts[rank] : cuts[rank + 1]])
        check(metric.compute())
        local = metric.features
        assert sum(len(f) for f in local) == cuts[rank + 1] - cuts[rank]
        assert not metric._is_synced
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize("cuts", [[0, 13, 40], [0, 40, 40]])
@pytest.mark.parametrize("num_classes", [None, 4])
def test_two_processes_give_the_numbers_of_one(
    cuts: list[int], num_classes: int | None, tmp_path: Path
) -> None:
    mp.start_processes(
        worker, (2, str(tmp_path / "store"), cuts, num_classes), nprocs=2, start_method="fork"
    )
