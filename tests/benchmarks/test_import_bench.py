"""What importing costs. Run by `make bench`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

pytestmark = pytest.mark.bench


def test_importing_against_lightning(ratio: Callable[..., float]) -> None:
    """What a user of the callback imports, over `import lightning`, each in a new process."""

    def run(code: str) -> None:
        subprocess.run([sys.executable, "-c", code], check=True)

    value = ratio(
        lambda: run("from dnc_lightning import ProbeCallback, ProbeSet"),
        lambda: run("import lightning"),
        rounds=3,
    )
    assert value <= 1.5
