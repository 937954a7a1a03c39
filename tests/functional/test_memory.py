"""The extra memory of the geometry stays under the size that its docstring states."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import re, sys, torch
from pathlib import Path
from dnc_lightning.functional import class_geometry
torch.set_num_threads(2)

def peak():
    # Not getrusage: a process begins there with the peak of the one that started it.
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

C, N, D = map(int, sys.argv[1:4])
x = torch.randn(N, D)
y = torch.randint(C, (N,))
class_geometry(x[: 4 * C], torch.arange(4 * C) % C)  # libraries, thread pools
before = peak()
g = class_geometry(x, y)
after = peak()
print((after - before) * 1024)
"""


@pytest.mark.slow
def test_a_thousand_classes_and_fifty_thousand_samples() -> None:
    """C = 1,000, N = 50,000, D = 2,048: features alone are 410 MB, all pairs of samples 10 GB."""
    done = subprocess.run(
        [sys.executable, "-c", CODE, "1000", "50000", "2048"],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert int(done.stdout) <= 200 * 2**20
