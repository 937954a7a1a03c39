"""The `dnc` command, from its words to what it leaves behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from dnc_lightning.cli import main, parser
from dnc_lightning.records.store import RECORDS_FILE, read_run
from tests.reporting.conftest import write_run

ROOT = Path(__file__).parents[1]
TASKS = {"colour": ["red", "yellow", "green"], "shape": ["circle", "square"]}

Output = pytest.CaptureFixture[str]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two methods, the first with two seeds, each in the folder of a callback."""
    for method, seeds in (("simclr", 2), ("vicreg", 1)):
        for seed in range(seeds):
            folder = tmp_path / "runs" / method / f"seed{seed}" / "dnc" / "probe"
            write_run(folder, records=4, tasks=TASKS)
    return tmp_path / "runs"


def test_the_entry_point_is_this_command() -> None:
    # As text: the reader of TOML came with Python 3.11.
    project = (ROOT / "pyproject.toml").read_text()
    assert '[project.scripts]\ndnc = "dnc_lightning.cli:main"\n' in project
    for extra in ("report", "figures", "wandb", "tensorboard"):
        assert f"\n{extra} = [" in project


def test_it_starts_without_torch_or_plots() -> None:
    heavy = "{'torch', 'lightning', 'plotly', 'matplotlib', 'wandb', 'rich'}"
    code = (
        "import sys, dnc_lightning.cli as cli; cli.parser().format_help(); "
        f"loaded = {heavy} & set(sys.modules); assert not loaded, loaded"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize("command", ["", "show", "report", "figures", "wandb-workspace"])
def test_it_explains_itself(command: str, capsys: Output) -> None:
    with pytest.raises(SystemExit) as left:
        main([*command.split(), "--help"])
    assert left.value.code == 0
    assert f"usage: dnc {command}".strip() in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "folder"),
    [
        (["evaluate", "a.b:c", "--data", "images"], "evaluation"),
        (["replay", "checkpoints", "--data", "images"], "replay"),
        (["zoo", "zoo.yaml"], "zoo"),
    ],
)
def test_each_command_writes_to_a_folder_of_its_own(words: list[str], folder: str) -> None:
    assert parser().parse_args(words).out == Path(folder)


def test_show_prints_a_table_for_each_run(runs: Path, capsys: Output) -> None:
    assert main(["show", str(runs)]) == 0
    out, err = capsys.readouterr()
    assert all(
        f"{name}  SimCLR" in out for name in ("simclr/seed0", "simclr/seed1", "vicreg/seed0")
    )
    assert out.count("shape") == 3
    assert err == ""


def test_one_run_gives_its_page(runs: Path, capsys: Output) -> None:
    assert main(["report", str(runs / "vicreg")]) == 0
    path = Path(capsys.readouterr().out.strip())
    assert path == runs.resolve() / "vicreg" / "seed0" / "dnc" / "probe" / "report.html"
    assert "Decision-axis collapse" in path.read_text()


