"""Over-collapse: one task at the cost of the others, told from what every run does."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from dnc_lightning.records.store import Record, RecordWriter, Run, read_run
from dnc_lightning.reporting.html import page
from dnc_lightning.reporting.live.rows import row
from dnc_lightning.reporting.read.narrowing import narrowings
from dnc_lightning.reporting.terminal import print_run

TASKS = {name: ["a", "b", "c"] for name in ("shape", "colour", "size")}


def run_of(folder: Path, shape: list[float], errors: dict[str, list[float]]) -> Run:
    """Directional CDNV of shape, and errors of the tasks, over the probes."""
    writer = RecordWriter(folder)
    prefixes = {"net": {task: f"probe/{task}" for task in TASKS}}
    writer.open({"name": "probe", "model": "M", "encoders": ["net"], "tasks": TASKS,
                 "prefixes": prefixes, "shots": [1, 5]})  # fmt: skip
    for step, directional in enumerate(shape):
        scalars: dict[str, float] = {}
        for task in TASKS:
            error = errors.get(task, [0.3] * len(shape))[step]
            scalars |= {
                f"probe/{task}/directional_cdnv_median": directional if task == "shape" else 1.0,
                f"probe/{task}/directional_cdnv": 1.0,
                f"probe/{task}/cdnv": 1.0,
                f"probe/{task}/few_shot_error/1": 0.5,
                f"probe/{task}/few_shot_error/5": error,
                f"probe/{task}/few_shot_error_se/5": 0.01,
            }
        writer.append(Record(step, 0, float(step), scalars), {})
    return read_run(folder)


FALLING = [4.0, 2.0, 0.5, 0.1, 0.05, 0.03]
RISING = [0.3, 0.3, 0.4, 0.45, 0.5, 0.55]


def test_a_task_that_collapses_at_the_cost_of_the_others_is_told_everywhere(tmp_path: Path) -> None:
    run = run_of(tmp_path, FALLING, {"colour": RISING, "size": RISING})
    (found,) = narrowings(run)
    assert (found.task, found.lost, found.since) == ("shape", ("colour", "size"), 2)
    assert "shape 4.00 → 0.0300" in found.words
    out = io.StringIO()
    print_run(run, file=out)
    told = " ".join(out.getvalue().split())
    assert "over-collapse: task shape is collapsed" in told
    assert "over-collapse: task shape" in page(run, finished=True)
    assert "over-collapse" in row(run)["cautions"][0]


CASES: dict[str, tuple[list[float], dict[str, list[float]]]] = {
    "others improve": (FALLING, {"colour": RISING[::-1], "size": RISING[::-1]}),
    "one of two others, which is half, within noise": (FALLING, {"colour": [0.3] + [0.34] * 5}),
    "it has turned back": ([4, 2, 0.5, 0.1, 0.4, 0.5], {"colour": RISING, "size": RISING}),
    "it has not collapsed": ([4, 3.5, 3, 3, 3, 3], {"colour": RISING, "size": RISING}),
    "others came back": (FALLING, {"colour": [0.3, 0.5, 0.5, 0.5, 0.5, 0.3]}),
    "two probes": ([4, 4, 4, 4, 0.1, 0.1], {"colour": RISING, "size": RISING}),
    "undefined": ([float("nan")] * 6, {"colour": RISING, "size": RISING}),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_none(tmp_path: Path, case: str) -> None:
    assert narrowings(run_of(tmp_path, *CASES[case])) == []


def test_half_of_the_others_is_enough(tmp_path: Path) -> None:
    (found,) = narrowings(run_of(tmp_path, FALLING, {"colour": RISING}))
    assert found.lost == ("colour",)


@pytest.mark.parametrize("records", [0, 1, 2])
def test_short_runs_have_none(tmp_path: Path, records: int) -> None:
    values: Any = {"colour": RISING}
    assert narrowings(run_of(tmp_path, FALLING[:records], values)) == []


def test_one_task_has_none(make_run: Any) -> None:
    assert narrowings(read_run(make_run(records=5))) == []
