"""Processes that agree, as threads that sum over a barrier."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier, BrokenBarrierError
from typing import Any

import pytest
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from dnc_lightning.instruments import TorchMetric
from dnc_lightning.metrics import DirectionalCollapse
from dnc_lightning.probe.bench import Bench, Settings
from dnc_lightning.probe.labels import Task
from dnc_lightning.probe.processes import LostError, OtherRankError, Processes


class Wire:
    """Sums over threads that must all come within a second."""

    def __init__(self, size: int) -> None:
        self.barrier, self.sent = Barrier(size, timeout=1), [torch.zeros(())] * size

    def exchange(self, rank: int) -> Callable[[Tensor], Tensor]:
        def total(tensor: Tensor) -> Tensor:
            self.sent[rank] = tensor
            self.barrier.wait()
            assert len({(one.shape, one.dtype) for one in self.sent}) == 1
            found = torch.stack(self.sent).sum(0).to(tensor.dtype)
            self.barrier.wait()
            return found

        return total


def together(act: Callable[[Processes], Any], shards: tuple[int, ...] = (0, 1, 2)) -> list[Any]:
    """What `act` returns on each rank, or the error that it raises."""
    wire = Wire(len(shards))

    def run(rank: int) -> Any:
        count = len(set(shards))
        processes = Processes.join(rank, len(shards), wire.exchange(rank), shards[rank], count)
        try:
            return act(processes)
        except Exception as error:
            return error

    with ThreadPoolExecutor(len(shards)) as pool:
        return list(pool.map(run, range(len(shards))))


def test_sums_count_each_shard_once() -> None:
    """Ranks 0 and 2 hold one model together, as 1 and 3 do."""

    def act(processes: Processes) -> Any:
        values = torch.tensor([1.5, 10.0**processes.shard], dtype=torch.float64)
        return processes.leads, processes.own, processes.sum(values).tolist()

    found = together(act, (0, 1, 0, 1))
    assert [leads for leads, _, _ in found] == [True, True, False, False]
    assert [own for _, own, _ in found] == [slice(rank % 2, None, 2) for rank in range(4)]
    assert all(total == [3.0, 11.0] for _, _, total in found)


def test_a_shard_that_nobody_has_is_refused() -> None:
    wire = Wire(2)
    with ThreadPoolExecutor(2) as pool:
        made = [pool.submit(Processes.join, r, 2, wire.exchange(r), 0, 2) for r in range(2)]
        for one in made:
            with pytest.raises(ValueError, match="2 parts, but its 2 processes have the parts"):
                one.result()


def test_what_rank_zero_has_arrives_bit_by_bit() -> None:
    def act(processes: Processes) -> Any:
        wild = torch.tensor([float("nan"), -0.0, 5e-324], dtype=torch.float64)
        own = wild if processes.rank == 0 else torch.rand(3, dtype=torch.float64)
        return processes.of_rank_zero(own).view(torch.int64).tolist(), processes.decide(
            processes.rank + 0.25
        )

    found = together(act)
    assert found[0] == found[1] == found[2]
    assert found[0][1] == 0.25
    assert found[0][0][1:] == [-(2**63), 1]


def test_uneven_tensors_are_gathered_from_the_shards() -> None:
    def act(processes: Processes) -> Any:
        rows = torch.full((processes.shard, 2), processes.rank)
        scalar = torch.tensor(7 + processes.shard)
        return [t.tolist() for t in processes.gather(rows)], torch.stack(processes.gather(scalar))

    for rows, scalars in together(act, (0, 1, 2, 2)):
        assert rows == [[], [[1, 1]], [[2, 2], [2, 2]]]
        assert scalars.tolist() == [7, 8, 9]


@pytest.mark.parametrize("sums", [0, 1, 3])
def test_a_failure_reaches_all_wherever_they_are(sums: int) -> None:
    """Rank 1 fails after so many sums; the others wait in the next one, or at the end."""

    def act(processes: Processes) -> Any:
        def part() -> float:
            for done in range(3):
                if processes.rank == 1 and done == sums:
                    raise ArithmeticError("overflow")
                processes.sum(torch.ones(done + 1))
            if processes.rank == 1:
                raise ArithmeticError("overflow")
            return 1.0

        try:
            processes.attempt(part)
        except (ArithmeticError, OtherRankError) as error:
            return type(error), str(error), float(processes.sum(torch.ones(())))
        raise AssertionError

    other = (OtherRankError, "rank 1: ArithmeticError('overflow')", 3.0)
    assert together(act) == [other, (ArithmeticError, "overflow", 3.0), other]


def test_a_failure_ends_the_part_that_all_are_in() -> None:
    """Rank 1 fails outside of the inner part that the others are in, so they leave it too."""
    log: list[str] = []

    def act(processes: Processes) -> Any:
        def outer() -> None:
            if processes.rank == 1:
                raise ArithmeticError("outside")
            for part in range(2):
                try:
                    processes.attempt(lambda: processes.sum(torch.ones(2)))
                except OtherRankError:
                    log.append(f"{processes.rank} {part}")
            raise AssertionError("must have been told again")

        try:
            processes.attempt(outer)
        except Exception as error:
            return str(error), float(processes.sum(torch.ones(())))

    found = together(act)
    assert [total for _, total in found] == [3.0] * 3
    assert found[1][0] == "outside"
    assert all(part.endswith(("0", "1")) for part in log)


def test_an_inner_failure_is_dealt_with_inside() -> None:
    def act(processes: Processes) -> Any:
        def inner() -> None:
            if processes.rank == 2:
                raise ArithmeticError("inside")
            processes.sum(torch.ones(2))

        def outer() -> float:
            with pytest.raises((ArithmeticError, OtherRankError), match="inside"):
                processes.attempt(inner)
            return float(processes.sum(torch.ones(())))

        return processes.attempt(outer)

    assert together(act) == [3.0] * 3


def test_processes_that_part_are_told_so() -> None:
    def act(processes: Processes) -> Any:
        size = 2 if processes.rank else 3
        return processes.attempt(lambda: processes.sum(torch.ones(size)))

    for error in together(act):
        assert isinstance(error, OtherRankError)
        assert "rank 0: sum of torch.float32 [3]; rank 1: sum of torch.float32 [2]" in str(error)


def test_one_that_does_not_come_is_lost_at_the_deadline() -> None:
    def act(processes: Processes) -> Any:
        if processes.rank == 2:
            return None
        for _ in range(2):
            with pytest.raises(LostError):
                processes.attempt(lambda: processes.sum(torch.ones(())))
        return processes.decide(5.0 + processes.rank), bool(processes.lost)

    assert together(act) == [(5.0, True), (6.0, True), None]


def test_alone_everything_is_at_hand() -> None:
    alone, values = Processes(), torch.rand(3)
    assert alone.reduce is None
    assert alone.sum(values) is values
    assert alone.own == slice(0, None, 1)
    assert alone.attempt(lambda: 3) == 3
    assert alone.decide(0.5) == 0.5
    with pytest.raises(BrokenBarrierError):
        alone.attempt(lambda: (_ for _ in ()).throw(BrokenBarrierError()))


class Mean(Metric):
    """The mean of all features, and of their squares in the order of the samples."""

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros(()), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros(()), dist_reduce_fx="sum")
        self.add_state("rows", [], dist_reduce_fx="cat")

    def update(self, features: Tensor, labels: Tensor) -> None:
        self.total += features.sum()
        self.count += features.numel()
        self.rows.append(features)

    def compute(self) -> dict[str, Tensor]:
        rows = dim_zero_cat(self.rows)
        return {"mean": self.total / self.count, "rows": torch.tensor(float(len(rows)))}


def test_metrics_of_others_count_each_shard_once() -> None:
    """Ranks 0 and 1 hold one model together; the second shard is larger."""
    features, labels = torch.rand(7, 3), torch.arange(7) % 2
    parts = {0: slice(0, 2), 1: slice(2, 7)}

    def act(processes: Processes) -> Any:
        own = parts[processes.shard]
        task = {"label": Task(labels[own], ("a", "b"))}
        bench = Bench(features[own], task, Settings(), processes=processes)
        ours = TorchMetric(DirectionalCollapse()).measure(bench)
        return TorchMetric(Mean()).measure(bench), ours

    for found, ours in together(act, (0, 0, 1)):
        assert found.instead == pytest.approx({"mean": float(features.mean()), "rows": 7.0})
        assert "several hold one model together" in ours.warnings[0]


def test_a_metric_that_fails_on_one_rank_says_which() -> None:
    def act(processes: Processes) -> Any:
        features = torch.rand(4, 3) if processes.rank else torch.rand(4)
        bench = Bench(features, {"label": Task(torch.arange(4), tuple("abcd"))}, Settings())
        bench = replace(bench, processes=processes)
        return TorchMetric(DirectionalCollapse()).measure(bench).warnings[0]

    first, second, _ = together(act)
    assert "ValueError" in first
    assert "rank 0: ValueError" in second


def test_a_tensor_that_cannot_be_sent_is_a_failure_like_any_other() -> None:
    """As where a device has run out of memory: found before the others are told to come."""

    def act(processes: Processes) -> Any:
        device = "meta" if processes.rank == 1 else "cpu"
        with pytest.raises((NotImplementedError, OtherRankError)) as raised:
            processes.attempt(lambda: processes.sum(torch.empty(2, device=device)))
        return raised.type, float(processes.sum(torch.ones(())))

    other = (OtherRankError, 3.0)
    assert together(act) == [other, (NotImplementedError, 3.0), other]
