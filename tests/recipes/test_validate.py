"""The page of which number predicts what, from two short runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_two_short_runs_become_the_page(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "recipes.validate", "--runs", str(tmp_path / "runs")]
    command += ["--out", str(tmp_path), "--max-steps", "8", "--seeds", "0", "--data", "factors"]
    command += ["--methods", "vicreg", "mae", "--checkpoints", "4", "--per-class", "24"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    text = " ".join((tmp_path / "validation.md").read_text().split())
    assert "| Directional CDNV | " in text
    assert "Directional CDNV is number " in text
    assert (
        "4 tasks (factors, colour; factors, shape; " in text or "4 tasks (colour; shape; " in text
    )
    for made in ("validation.png", "validation/study.csv"):
        assert (tmp_path / made).stat().st_size > 0
    # What is there is neither trained nor measured again.
    records = sorted((tmp_path / "runs").rglob("records.jsonl"))
    before = [path.stat().st_mtime_ns for path in records]
    subprocess.run(command, capture_output=True, check=True)
    assert [path.stat().st_mtime_ns for path in records] == before
