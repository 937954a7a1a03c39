"""Run folders that nobody vouches for: read as far as they are whole, the rest named in words."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dnc_lightning import cli
from dnc_lightning.records.archives import Archives
from dnc_lightning.records.lines import read_ends, read_lines
from dnc_lightning.records.schema import HEADER, RECORD, checked, parse, plain
from dnc_lightning.records.store import EXAMPLES_FILE, read_run
from dnc_lightning.reporting.html import write_report
from dnc_lightning.reporting.read.examples import member, read_examples
from tests.reporting.conftest import write_run
from tests.reporting.further_runs import further_run
from tests.reporting.fuzz import damaged

LAST = "matrices/step-000001585.npz"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two encoders, two tasks, further series and examples."""
    folder = tmp_path_factory.mktemp("good") / "run"
    return further_run(folder, encoders=("student", "teacher"), records=6, examples=True)


@pytest.fixture
def run(tmp_path: Path, good: Path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "bad"))


def edit_header(folder: Path, **changes: Any) -> None:
    path = folder / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_record(folder: Path, at: int, **changes: Any) -> None:
    path = folder / "records.jsonl"
    lines = path.read_text().splitlines()
    lines[at] = json.dumps(json.loads(lines[at]) | changes)
    path.write_text("\n".join(lines) + "\n")


def commands(folder: Path, out: Path, figures: bool) -> list[list[str]]:
    found = [["show", str(folder)], ["report", str(folder), "--out", str(out / "page.html")]]
    return found + [["figures", str(folder), "--out", str(out / "figures")]] * figures


def check(
    folder: Path, out: Path, capsys: pytest.CaptureFixture[str], figures: bool = False
) -> tuple[int, str]:
    """Run the commands; returns the worst exit code and all that was printed."""
    codes = [cli.main(command) for command in commands(folder, out, figures)]
    printed = "".join(capsys.readouterr())
    assert set(codes) <= {0, cli.FAILED}
    assert "Traceback" not in printed
    assert "\x1b" not in printed
    return max(codes), printed


@pytest.mark.parametrize("seeds", [range(20)])
def test_damaged_folders_never_trace_back(
    seeds: range, good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in seeds:
        how = damaged(good, tmp_path / "bad", seed)
        try:
            check(tmp_path / "bad", tmp_path, capsys, figures=seed % 20 == 0)
        except Exception as error:
            pytest.fail(f"seed {seed}, {how}: {error!r}")


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [range(1000, 1200), range(2000, 2200)])
def test_hundreds_of_damaged_folders_never_trace_back(
    seeds: range, good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    test_damaged_folders_never_trace_back(seeds, good, tmp_path, capsys)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tasks": []}, "tasks: expected an object of at most 256 names, got list of 0"),
        ({"tasks": {"label": 5}}, "tasks.label: expected a list"),
        ({"prefixes": {"student": {"colour": None}}}, "prefixes.student.colour: expected a text"),
        ({"shots": [1, "one"]}, r"shots\[1\]: expected a whole number.*got 'one'"),
        ({"shots": 5}, "shots: expected a list"),
        ({"ways": 1}, "ways: expected a whole number from 2"),
        ({"probe": {"size": "9"}}, "probe.size: expected a whole number"),
        ({"world_size": 10**30}, "world_size.*got a huge number"),
        ({"version": "1"}, 'expected an integer "version"'),
        ({"deep": json.loads("[" * 600 + "]" * 600)}, "nested too deeply"),
    ],
)
def test_a_damaged_header_is_named_and_the_other_run_is_shown(
    changes: dict[str, Any],
    words: str,
    good: Path,
    run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    edit_header(run, **changes)
    with pytest.raises(ValueError, match=words):
        read_run(run)
    shutil.copytree(good, tmp_path / "whole")
    assert cli.main(["show", str(tmp_path)]) == cli.FAILED
    out, err = capsys.readouterr()
    assert "whole" in out
    assert err.count("\n") == 1
    assert err.startswith("dnc: bad is left out: ")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"matrices": 5}, "matrices: expected a text, got 5"),
        ({"step": 10**30}, "step: expected a whole number.*got a huge number"),
        ({"step": -5}, "step: expected a whole number"),
        ({"step": True}, "step: expected a whole number.*got True"),
        ({"scalars": [1]}, "scalars: expected an object.*got list of 1"),
        ({"scalars": {"probe/a": "nan"}}, "scalars.probe/a: expected a number or null, got 'nan'"),
        ({"scalars": {"probe/a": 10**400}}, "got a huge number"),
        ({"scalars": {"probe/a": -1e101}}, "expected a number or null, got -1e.101"),
        ({"notes": "abc"}, "notes: expected a list"),
        ({"time": "now"}, "time: expected a number"),
    ],
)
def test_a_damaged_record_is_left_out_with_the_reason(
    changes: dict[str, Any], words: str, run: Path
) -> None:
    edit_record(run, 2, **changes)
    found = read_run(run)
    assert len(found.records) == 5
    with pytest.raises(ValueError, match=words):
        raise ValueError(*found.problems)


