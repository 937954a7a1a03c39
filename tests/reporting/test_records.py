from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from dnc_lightning.records.store import Record, RecordWriter, claim_folder, read_run

HEADER = {"name": "probe", "tasks": {"label": ["cat", "dog"]}, "encoders": ["backbone"]}
KEY = "backbone/label/cdnv"


def record(step: int, **changes: object) -> Record:
    values: dict[str, object] = {
        "step": step,
        "epoch": step // 10,
        "time": 0.5 * step,
        "scalars": {"probe/label/cdnv": 4.0 / (step + 1)},
    }
    return Record(**{**values, **changes})  # type: ignore[arg-type]


def matrix(step: int) -> np.ndarray:
    return np.array([[np.nan, step + 0.25], [step + 0.5, np.nan]])


def written(folder: Path, steps: tuple[int, ...] = (0, 1, 12)) -> RecordWriter:
    writer = RecordWriter(folder)
    writer.open(HEADER)
    for step in steps:
        writer.append(record(step), {KEY: matrix(step)})
    return writer


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    writer = RecordWriter(tmp_path / "new" / "run")
    writer.open(HEADER)
    full = record(
        12,
        uncalibrated={"probe/label/cdnv": 8.5},
        notes=("BatchNorm calibrated", "línea\u2028«two»"),
        warnings=("class 3 is missing",),
    )
    returned = writer.append(full, {KEY: matrix(12)})
    bare = writer.append(record(13), {})
    run = read_run(tmp_path / "new" / "run")
    assert run.header == {"version": 1, **HEADER}
    assert run.records == (returned, bare)
    assert run.problems == ()
    assert (returned.matrices, bare.matrices) == ("matrices/step-000000012.npz", None)
    stored = run.matrices(returned)[KEY]
    assert stored.dtype == np.float32
    np.testing.assert_array_equal(stored, matrix(12))
    assert run.matrices(bare) == {}


def test_undefined_values_are_null_on_disk_and_nan_when_read(tmp_path: Path) -> None:
    writer = written(tmp_path, ())
    scalars = {"nan": math.nan, "inf": math.inf, "low": -math.inf, "zero": 0.0}
    writer.append(record(3, scalars=scalars, time=math.nan), {})
    line = json.loads((tmp_path / "records.jsonl").read_text())
    assert line["scalars"] == {"nan": None, "inf": None, "low": None, "zero": 0.0}
    read = read_run(tmp_path).records[0]
    assert [math.isnan(read.scalars[key]) for key in scalars] == [True, True, True, False]
    assert math.isnan(read.time)


def test_a_header_that_is_not_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        RecordWriter(tmp_path).open({"overhead": math.nan})


def test_series_skips_records_without_the_key(tmp_path: Path) -> None:
    writer = written(tmp_path, (0, 4))
    writer.append(record(9, scalars={"other": 1.0}), {})
    steps, values = read_run(tmp_path).series("probe/label/cdnv")
    assert steps.tolist() == [0, 4]
    np.testing.assert_allclose(values, [4.0, 0.8])
    assert [a.size for a in read_run(tmp_path).series("absent")] == [0, 0]


@pytest.mark.parametrize("cut", [1, 5, 60])
def test_a_line_cut_short_is_left_out_and_the_run_goes_on(tmp_path: Path, cut: int) -> None:
    writer = written(tmp_path)
    path = tmp_path / "records.jsonl"
    whole = path.read_bytes()
    last = whole.splitlines(keepends=True)[-1]
    path.write_bytes(whole.removesuffix(last) + last[:cut])
    run = read_run(tmp_path)
    assert [r.step for r in run.records] == [0, 1]
    assert run.problems == (
        "records.jsonl, line 3, was cut short (the run was stopped while writing): left out",
    )
    writer.open(HEADER)
    writer.append(record(20), {})
    run = read_run(tmp_path)
    assert ([r.step for r in run.records], run.problems) == ([0, 1, 20], ())


def test_a_line_that_a_full_disk_cut_short_does_not_swallow_the_next(tmp_path: Path) -> None:
    writer = written(tmp_path, (0,))
    with (tmp_path / "records.jsonl").open("ab") as file:
        file.write(b'{"version": 1, "step": 3, "scal')
    writer.append(record(5), {})
    run = read_run(tmp_path)
    assert [r.step for r in run.records] == [0, 5]
    assert run.problems == ("records.jsonl, line 2, is damaged: left out",)