def test_several_runs_give_a_comparison(
    runs: Path, tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    out = tmp_path / "new" / "page.html"
    command = ["report", str(runs / "simclr"), str(runs / "vicreg"), "--out", str(out), "--open"]
    assert main([*command, "--label", "one", "two"]) == 0
    assert capsys.readouterr().out.strip() == str(out)
    assert opened == [out.as_uri()]
    assert "<h1>one vs two</h1>" in out.read_text()


def test_figures_are_written(runs: Path, tmp_path: Path, capsys: Output) -> None:
    out = tmp_path / "figures"
    assert main(["figures", str(runs), "--out", str(out), "--task", "shape"]) == 0
    assert {p.name for p in out.iterdir()} == {
        f"{name}.{ending}" for name in ("collapse", "few_shot") for ending in ("pdf", "png")
    }


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_workspace_is_printed(capsys: Output) -> None:
    pytest.importorskip("wandb_workspaces")
    words = ["wandb-workspace", "--project", "p", "--entity", "e", "--dry-run"]
    assert main([*words, "--task", "colour", "--task", "shape", "--shots", "10"]) == 0
    stored = json.loads(capsys.readouterr().out)
    assert (stored["project"], stored["entity"]) == ("p", "e")
    sections = stored["spec"]["section"]["panelBankConfig"]["sections"]
    keys: dict[str, Any] = {
        section["name"]: [panel["config"].get("metrics") for panel in section["panels"]]
        for section in sections
    }
    assert keys["Decision-axis collapse"] == [
        [f"probe/{task}/{metric}" for metric in ("directional_cdnv", "cdnv")] for task in TASKS
    ]
    assert keys["Few-shot certificates"][1][:2] == [
        "probe/shape/few_shot_error/10",
        "probe/shape/certificate/10",
    ]
    assert keys["Cost of the probe"] == [["probe/overhead"], ["probe/seconds"]]
    axes = {panel["config"].get("xAxis") for section in sections for panel in section["panels"]}
    assert axes <= {"trainer/global_step", None}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_without_a_login_the_workspace_is_printed_and_not_saved(
    capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb_workspaces")
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert main(["wandb-workspace", "--project", "p"]) == 2
    out, err = capsys.readouterr()
    assert json.loads(out)["project"] == "p"
    assert "dnc: not logged in to W&B" in err


@pytest.mark.parametrize("command", [["show"], ["report"], ["figures", "--out", "figures"]])
def test_no_records_is_an_error(
    command: list[str], tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    assert main([command[0], "empty", *command[1:]]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"dnc: expected {RECORDS_FILE} and run.json in empty or below it")
    assert main([command[0], "nowhere", *command[1:]]) == 2
    assert "there is none at nowhere" in capsys.readouterr().err


def test_what_is_readable_is_shown(runs: Path, capsys: Output) -> None:
    cut = runs / "simclr" / "seed0" / "dnc" / "probe"
    with (cut / RECORDS_FILE).open("ab") as file:
        file.write(b'{"version": 1, "st')
    newer = runs / "vicreg" / "seed0" / "dnc" / "probe" / "run.json"
    newer.write_text(newer.read_text().replace('"version": 1', '"version": 7'))
    assert main(["show", str(runs)]) == 2
    out, err = capsys.readouterr()
    assert "simclr/seed0" in out
    assert "simclr/seed1" in out
    assert "vicreg/seed0" not in out
    assert "dnc: simclr/seed0: records.jsonl, line 5, was cut short" in err
    assert "dnc: vicreg/seed0 is left out:" in err
    assert "is of version 7" in err
    out_file = runs / "page.html"
    assert main(["report", str(runs), "--out", str(out_file)]) == 2
    assert "was cut short" in out_file.read_text()


def test_a_missing_package_is_named_with_its_extra(
    runs: Path, tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = {
        "rich": (["show", str(runs)], "report"),
        "plotly": (["report", str(runs), "--out", str(tmp_path / "p.html")], "report"),
        "matplotlib": (["figures", str(runs), "--out", str(tmp_path / "f")], "figures"),
        "wandb_workspaces": (["wandb-workspace", "--project", "p", "--dry-run"], "wandb"),
    }
    for package, (words, extra) in cases.items():
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, package, None)
            assert main(words) == 2
        assert f'pip install "dnc_lightning[{extra}]"' in capsys.readouterr().err


WRITES = """
import sys
import numpy as np
from dnc_lightning.records.store import Record, RecordWriter, read_run
source = read_run(sys.argv[1])
writer = RecordWriter(sys.argv[2])
writer.open({k: v for k, v in source.header.items() if k != "version"})
matrices = {
    f"backbone/{task}/{metric}": np.full((len(names), len(names)), 0.5)
    for task, names in source.header["tasks"].items()
    for metric in ("cdnv", "directional_cdnv")
}
print("ready", flush=True)
step = 0
while True:
    record = source.records[step % len(source.records)]
    writer.append(Record(step, 0, 0.1 * step, record.scalars), matrices)
    step += 1
"""


@pytest.mark.parametrize("delay", [0.02, 0.11, 0.3])
def test_a_run_killed_while_it_writes_can_be_read_and_shown(tmp_path: Path, delay: float) -> None:
    source = write_run(tmp_path / "source", records=3, tasks=TASKS)
    killed = tmp_path / "killed"
    words = [sys.executable, "-c", WRITES, str(source), str(killed)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        time.sleep(delay)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    run = read_run(killed)
    assert [record.step for record in run.records] == list(range(len(run.records)))
    assert all(run.matrices(record) for record in run.records)
    assert all("cut short" in problem for problem in run.problems)
    if run.records:
        expected = 2 if run.problems else 0
        assert main(["report", str(killed), "--out", str(tmp_path / "page.html")]) == expected
        assert "</html>" in (tmp_path / "page.html").read_text()[-20:]
        assert main(["show", str(killed)]) == expected


@pytest.mark.parametrize("missing", [1, 40])
def test_a_record_cut_at_any_place_is_left_out(tmp_path: Path, missing: int) -> None:
    folder = write_run(tmp_path / "run", records=4)
    content = (folder / RECORDS_FILE).read_bytes()
    (folder / RECORDS_FILE).write_bytes(content[: -missing - 1])
    run = read_run(folder)
    assert [record.step for record in run.records] == [0, 11, 135]
    assert main(["report", str(folder)]) == 2
    assert (folder / "report.html").exists()