def test_a_thousand_damaged_lines_are_summed_up(run: Path) -> None:
    with (run / "records.jsonl").open("a") as file:
        file.write("\n" * 1000)
    problems = read_run(run).problems
    assert len(problems) == 21
    assert problems[-1] == "records.jsonl: 980 more lines are left out"


def outside(run: Path) -> Path:
    """A good archive that does not belong to the run."""
    return Path(shutil.copy(run / LAST, run.parent / "other.npz"))


def link_out(run: Path) -> str:
    (run / "matrices/link.npz").symlink_to(outside(run))
    return "matrices/link.npz"


def pipe(run: Path) -> str:
    os.mkfifo(run / "matrices/pipe.npz")  # opening it would wait for ever
    return "matrices/pipe.npz"


@pytest.mark.parametrize(
    "place",
    [
        lambda run: str(outside(run)),
        lambda run: f"../{outside(run).name}",
        lambda run: f"matrices/../../{outside(run).name}",
        link_out,
        pipe,
        lambda run: "/dev/zero",
        lambda run: "matrices",
        lambda run: "x" * 5000,
        lambda run: "",
    ],
)
def test_a_record_names_files_of_its_folder_alone(place: Callable[[Path], str], run: Path) -> None:
    edit_record(run, -1, matrices=place(run))
    found = read_run(run)
    assert found.records[-1].matrices is None
    assert found.matrices(found.records[-1]) == {}
    assert "is missing or damaged" in found.problems[0]


@pytest.mark.parametrize("name", ["run.json", "records.jsonl"])
@pytest.mark.parametrize("what", ["/dev/zero", "pipe", "folder", "large"])
def test_what_is_no_small_regular_file_is_not_read(
    name: str, what: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / name).unlink()
    if what == "pipe":
        os.mkfifo(run / name)
    elif what == "folder":
        (run / name).mkdir()
    elif what == "large":
        (run / name).touch()
        os.truncate(run / name, 2**40)  # nothing of it is on the disk
    else:
        (run / name).symlink_to(what)
    code, printed = check(run, tmp_path, capsys)
    assert code == cli.FAILED
    assert "expected a regular file" in printed or "expected at most" in printed


def npy(shape: str, dtype: str, data: bytes = b"") -> bytes:
    head = f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + (len(head) + 1).to_bytes(2, "little") + head + b"\n" + data


@pytest.mark.parametrize(
    "content",
    [
        b"",
        npy("(3, 3)", "'|O'", b"cos\nsystem\n"),
        npy("(3, 3)", "'<f4'", bytes(32)),
        npy("(100000000000, 100000000000)", "'<f4'", bytes(64)),
        npy("(-2, -8)", "'<f4'", bytes(64)),
        npy("(4, 4)", "[('a', '<f4')]", bytes(64)),
        npy("(4, 4)", "'<U1'", bytes(64)),
        npy("(" * 900 + ")" * 900, "'<f4'", bytes(64)),
    ],
)
def test_an_array_is_read_if_its_header_is_that_of_numbers_of_this_size(
    content: bytes, run: Path
) -> None:
    with zipfile.ZipFile(run / LAST, "w") as archive:
        archive.writestr("student/colour/cdnv.npy", content)
    found = read_run(run)
    record = next(r for r in found.records if r.matrices == LAST)
    with Archives(found) as archives:
        assert archives.read(record, "student/colour/cdnv") is None
    assert found.matrices(record) == {}


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f2", "<f4", ">f8", "<i4", "|b1"])
def test_arrays_of_numbers_are_read_whatever_their_layout(
    order: Any, dtype: str, run: Path
) -> None:
    values = np.arange(12).reshape(3, 4) % 3
    np.savez_compressed(run / LAST, **{"a/b": np.asarray(values.astype(dtype), order=order)})
    found = read_run(run)
    read = found.matrices(next(r for r in found.records if r.matrices == LAST))["a/b"]
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, values.astype(dtype).astype(np.float32))


