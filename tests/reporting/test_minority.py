"""Minority collapse, told from the evidence of several probes, and on every surface."""

from __future__ import annotations

import io
import math
from pathlib import Path

import pytest

from dnc_lightning.records.store import Record, RecordWriter, Run, read_run
from dnc_lightning.reporting.html import page
from dnc_lightning.reporting.live.rows import row
from dnc_lightning.reporting.read.minority import minority_collapses
from dnc_lightning.reporting.terminal import print_run

HEALTHY = {"minority_distance": 0.9, "minority_unresolved": 0.1, "majority_unresolved": 0.1,
           "unresolved_excess": 0.0, "head_cosine": -0.1, "head_length": 0.9}  # fmt: skip


def run_of(folder: Path, *probes: dict[str, float]) -> Run:
    writer = RecordWriter(folder)
    writer.open({"name": "probe", "model": "M", "encoders": ["net"], "tasks": {"label": ["a", "b"]},
                 "prefixes": {"net": {"label": "probe/label"}}})  # fmt: skip
    for step, changes in enumerate(probes):
        values = HEALTHY | changes
        scalars = {f"probe/label/imbalance/{name}": value for name, value in values.items()}
        base = {f"probe/label/{key}": 1.0 for key in ("cdnv", "directional_cdnv")}
        writer.append(Record(step, 0, float(step), scalars | base), {})
    return read_run(folder)


@pytest.mark.parametrize(
    ("sign", "words"),
    [
        ({"minority_distance": 0.05}, "0.0500 of the usual squared distance"),
        ({"minority_unresolved": 0.8, "unresolved_excess": 3.0}, "80% of their pairs"),
        ({"head_cosine": 0.97}, "at least 0.97"),
        ({"head_length": 0.01}, "0.0100 of the median's length"),
    ],
)
def test_each_sign_is_enough_where_it_stays(
    sign: dict[str, float], words: str, tmp_path: Path
) -> None:
    run = run_of(tmp_path, {}, {}, sign, sign, sign)
    (found,) = minority_collapses(run)
    assert (found.encoder, found.task, found.since) == ("net", "label", 2)
    assert words in found.words


def test_it_is_told_everywhere(tmp_path: Path) -> None:
    gone = {"head_cosine": 0.99}
    run = run_of(tmp_path, {}, gone, gone, gone)
    out = io.StringIO()
    print_run(run, file=out)
    assert "minority collapse of task label" in " ".join(out.getvalue().split())
    assert "minority collapse of task label" in page(run, finished=True)
    assert "minority collapse" in row(run)["cautions"][0]


@pytest.mark.parametrize(
    "probes",
    [
        [{}, {}, {}, {}],
        [{}, {"head_cosine": 0.99}, {}, {"head_cosine": 0.99}],  # comes and goes
        [{}, {}, {"head_cosine": 0.99}, {"head_cosine": 0.99}],  # too few probes
        [{"minority_distance": 0.05}] * 5,  # alike before training: those classes look alike
        [dict.fromkeys(HEALTHY, math.nan)] * 5,
    ],
)
def test_what_is_no_evidence_is_not_told(probes: list[dict[str, float]], tmp_path: Path) -> None:
    assert minority_collapses(run_of(tmp_path, *probes)) == []


def test_a_run_without_the_instrument_says_nothing(tmp_path: Path) -> None:
    writer = RecordWriter(tmp_path)
    writer.open({"name": "probe", "encoders": ["net"], "tasks": {"label": ["a", "b"]},
                 "prefixes": {"net": {"label": "probe/label"}}})  # fmt: skip
    assert minority_collapses(read_run(tmp_path)) == []