@pytest.mark.parametrize("line", ["[]", '{"version": 1}', '{"version": 1, "step": "x"}', "\\"])
def test_a_damaged_line_is_left_out(tmp_path: Path, line: str) -> None:
    writer = written(tmp_path, (0,))
    with (tmp_path / "records.jsonl").open("a") as file:
        file.write(line + "\n")
    writer.append(record(2), {})
    run = read_run(tmp_path)
    assert [r.step for r in run.records] == [0, 2]
    assert "line 2, is damaged" in run.problems[0]


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"PK\x03\x04 half")])
def test_a_missing_or_damaged_matrix_file_is_named(tmp_path: Path, damage: object) -> None:
    written(tmp_path)
    damage(tmp_path / "matrices" / "step-000000001.npz")  # type: ignore[operator]
    run = read_run(tmp_path)
    assert run.problems == ("matrices/step-000000001.npz (step 1) is missing or damaged",)
    assert run.matrices(run.records[1]) == {}
    assert KEY in run.matrices(run.records[2])


@pytest.mark.parametrize(
    ("step", "kept"), [(-1, []), (0, [0]), (1, [0, 1]), (11, [0, 1]), (12, [0, 1, 12])]
)
def test_truncate_after_drops_later_records_and_their_matrices(
    tmp_path: Path, step: int, kept: list[int]
) -> None:
    written(tmp_path).truncate_after(step)
    run = read_run(tmp_path)
    assert [r.step for r in run.records] == kept
    names = sorted(path.name for path in (tmp_path / "matrices").iterdir())
    assert names == [f"step-{k:09d}.npz" for k in kept]


def test_truncate_before_open_is_harmless(tmp_path: Path) -> None:
    RecordWriter(tmp_path / "nothing").truncate_after(3)
    assert not (tmp_path / "nothing").exists()


def test_a_newer_version_is_refused_with_both_versions(tmp_path: Path) -> None:
    written(tmp_path)
    header = tmp_path / "run.json"
    header.write_text(header.read_text().replace('"version": 1', '"version": 7'))
    with pytest.raises(ValueError, match=r"version 7.*up to\s+1.*update"):
        read_run(tmp_path)
    written(tmp_path)
    records = tmp_path / "records.jsonl"
    records.write_text(records.read_text().replace('"version": 1', '"version": 2'))
    with pytest.raises(ValueError, match=r"records\.jsonl is of version 2"):
        read_run(tmp_path)


@pytest.mark.parametrize("missing", [".", "run.json", "records.jsonl"])
def test_what_is_missing_is_named(tmp_path: Path, missing: str) -> None:
    written(tmp_path / "run")
    path = tmp_path / "run" / missing
    if missing == ".":
        path = tmp_path / "absent"
    else:
        path.unlink()
    folder = path if missing == "." else path.parent
    with pytest.raises(FileNotFoundError, match=path.name):
        read_run(folder)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"version": "one"}'])
def test_a_damaged_header_is_refused(tmp_path: Path, text: str) -> None:
    written(tmp_path)
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(ValueError, match="expected"):
        read_run(tmp_path)


def test_a_step_that_is_replaced_has_one_line_and_its_new_matrices(tmp_path: Path) -> None:
    writer = written(tmp_path)
    new = record(12, scalars={"probe/label/cdnv": 9.0, "probe/label/cdnv_low": 8.0})
    returned = writer.replace(new, {KEY: matrix(77)})
    run = read_run(tmp_path)
    assert [r.step for r in run.records] == [0, 1, 12]
    assert run.records[-1] == returned
    assert returned.scalars["probe/label/cdnv"] == 9.0
    np.testing.assert_array_equal(run.matrices(returned)[KEY], matrix(77))
    np.testing.assert_array_equal(run.matrices(run.records[1])[KEY], matrix(1))
    writer.append(record(20), {})
    assert [r.step for r in read_run(tmp_path).records] == [0, 1, 12, 20]