def test_a_small_file_that_inflates_to_a_large_one_is_refused(run: Path) -> None:
    with zipfile.ZipFile(run / LAST, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in "abcde":
            archive.writestr(f"{name}.npy", npy("(4096, 4096)", "'<f4'", bytes(4 * 4096**2)))
    assert (run / LAST).stat().st_size < 2**20
    found = read_run(run)
    assert found.problems == (f"{LAST} (step 1585) is missing or damaged",)


def test_examples_are_small_images_of_the_classes_that_are_asked_for(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", examples=True)
    with zipfile.ZipFile(folder / EXAMPLES_FILE) as archive:
        jpeg = archive.read(member("label", 0))
    with zipfile.ZipFile(folder / EXAMPLES_FILE, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member("label", 0), jpeg)
        archive.writestr(member("label", 1), b"<svg onload=alert(1)>")
        archive.writestr(member("label", 2), b"\xff\xd8\xff" + bytes(50_000_000))
        archive.writestr("../../label/00003.jpg", jpeg)
    assert set(read_examples(folder, {"label": [0, 1, 2, 3]})["label"]) == {0}


def test_texts_lose_what_a_terminal_obeys(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = "\x1b]0;title\x07\x1b[2J\x9b31m\u202eabc\r\ud800<script>alert(1)</script>"
    edit_header(run, model=evil, tasks={"colour": [evil] * 4, "shape": [evil] * 2}, started=evil)
    edit_record(run, 0, warnings=[evil], notes=[evil])
    moved = run.rename(run.with_name("\x1b[31mrun"))
    code, printed = check(moved, tmp_path, capsys, figures=True)
    assert code == 0
    page = (tmp_path / "page.html").read_text()
    for text in (printed, page):
        assert not set(text) & set("\x1b\x07\x9b\u202e\r")
    assert "<script>alert" not in page


def test_plain_keeps_what_people_write() -> None:
    words = "Zürich\tक्षि 日本 👩‍👩‍👧 a<b>c\nline"
    assert plain(words) == words
    assert plain("a\x1b[1m\x7f") == "a\ufffd[1m\ufffd"


def test_what_later_versions_add_is_kept() -> None:
    assert checked(HEADER, {"new": [{"a": 1}]}) == {"new": [{"a": 1}]}
    line: dict[str, Any] = {"scalars": {}, "uncalibrated": {}, "notes": [], "warnings": []}
    line |= {"version": 1, "step": 0, "epoch": 0, "time": None, "matrices": None, "new": "\x1b"}
    assert checked(RECORD, line)["new"] == "\ufffd"


def test_json_is_as_strict_as_it_was_written() -> None:
    for text in (b"NaN", b"[Infinity]", b"[" * 100_000, b"\xff", b""):
        with pytest.raises(ValueError):
            parse(text)


@pytest.mark.parametrize("last", [1, 3, 6])
@pytest.mark.parametrize("longest", [0, 40_000])
def test_the_ends_of_the_records_are_read_without_the_rest(
    last: int, longest: int, run: Path
) -> None:
    path = run / "records.jsonl"
    for at, length in enumerate((0, 0, longest, 0, longest, 0)):
        edit_record(run, at, notes=["x" * length])
    records = read_lines(path)[0]
    assert len(records) == 6
    first, latest = read_ends(path, last)
    assert repr([first, *latest]) == repr([records[0], *records[-last:]])


HOSTILE = """
import re, time
from pathlib import Path
from dnc_lightning import cli
for command in {commands}:
    began = time.process_time()
    code = cli.main(command)
    assert code in (0, 2), code
    assert time.process_time() - began < 20, command
# Not getrusage: a process begins there with the peak of the one that started it.
print(int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024)
"""


@pytest.mark.slow
def test_hostile_folders_take_less_than_a_gigabyte_and_twenty_seconds(
    good: Path, tmp_path: Path
) -> None:
    def copy(name: str) -> Path:
        return Path(shutil.copytree(good, tmp_path / name))

    zeros = copy("zeros")
    (zeros / "run.json").unlink()
    (zeros / "run.json").symlink_to("/dev/zero")
    device = copy("device")
    edit_record(device, -1, matrices="/dev/zero")
    bomb = copy("bomb")
    for path in (bomb / "matrices").iterdir():
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in ("cdnv", "directional_cdnv", "confusion"):
                content = npy("(4096, 4096)", "'<f4'", bytes(4 * 4096**2))
                archive.writestr(f"student/colour/{name}.npy", content)
    edit_header(bomb, tasks={"colour": [str(k) for k in range(4096)], "shape": ["a", "b"]})
    nested = copy("nested")
    (nested / "run.json").write_text('{"version": 1, "series": [' + "[]," * 2_000_000 + "[]]}")
    many = copy("many")
    lines = (many / "records.jsonl").read_text()
    (many / "records.jsonl").write_text(lines + "[[],[]]\n" * 3_000_000 + "\n" * 9_000_000)
    told = [
        command
        for folder in (zeros, device, bomb, nested, many)
        for command in commands(folder, tmp_path, figures=folder == bomb)
    ]
    done = subprocess.run(
        [sys.executable, "-c", HOSTILE.format(commands=told)],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert int(done.stdout.splitlines()[-1]) < 1024


@pytest.mark.browser
def test_names_with_markup_are_seen_as_they_are(open_page: Callable[..., Any]) -> None:
    names = ["a<b>c", "d&lt;e", "<i>" * 9]
    page = open_page(tasks={"label": names}, records=2)
    ticks = page(
        "return [...document.querySelectorAll('#cdnv .xtick text')].map((t) => t.textContent)"
    )
    assert ticks == [*names[:2], "<i><i><i><i><i>…"]


def test_a_name_with_markup_shows_as_itself(run: Path, tmp_path: Path) -> None:
    """Plotly reads some HTML in its texts, so that "a<b>c" would show as "ac"."""
    edit_header(run, tasks={"colour": ["a<b>c", "d&lt;", "e", "f"], "shape": ["g", "h"]})
    page = write_report(run, tmp_path / "page.html").read_text()
    assert "a&lt;b&gt;c" in page
    assert "d&amp;lt;" in page
