"""The page says what the records say, and the runs that it needs are made once."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from dnc_lightning.records.store import Record, RecordWriter, read_run
from recipes.outcome import METHODS, Outcome
from recipes.reproduce import Job, main, run_all
from recipes.reproduction_page import AIM, write_page

VALUES = {  # task -> CDNV first and last, directional CDNV first and last
    "colour": (8.0, 4.0, 1.0, 0.05),
    "shape": (50.0, 5.0, 4.0, 0.1),
}


def outcome(
    folder: Path, method: str, data: str, values=VALUES, encoders=("backbone",), seed=0
) -> Outcome:
    writer = RecordWriter(folder)
    classes = {task: ["a", "b"] for task in values}
    writer.open({"encoders": list(encoders), "tasks": classes, "shots": [5, 50]})
    part = "student/" if len(encoders) > 1 else ""
    for k, step in enumerate((0, 100)):
        scalars = {}
        for task, numbers in values.items():
            key = f"probe/{part}{task}"
            scalars[f"{key}/cdnv_median"] = numbers[k]
            scalars[f"{key}/directional_cdnv_median"] = numbers[2 + k]
            for m in (5, 50):
                scalars[f"{key}/few_shot_error/{m}"] = 0.5 - 0.1 * k
                scalars[f"{key}/certificate/{m}"] = 1.0 - 0.2 * k
        if len(values) > 1:
            scalars[f"probe/{part}orthogonality/colour-shape/abs_cos"] = 0.6 - 0.5 * k
            scalars[f"probe/{part}orthogonality/colour-shape/bound"] = 0.9 - 0.4 * k
            scalars[f"probe/{part}orthogonality/floor"] = 0.08
        writer.append(Record(step=step, epoch=0, time=30.0 * k, scalars=scalars), {})
    return Outcome(method, data, read_run(folder), seed)


def test_falls_are_averaged_over_tasks_by_the_geometric_mean(tmp_path):
    found = outcome(tmp_path, "simclr", "factors")
    assert found.typical("cdnv") == pytest.approx((20.0, math.sqrt(20)))
    assert found.typical("directional_cdnv") == pytest.approx((2.0, math.sqrt(0.005)))
    falls = (2.0 / math.sqrt(0.005), 20 / math.sqrt(20))
    assert found.ratio_of_falls == pytest.approx(falls[0] / falls[1])


def test_the_page_holds_the_numbers_and_the_verdicts(tmp_path):
    weak = {"colour": (8.0, 4.0, 1.0, 0.4), "shape": (50.0, 25.0, 4.0, 1.6)}
    none = {"colour": (8.0, 2.0, 1.0, 0.5), "shape": (50.0, 12.5, 4.0, 2.0)}
    outcomes = [
        outcome(tmp_path / "a", "simclr", "factors"),
        outcome(tmp_path / "b", "vicreg", "factors", weak),
        outcome(tmp_path / "c", "dino", "factors", none, encoders=("student", "teacher")),
        outcome(tmp_path / "d", "mae", "fashion", {"label": (9.0, 3.0, 0.3, 0.2)}),
        outcome(tmp_path / "e", "supervised", "fashion", {"label": (9.0, 3.0, 0.3, 0.1)}),
    ]
    page = write_page(outcomes, tmp_path / "docs")
    text = page.read_text()
    assert "SimCLR shows it: directional CDNV fell 6.3 times further." in text
    assert "VICReg shows it weakly: directional CDNV fell 1.2 times further" in text
    assert "DINO (student) does not show it at this scale: CDNV fell 2.0 times further." in text
    assert "| SimCLR | 100 (30 s) | 20 → 4.47 | 4.5x | 2 → 0.0707 | 28.3x | **6.3** |" in text
    assert "| SimCLR | colour | 8 → 4 | 1 → 0.05 | 10.0 | 0.5 → 0.4 | 0.5 → 0.4 |" in text
    assert "| task | m | measured | certificate | joint | Theorem 4.1 | 2025 |" in text
    assert "| colour | 5 | 0.5 → 0.4 | " in text
    assert "| SimCLR | 0.6 → 0.1 | 0.080 | 1.25 | 0.6 → 0.1 (bound 0.50) |" in text
    assert "baseline saw the labels of 'label': there CDNV fell 3.0x and directional" in text
    assert text.count("supervised baseline saw") == 1
    assert "took 2 minutes" in text
    for data in ("factors", "fashion", "factors-angles"):
        assert f"(reproduction/{data}.png)" in text
        assert (tmp_path / "docs" / "reproduction" / f"{data}.png").stat().st_size > 5_000


@pytest.mark.parametrize(
    ("recipe", "table"), [("barlow", "METHODS in recipes/outcome.py"), ("moco", "AIM in recipes")]
)
def test_a_recipe_without_an_aim_is_no_baseline(tmp_path, monkeypatch, recipe, table):
    monkeypatch.setitem(METHODS, "moco", "MoCo")
    runs = [outcome(tmp_path / name, name, "factors") for name in ("simclr", recipe)]
    with pytest.raises(ValueError, match=f"no entry for the recipe '{recipe}' in {table}"):
        write_page(runs, tmp_path / "docs")
    assert not (tmp_path / "docs").exists()


def test_nothing_is_trained_for_a_page_that_could_not_be_written(tmp_path, monkeypatch):
    monkeypatch.delitem(AIM, "dino")
    monkeypatch.setattr("sys.argv", ["reproduce", f"--out={tmp_path}"])
    trained = []
    monkeypatch.setattr("recipes.reproduce.run_all", lambda jobs, parallel: trained.extend(jobs))
    with pytest.raises(ValueError, match="no entry for the recipe 'dino' in AIM"):
        main()
    assert not trained


def test_other_seeds_are_compared_in_a_table_of_their_own(tmp_path):
    other = {"colour": (8.0, 4.0, 1.0, 0.1), "shape": (50.0, 5.0, 4.0, 0.2)}
    outcomes = [
        outcome(tmp_path / "a", "simclr", "factors"),
        outcome(tmp_path / "b", "simclr", "factors", other, seed=1),
        outcome(tmp_path / "c", "mae", "factors"),
    ]
    text = write_page(outcomes, tmp_path / "docs").read_text()
    assert "| SimCLR | 0 | 6.3 | 0.100 | 1.25 | 0.5 → 0.4 | 0.5 → 0.4 |" in text
    assert "| SimCLR | 1 | 3.2 | 0.100 | 1.25 | 0.5 → 0.4 | 0.5 → 0.4 |" in text
    assert text.count("| SimCLR | 100 (30 s) |") == 1  # the other tables are of one seed
    assert "| MAE | 0 |" not in text


def test_seeds_have_folders_of_their_own(tmp_path):
    first, second = (Job("simclr", "factors", tmp_path, seed) for seed in (0, 1))
    assert first.config == second.config
    assert [job.folder.name for job in (first, second)] == [
        "simclr_factors",
        "simclr_factors_seed1",
    ]


@pytest.mark.slow
def test_a_run_is_made_once_and_goes_on_where_it_stopped(tmp_path, monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[2])  # `python -m recipes.supervised` needs it
    short = Job("supervised", "factors", tmp_path, max_steps=1)
    run_all([short], parallel=1)
    first = short.records()
    assert [record.step for record in first] == [0, 1]
    run_all([short], parallel=1)
    assert [record.time for record in short.records()] == [record.time for record in first]
    longer = Job("supervised", "factors", tmp_path, max_steps=3)
    run_all([longer], parallel=1)
    assert [record.step for record in longer.records()] == [0, 1, 2, 3]
    assert [record.time for record in longer.records()][:2] == [record.time for record in first]


def test_a_failed_run_names_its_log(tmp_path, monkeypatch):
    job = Job("supervised", "factors", tmp_path, max_steps=1)
    monkeypatch.chdir(tmp_path)  # no recipes here
    monkeypatch.setenv("PYTHONSAFEPATH", "1")
    with pytest.raises(RuntimeError, match=r"supervised_factors failed: see .*log\.txt"):
        run_all([job], parallel=1)
