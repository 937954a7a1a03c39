"""How much more memory this process may take, by what the system says of itself and its group."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


def free_host_memory(proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> float:
    """Memory of the host in bytes that can be had without swapping; infinite if nothing tells.

    The least of what the machine has available, page cache that it can give back included, and
    what each control group (versions 1 and 2) around this process has left below its limit, where
    its inactive page cache counts as free too.

    Args:
        proc: Where the kernel describes processes and memory.
        cgroup: Where control groups are mounted.
    """
    return min([_available(proc), *_left_in_groups(proc, cgroup)])


def _available(proc: Path) -> float:
    try:
        fields = _fields(proc / "meminfo")
        return 1024.0 * fields["MemAvailable:"]
    except (OSError, KeyError, ValueError):
        pass
    try:
        return float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (ValueError, OSError, AttributeError):
        return float("inf")


def _left_in_groups(proc: Path, cgroup: Path) -> Iterator[float]:
    """Bytes that each group around this process has left, as far as the files can be read."""
    try:
        lines = (proc / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            files = cgroup, "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            version_1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            files = cgroup / "memory", *version_1
        else:
            continue
        root, limit, used, cache = files
        # Of a container the path may be that of the host: then only the mounted root is there.
        own = root / path.lstrip("/")
        for folder in (own, *(parent for parent in own.parents if parent.is_relative_to(root))):
            try:
                most = int((folder / limit).read_text())
                taken = int((folder / used).read_text())
                taken -= int(_fields(folder / "memory.stat").get(cache, 0))
            except (OSError, ValueError):  # no such group, or its limit is "max"
                continue
            yield max(0.0, float(most - taken))


def _fields(path: Path) -> dict[str, int]:
    """Numbers by the first word of their lines."""
    words = (line.split() for line in path.read_text().splitlines())
    return {line[0]: int(line[1]) for line in words if len(line) > 1}