def test_replacing_keeps_what_it_cannot_read_and_writes_what_was_lost(tmp_path: Path) -> None:
    writer = written(tmp_path, (0,))
    with (tmp_path / "records.jsonl").open("ab") as file:
        file.write(b'{"version": 1, "step": 3, "scal')  # a full disk
    writer.replace(record(3), {})
    lines = (tmp_path / "records.jsonl").read_bytes().splitlines()
    assert [json.loads(lines[k])["step"] for k in (0, 2)] == [0, 3]
    assert lines[1] == b'{"version": 1, "step": 3, "scal'
    assert [r.step for r in read_run(tmp_path).records] == [0, 3]


def test_a_disk_that_refuses_to_replace_leaves_the_old_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = written(tmp_path)
    before = (tmp_path / "records.jsonl").read_bytes()

    def full(path: Path, _: bytes) -> None:
        if path.name == "records.jsonl":
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("dnc_lightning.records.store.write_atomically", full)
    with pytest.raises(OSError, match="No space left"):
        writer.replace(record(12, scalars={}), {})
    assert (tmp_path / "records.jsonl").read_bytes() == before


def test_folders_are_claimed_in_order(tmp_path: Path) -> None:
    names = [claim_folder(tmp_path / "a" / "probe").name for _ in range(3)]
    assert names == ["probe", "probe-v1", "probe-v2"]
    assert (tmp_path / "a" / "probe-v2" / "records.jsonl").read_bytes() == b""


def test_of_many_that_claim_at_once_each_has_its_own(tmp_path: Path) -> None:
    count, rounds = 16, 20
    start = threading.Barrier(count)

    def claim(_: int) -> list[Path]:
        found = []
        for k in range(rounds):
            start.wait()
            found.append(claim_folder(tmp_path / str(k) / "probe"))
        return found

    with ThreadPoolExecutor(count) as pool:
        claims = list(pool.map(claim, range(count)))
    for k in range(rounds):
        assert len({found[k] for found in claims}) == count


CLAIMS = """
import sys, time
from dnc_lightning.records.store import Record, RecordWriter, claim_folder

print("ready", flush=True)
sys.stdin.readline()
for k in range(30):
    folder = claim_folder(f"{sys.argv[1]}/{k}/probe")
    writer = RecordWriter(folder)
    writer.open({"name": sys.argv[2]})
    for step in range(3):
        writer.append(Record(step, 0, 0.0, {"who": float(sys.argv[2])}), {})
"""


def test_processes_that_start_together_keep_their_records_apart(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CLAIMS, str(tmp_path), str(who)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for who in range(3)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.communicate("go\n", timeout=60)
        assert process.returncode == 0
    for k in range(30):
        folders = sorted((tmp_path / str(k)).iterdir())
        assert [folder.name for folder in folders] == ["probe", "probe-v1", "probe-v2"]
        runs = [read_run(folder) for folder in folders]
        assert sorted(run.header["name"] for run in runs) == ["0", "1", "2"]
        for run in runs:
            assert [r.step for r in run.records] == [0, 1, 2]
            assert {r.scalars["who"] for r in run.records} == {float(run.header["name"])}


KILLED = """
import sys
import numpy as np
from dnc_lightning.records.store import Record, RecordWriter

writer = RecordWriter(sys.argv[1])
writer.open({"name": "probe"})
step = 0
while True:
    scalars = {f"probe/label/key{i}": float(step) for i in range(400)}
    writer.append(Record(step, 0, 0.0, scalars), {"backbone/label/cdnv": np.full((64, 64), step)})
    step += 1
"""


def test_a_kill_while_writing_leaves_records_that_load_and_can_be_continued(tmp_path: Path) -> None:
    for attempt in range(3):
        folder = tmp_path / str(attempt)
        process = subprocess.Popen([sys.executable, "-c", KILLED, str(folder)])
        path = folder / "records.jsonl"
        deadline = time.monotonic() + 60
        while not (path.exists() and path.stat().st_size > 50_000 * (attempt + 1)):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.003)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        run = read_run(folder)
        assert [r.step for r in run.records] == list(range(len(run.records)))
        assert len(run.records) > 1
        assert len(run.problems) <= 1
        for kept in run.records:
            assert (run.matrices(kept)["backbone/label/cdnv"] == kept.step).all()
        writer = RecordWriter(folder)
        writer.open({"name": "probe"})
        writer.truncate_after(run.records[-2].step)
        assert len(read_run(folder).records) == len(run.records) - 1
        assert not list(folder.rglob("*.part"))
