"""How much memory is left, by files as the kernel writes them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dnc_lightning.probe import bank as bank_module
from dnc_lightning.probe.bank import ImageBank
from dnc_lightning.probe.memory import free_host_memory
from dnc_lightning.probe.reading import Loading

GB = 2**30
CPU = torch.device("cpu")


@pytest.fixture
def system(tmp_path: Path) -> Path:
    write(
        tmp_path / "proc/meminfo",
        f"MemTotal: {32 * GB // 1024} kB\nMemFree: {GB // 1024} kB\n"
        f"MemAvailable: {20 * GB // 1024} kB\nHugePages_Total: 0\n",
    )
    (tmp_path / "cgroup").mkdir()
    return tmp_path


def write(path: Path, text: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


def group(folder: Path, limit: object, used: int, cache: int) -> None:
    write(folder / "memory.max", limit)
    write(folder / "memory.current", used)
    write(folder / "memory.stat", f"anon {used - cache}\nfile {cache}\ninactive_file {cache}")


def old_group(folder: Path, limit: int, used: int, cache: int) -> None:
    write(folder / "memory.limit_in_bytes", limit)
    write(folder / "memory.usage_in_bytes", used)
    write(folder / "memory.stat", f"inactive_file 7\ntotal_inactive_file {cache}")


def free(system: Path) -> float:
    return free_host_memory(system / "proc", system / "cgroup") / GB


def test_page_cache_is_free(system: Path) -> None:
    assert free(system) == 20


def test_a_group_of_version_2_limits(system: Path) -> None:
    write(system / "proc/self/cgroup", "0::/user/job")
    group(system / "cgroup/user/job", "max", 9 * GB, 0)
    assert free(system) == 20
    group(system / "cgroup/user/job", 8 * GB, 7 * GB, 3 * GB)
    assert free(system) == 4
    group(system / "cgroup/user", 10 * GB, 8 * GB, 0)  # shared with others
    assert free(system) == 2
    group(system / "cgroup/user", 10 * GB, 11 * GB, 0)
    assert free(system) == 0
    group(system / "cgroup/user", 100 * GB, 11 * GB, 0)
    assert free(system) == 4


def test_a_container_sees_its_own_group_at_the_root(system: Path) -> None:
    write(system / "proc/self/cgroup", "0::/docker/4f1a")
    group(system / "cgroup", 6 * GB, GB, 0)
    assert free(system) == 5
    write(system / "proc/self/cgroup", "0::/")
    assert free(system) == 5


def test_a_group_of_version_1_limits(system: Path) -> None:
    write(system / "proc/self/cgroup", "5:cpu,cpuacct:/job\n3:memory:/job\n0::/")
    old_group(system / "cgroup/memory/job", 9223372036854771712, GB, 0)
    assert free(system) == 20
    old_group(system / "cgroup/memory/job", 8 * GB, 6 * GB, GB)
    assert free(system) == 3
    old_group(system / "cgroup/cpu/job", GB, 0, 0)  # another controller's
    assert free(system) == 3


def test_a_system_that_tells_nothing(tmp_path: Path) -> None:
    assert free(tmp_path) > 0


def test_this_machine_tells() -> None:
    assert 0 < free_host_memory() < 2**50


@pytest.mark.parametrize(("floats", "kept"), [(True, 25), (False, 100)])
def test_bytes_decide_and_neighbours_share(
    floats: bool, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of 20,000 bytes holds 100 images of 100 bytes and 25 of 100 floats."""
    monkeypatch.setattr(bank_module, "free_host_memory", lambda: 20_000.0)
    torch.manual_seed(0)
    images = torch.rand(200, 1, 10, 10) if floats else torch.randint(9, (200, 1, 10, 10)) / 8 - 1

    def build(n: int, neighbours: int = 1) -> ImageBank:
        loading = Loading(neighbours=neighbours)
        return ImageBank.build(images.__getitem__, range(n), CPU, progress=False, loading=loading)

    assert build(kept).storage == "host"
    assert build(kept // 2, 2).storage == "host"
    for bank in (build(kept + 1), build(kept, 2)):
        assert bank.storage == "stream"
        assert torch.equal(torch.cat(list(bank.batches(7, CPU))), images[: len(bank.positions)])
        (note,) = bank.loading.notes
        assert "decoded anew at each probe" in note
