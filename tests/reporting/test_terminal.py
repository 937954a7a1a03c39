"""The table and the line of a run in the terminal."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from dnc_lightning.records.store import RecordWriter, read_run
from dnc_lightning.reporting.compare.numbers import Fall
from dnc_lightning.reporting.terminal import fall_words, number_words, print_run, probe_line
from tests.reporting.further_runs import further_run

TASKS = {"colour": ["red", "yellow", "green"], "shape": ["circle", "square"]}


@pytest.mark.parametrize(
    ("first", "last", "words"),
    [
        (4.2, 1.0, "↓4.2x"),
        (1.0, 1.5, "↑1.50x"),
        (250.0, 1.0, "↓250x"),
        (1.0, 1.001, "same"),
        (1.0, math.nan, "-"),
        (0.0, 1.0, "-"),
    ],
)
def test_falls_in_words(first: float, last: float, words: str) -> None:
    assert fall_words(Fall(first, last)) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [(1.5, "1.50"), (0.0371, "0.0371"), (123.4, "123"), (1e-6, "1.0e-06"), (math.nan, "-")],
)
def test_numbers_in_words(value: float, words: str) -> None:
    assert number_words(value) == words


def printed(run: Path) -> str:
    file = io.StringIO()
    print_run(read_run(run), "a run", file)
    return file.getvalue()


def test_the_table_shows_the_records(make_run: Callable[..., Path]) -> None:
    folder = make_run(tasks=TASKS, records=12)
    text, run = printed(folder), read_run(folder)
    assert "a run  SimCLR · backbone · 12 probes · step 1,585" in text
    assert "overhead 0.83%" in text
    for task in TASKS:
        line = next(line for line in text.splitlines() if line.strip().startswith(task))
        for metric in ("directional_cdnv", "cdnv"):
            first, last = (run.records[i].scalars[f"probe/{task}/{metric}"] for i in (0, -1))
            assert f"{number_words(first)} → {number_words(last)}" in line
            assert fall_words(Fall(first, last)) in line
        needed = run.records[-1].scalars[f"probe/{task}/shots_needed"]
        assert f" {needed:,.0f} " in line


def test_two_encoders_warnings_and_markup(make_run: Callable[..., Path]) -> None:
    folder = make_run(encoders=("student", "teacher"), records=3, warnings=("[bold]odd[/bold]",))
    text = printed(folder)
    assert "student · label" in text
    assert "! [bold]odd[/bold] (steps 0 to 1,585, 3 probes)" in text


@pytest.mark.parametrize(
    "options",
    [{"records": 0}, {"records": 1}, {"records": 3, "undefined": True}, {"few_shot": False}],
)
def test_odd_runs_are_printed_too(make_run: Callable[..., Path], options: dict[str, int]) -> None:
    assert "SimCLR" in printed(make_run(**options))


def test_the_line_of_a_probe() -> None:
    header = {"prefixes": {"e": {"label": "p/label"}}, "shots": [1, 5, 10]}
    first = {"p/label/directional_cdnv": 0.56}
    now = {
        "p/label/directional_cdnv": 0.134,
        "p/label/certificate/5": 0.4051,
        "p/label/few_shot_error/1": 0.2,
        "p/label/few_shot_error/5": 0.1,
    }
    assert probe_line(now, first, header) == "dir 0.134 ↓4.2x | cert@5 0.406"
    assert probe_line(now, now, header) == "dir 0.134 | cert@5 0.406"
    assert probe_line({}, first, header) == ""


def test_the_line_of_several_tasks_says_so() -> None:
    header = {"prefixes": {"e": {"a": "p/a", "b": "p/b"}}, "shots": [5]}
    now = {"p/a/directional_cdnv": 1.0, "p/b/directional_cdnv": 4.0}
    now |= {"p/a/certificate/5": 0.3, "p/b/certificate/5": 0.8}
    assert probe_line(now, {}, header) == "dir 2.00 | cert@5 0.8 | 2 tasks"


def test_an_array_without_a_defined_value_is_named_all_the_same(tmp_path: Path) -> None:
    folder = further_run(tmp_path / "run", records=2)
    run = read_run(folder)
    writer = RecordWriter(folder)
    for record in run.records:
        arrays = {
            key: array * math.nan if key.endswith("spectrum") else array
            for key, array in run.matrices(record).items()
        }
        writer.replace(record, arrays)
    line = next(line for line in printed(folder).splitlines() if "Spectrum, 12" in line)
    assert line.split() == ["Spectrum,", "12", "colour", "-"]


def test_the_line_shows_the_shots_of_the_table(make_run: Callable[..., Path]) -> None:
    folder = make_run(tasks=TASKS, records=4)
    run = read_run(folder)
    line = probe_line(run.records[-1].scalars, run.records[0].scalars, run.header)
    table = next(line for line in printed(folder).splitlines() if "cert@" in line)
    assert line.split("| ")[1].split()[0] in table
