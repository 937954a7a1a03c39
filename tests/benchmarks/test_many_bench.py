"""What docs/measurements.md says about many classes and many processes. Run by `make bench`.

Times are those of the processor, one thread a process, so that a busy machine changes their ratios
little.
"""

from __future__ import annotations

import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from dnc_lightning.functional import class_geometry, population_estimate
from dnc_lightning.functional.few_shot import Shard, ncc_errors
from dnc_lightning.functional.summary import population_summary
from dnc_lightning.instruments import collapse, few_shot, guarantee, variance
from dnc_lightning.probe.bench import Bench, Settings
from dnc_lightning.probe.instrument import expected
from dnc_lightning.probe.labels import Task

pytestmark = pytest.mark.bench

SHOTS = (1, 5, 10, 50, 100)
LINE = "{:>6} {:>4} {:>5}  {:12} {:>9} {:>8} {:>9}"


def shard(classes: int, n: int, d: int, rank: int = 0, world: int = 1) -> tuple[Tensor, Tensor]:
    """Every `world`-th sample of the whole set."""
    centres = torch.randn(classes, d, generator=torch.Generator().manual_seed(0))
    labels = (torch.arange(classes * n) % classes)[shuffled(classes * n)[rank::world]]
    noise = torch.Generator().manual_seed(1 + rank)
    return centres[labels] + 2 * torch.randn(len(labels), d, generator=noise), labels


def shuffled(samples: int) -> Tensor:
    return torch.randperm(samples, generator=torch.Generator().manual_seed(0))


def seconds(work: Callable[[], Any]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def memory(field: str) -> int:
    """Of this process, in KB."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{field}:")[1].split()[0])


def probe(classes: int, n: int, d: int) -> None:
    """Print what every instrument of a thorough probe costs."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    features, labels = shard(classes, n, d)
    centres = torch.randn(d, classes)
    product = min(
        seconds(lambda: [part @ centres for part in features.split(2**14)]) for _ in range(3)
    )
    # One after the other as a probe does; intervals are part of those that ask first.
    instruments = [one.INSTRUMENT for one in (collapse, few_shot, guarantee, variance)]
    here = expected(instruments, {"label": [n] * classes}, SHOTS, thorough=True)["label"]
    bench = Bench(
        features,
        {"label": Task(labels, tuple(map(str, range(classes))))},
        Settings(shots=SHOTS),
        thorough=True,
        wanted=frozenset(key for one in here for key in one.numbers),
    )
    parts: dict[str, Callable[[], Any]] = {
        "geometry": lambda: bench.geometry,
        "intervals": lambda: bench.intervals,
    }
    parts |= {one.name: lambda one=one: one.measure(bench) for one in instruments}
    total, peak = 0.0, 0.0
    for name, work in parts.items():
        Path("/proc/self/clear_refs").write_text("5")
        before = memory("VmRSS")
        took = seconds(work)
        scratch = (memory("VmHWM") - before) / 2**20
        total, peak = total + took, max(peak, scratch)
        print(row(classes, n, d, name, took, product, scratch), flush=True)
    ordinary = total - seconds_of["intervals"] - seconds_of["guarantee"]
    print(row(classes, n, d, "ordinary", ordinary, product, peak))
    print(row(classes, n, d, "thorough", total, product, peak), flush=True)


seconds_of: dict[str, float] = {}


def row(classes: int, n: int, d: int, name: str, took: float, product: float, gb: float) -> str:
    seconds_of[name] = took
    return LINE.format(
        classes, n, d, name, f"{took:.2f} s", f"{took / product:.2f}", f"{gb:.2f} GB"
    )


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("classes", "n", "d"), [(100, 50, 2_048), (1_000, 50, 2_048), (5_000, 5, 512), (10_000, 5, 512)]
)
def test_growth_with_classes(classes: int, n: int, d: int) -> None:
    """Run with -s for the table: seconds, that over one N x D x C product, and scratch memory."""
    code = f"from tests.benchmarks.test_many_bench import probe; probe({classes}, {n}, {d})"
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True
    )
    print(f"\n{LINE.format('C', 'n', 'D', 'what', 'time', 'products', 'scratch')}\n{done.stdout}")
    found = {line.split()[3]: line.split()[4:] for line in done.stdout.splitlines()}
    if classes == 1_000:
        assert float(found["ordinary"][2]) <= 10
        assert float(found["thorough"][2]) <= 40
        assert float(found["thorough"][3]) <= 2
    assert float(found["thorough"][3]) <= 12


# Many processes


class Counter:
    """Sums over all processes, and counts what it sends."""

    def __init__(self) -> None:
        self.calls, self.bytes = 0, 0

    def __call__(self, tensor: Tensor) -> Tensor:
        self.calls, self.bytes = self.calls + 1, self.bytes + tensor.nbytes
        tensor = tensor.contiguous()
        if dist.is_initialized():
            dist.all_reduce(tensor)
        return tensor


def measured(
    classes: int, n: int, d: int, rank: int, world: int
) -> list[tuple[str, float, Counter]]:
    features, labels = shard(classes, n, d, rank, world)
    whole = (torch.arange(classes * n) % classes)[shuffled(classes * n)]
    if world == 1:
        whole = labels
    rows = torch.arange(rank, classes * n, world)
    parts: dict[str, Callable[[Counter], Any]] = {
        "geometry": lambda total: class_geometry(
            features, labels, num_classes=classes, reduce=total if world > 1 else None
        ),
        "ncc_errors": lambda total: ncc_errors(
            features, labels, shots=[1, 5, 10], episodes=10, shard=Shard(whole, rows, total)
        ),
        "intervals": lambda total: population_estimate(
            features, labels, population_summary(SHOTS)[1], num_classes=classes,
            reduce=total if world > 1 else None,
        ),
    }  # fmt: skip
    found = []
    for name, work in parts.items():
        total = Counter()
        found.append((name, seconds(lambda work=work, total=total: work(total)), total))
    return found


def worker(rank: int, world: int, folder: str, size: tuple[int, int, int]) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if world > 1:
        dist.init_process_group(
            "gloo", init_method=f"file://{folder}/{world}", rank=rank, world_size=world
        )
    try:
        lines = [
            f"{world:>9} {name:12} {took:8.2f} s {total.calls:>6} {total.bytes / 1e9:7.3f} GB"
            for name, took, total in measured(*size, rank, world)
        ]
        Path(f"{folder}/{world}-{rank}.txt").write_text("\n".join(lines))
    finally:
        if world > 1:
            dist.destroy_process_group()


def test_eight_processes_against_one(tmp_path: Path) -> None:
    """Run with -s for the table: time and bytes of one rank of eight, and of one process."""
    print("\nprocesses what             time  calls   bytes (C = 1,000, n = 50, D = 2,048)")
    for world in (1, 8):
        mp.start_processes(
            worker, (world, str(tmp_path), (1_000, 50, 2_048)), nprocs=world, start_method="spawn"
        )
        print((tmp_path / f"{world}-0.txt").read_text(), flush=True)
    geometry = (tmp_path / "8-0.txt").read_text().splitlines()[0].split()
    assert int(geometry[4]) <= 40
    assert float(geometry[5]) <= 1
