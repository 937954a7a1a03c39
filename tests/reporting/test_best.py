"""Which probe each number calls the best, and what the measured error is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from dnc_lightning.cli import main
from dnc_lightning.records.store import Record, RecordWriter, read_run
from dnc_lightning.reporting.html import write_report
from dnc_lightning.reporting.read.best import best, checkpoint_of, choices
from dnc_lightning.series import Series

SERIES = (
    Series("few_shot_error/{m}", "Measured error, m={m}", "m", group="g", direction="lower"),
    Series("few_shot_error_se/{m}", "Standard error", "s", group="g"),
    Series("cdnv", "CDNV", "c", group="g", direction="lower"),
    Series("accuracy", "Accuracy", "a", group="g", direction="higher"),
    Series("flat", "Flat", "f", group="g", direction="lower"),
    Series("rare", "Rare", "r", group="g", direction="lower"),
    Series("rank", "Rank", "k", group="g", direction="higher", scope="features"),
)
STEPS = (0, 1, 10, 100)
VALUES = {
    "few_shot_error/5": (0.5, 0.31, 0.3, 0.4),
    "few_shot_error_se/5": (0.01, 0.01, 0.01, 0.01),
    "cdnv": (9.0, 2.0, 3.0, 1.0),
    "accuracy": (0.1, 0.6, float("nan"), 0.5),
    "flat": (1.0, 1.0, 1.0, 1.0),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "run" / "dnc" / "probe"
    folder.mkdir(parents=True)
    writer = RecordWriter(folder)
    writer.open(
        {
            "name": "probe",
            "encoders": ["net"],
            "tasks": {"label": ["a", "b"]},
            "prefixes": {"net": {"label": "probe/label"}},
            "shots": [5],
            "series": [one.to_json() for one in SERIES],
        }
    )
    for k, step in enumerate(STEPS):
        scalars = {f"probe/label/{key}": values[k] for key, values in VALUES.items()}
        scalars["probe/features/rank"] = float(k)
        if k in (0, 3):
            scalars["probe/label/rare"] = float(k)
        writer.append(Record(step, 0, 1.0, scalars), {})
    return folder


def test_the_best_step_its_error_and_whether_that_is_as_good(folder: Path) -> None:
    found = {entry.series.key: entry for entry in best(read_run(folder))}
    assert found.keys() == {"few_shot_error/{m}", "cdnv", "accuracy", "rank"}  # not flat, not rare
    told = {key: (e.step, e.value, e.error, e.worse) for key, e in found.items()}
    assert told == {
        "few_shot_error/{m}": (10, 0.3, 0.3, False),
        "cdnv": (100, 1.0, 0.4, True),
        "accuracy": (1, 0.6, 0.31, False),  # within two standard errors
        "rank": (100, 3.0, 0.4, True),
    }
    assert found["accuracy"].probes == 3
    assert found["few_shot_error/{m}"].title == "Measured error, m=5"
    (choice,) = choices(read_run(folder))
    assert choice.words("CDNV", "label") == "100, error 0.400"


def test_a_checkpoint_of_the_step_is_found(folder: Path) -> None:
    run = read_run(folder)
    assert checkpoint_of(run.folder, 10) is None
    kept = folder.parents[1] / "checkpoints" / "step-000010.ckpt"
    kept.parent.mkdir()
    kept.touch()
    assert checkpoint_of(run.folder, 10) == kept.resolve()
    assert checkpoint_of(run.folder, 100) is None


def test_the_terminal_and_the_page_show_it(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", str(folder), "--best"]) == 0
    printed = capsys.readouterr().out
    assert "Best by" in printed
    assert "10, error 0.300" in printed
    page = write_report(folder, folder / "report.html").read_text()
    assert "Which probe to keep" in page
    assert '<td class="good">10, error 0.300</td>' in page
    assert "<td>100, error 0.400</td>" in page


def test_a_run_of_two_probes_chooses_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = (folder / "records.jsonl").read_text().splitlines(keepends=True)
    (folder / "records.jsonl").write_text("".join(lines[:2]))
    assert best(read_run(folder)) == []
    assert main(["show", str(folder), "--best"]) == 0
    assert "recorded three times or more" in capsys.readouterr().out
