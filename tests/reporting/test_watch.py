"""`dnc watch`: what it serves, to whom, and how it follows runs."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import numpy as np
import pytest

from dnc_lightning import cli
from dnc_lightning.records.holding import Hold, held_folders
from dnc_lightning.records.store import HEADER_FILE, RECORDS_FILE, RecordWriter, read_run
from dnc_lightning.reporting.live.server import serve
from dnc_lightning.reporting.live.watched import Watched, identity
from dnc_lightning.reporting.words import NONE

SOON = 2.0  # seconds within which what is new is told

MakeRun = Callable[..., Path]


@contextlib.contextmanager
def serving(*roots: Path, **options: Any) -> Iterator[str]:
    with serve(list(roots), **options) as (server, address):
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield address
        finally:
            server.shutdown()
            thread.join()


def get(address: str, **headers: str) -> str:
    with urllib.request.urlopen(urllib.request.Request(address, headers=headers)) as answer:
        return str(answer.read().decode())


def refused(address: str, **headers: str) -> tuple[int, str]:
    """Status and text; nobody who is refused is given what would let them in."""
    with pytest.raises(HTTPError) as raised:
        get(address, **headers)
    with raised.value as error:
        assert error.code != 403 or error.headers["Set-Cookie"] is None
        return error.code, error.read().decode()


@contextlib.contextmanager
def news(address: str) -> Iterator[Callable[[], Any]]:
    with urllib.request.urlopen(f"{address}events", timeout=10) as stream:

        def following() -> Any:
            while True:
                line = stream.readline().decode()
                if line.startswith("data: "):
                    return json.loads(line.removeprefix("data: "))

        yield following


def probe_again(folder: Path, step: int) -> None:
    """Write a probe like the last one."""
    last = read_run(folder).records[-1]
    writer = RecordWriter(folder)
    writer.append(dataclasses.replace(last, step=step, time=last.time + 60, matrices=None), {})


def test_what_is_new_is_told_within_two_seconds(tmp_path: Path, make_run: MakeRun) -> None:
    first = shutil.copytree(make_run(records=3), tmp_path / "runs" / "first")
    spare = make_run(records=1)
    with serving(tmp_path / "runs") as address, news(address) as following:
        assert [row["name"] for row in following()["rows"]] == ["first"]

        began = time.monotonic()
        probe_again(first, 9_999)
        (row,) = following()["rows"]
        assert row["probes"] == 4
        assert row["latest"].startswith("step 9,999")
        assert time.monotonic() - began < SOON

        began = time.monotonic()
        shutil.copytree(spare, tmp_path / "runs" / "second")
        names = {row["name"] for row in following()["rows"]}
        assert "second" in names
        assert time.monotonic() - began < SOON

        (first / HEADER_FILE).write_text("{")
        rows = following()["rows"]
        assert any("cannot be read" in row["problem"] for row in rows)
        status, words = refused(f"{address}run/{identity(first)}")
        assert status == 404
        assert "cannot be read" in words

        shutil.rmtree(first)
        told = following()
        assert told["gone"] == [identity(first)]
        assert refused(f"{address}run/{identity(first)}")[0] == 404


def test_an_update_is_the_page_without_its_scripts(tmp_path: Path, make_run: MakeRun) -> None:
    folder = shutil.copytree(make_run(records=3), tmp_path / "runs" / "run").resolve()
    with serving(tmp_path / "runs") as address:
        page, update = (get(f"{address}run/{identity(folder)}{end}") for end in ("", "/update"))
    assert len(update) < len(page) / 5
    assert "plotly.js" not in update
    for text in (page, update):
        assert "step " in text
        assert "connect-src 'self'" in text


def test_a_page_in_a_file_may_not_connect(make_run: MakeRun, tmp_path: Path) -> None:
    from dnc_lightning.reporting.html import write_report

    text = write_report(make_run(records=2), tmp_path / "page.html").read_text()
    assert "connect-src" not in text
    assert "EventSource" not in text


def test_several_runs_are_compared(tmp_path: Path, make_run: MakeRun) -> None:
    folders = [
        shutil.copytree(make_run(records=3), tmp_path / name).resolve() for name in ("a", "b")
    ]
    with serving(tmp_path) as address:
        page = get(f"{address}compare?run={identity(folders[0])}&run={identity(folders[1])}")
        assert "a vs b" in page
        assert refused(f"{address}compare")[0] == 404


@pytest.mark.parametrize(
    "path",
    [
        "run/../../../../etc/passwd",
        "run/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "../secret/records.jsonl",
        "run/{folder}",
        "run/",
        "static/report.js",
        "run.json",
    ],
)
def test_no_address_names_a_file(tmp_path: Path, make_run: MakeRun, path: str) -> None:
    folder = shutil.copytree(make_run(records=2), tmp_path / "runs" / "a")
    secret = shutil.copytree(make_run(records=2), tmp_path / "secret")
    with serving(tmp_path / "runs") as address:
        port = int(address.rsplit(":", 1)[1].strip("/"))
        with socket.create_connection(("127.0.0.1", port)) as raw:
            asked = path.format(folder=str(folder).strip("/"))
            raw.sendall(f"GET /{asked} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
            answer = b"".join(iter(lambda: raw.recv(65536), b"")).decode()
        assert answer.startswith("HTTP/1.0 404")
        assert str(tmp_path) not in answer
        assert refused(f"{address}run/{identity(secret.resolve())}")[0] == 404


@pytest.mark.parametrize("what", ["folder", "records", "header"])
def test_links_that_lead_out_are_passed_over(tmp_path: Path, make_run: MakeRun, what: str) -> None:
    secret = shutil.copytree(make_run(records=2), tmp_path / "secret")
    runs = tmp_path / "runs"
    runs.mkdir()
    if what == "folder":
        (runs / "a").symlink_to(secret)
    else:
        shutil.copytree(secret, runs / "a")
        name = RECORDS_FILE if what == "records" else HEADER_FILE
        (runs / "a" / name).unlink()
        (runs / "a" / name).symlink_to(secret / name)
    watched = Watched([runs.resolve()])
    watched.look()
    assert watched.runs == {}


def test_a_folder_of_a_link_given_by_name_is_served(tmp_path: Path, make_run: MakeRun) -> None:
    shutil.copytree(make_run(records=2), tmp_path / "real" / "a")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with serving(tmp_path / "link") as address:
        assert '"name":"a"' in get(address)


def test_only_this_machine_is_answered(tmp_path: Path) -> None:
    with serving(tmp_path) as address:
        get(address)
        get(address, Host="localhost:9000")  # through a tunnel
        for host in ("evil.example", "127.0.0.1.evil.example", ""):
            status, words = refused(address, Host=host)
            assert status == 403
            assert "localhost" in words


def test_another_host_needs_the_token(tmp_path: Path) -> None:
    with serving(tmp_path, host="0.0.0.0") as address:
        port, token = address.rsplit(":", 1)[1].split("/?token=")
        here = f"http://127.0.0.1:{port}/"
        assert refused(here)[0] == 403
        assert refused(f"{here}?token={token[:-1]}")[0] == 403
        assert refused(f"{here}run/abc", Cookie="dnc-watch=wrong")[0] == 403
        assert "<h1>Runs</h1>" in get(f"{here}?token={token}")
        assert "<h1>Runs</h1>" in get(here, Cookie=f"dnc-watch={token}")


def test_the_token_is_kept_by_whoever_had_it(tmp_path: Path) -> None:
    with serving(tmp_path, host="0.0.0.0") as address:
        port, token = address.rsplit(":", 1)[1].split("/?token=")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/?token={token}") as answer:
            kept = answer.headers["Set-Cookie"]
        assert kept.startswith(f"dnc-watch={token}; HttpOnly")
        with socket.create_connection(("127.0.0.1", int(port))) as raw:
            raw.sendall(b"GET / HTTP/1.0\r\n\r\n")
            answer = b"".join(iter(lambda: raw.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.0 403")
        assert token.encode() not in answer


def test_the_newer_address_of_this_machine_needs_no_token(tmp_path: Path) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    with serving(tmp_path, host="::1") as address:
        assert address.startswith("http://[::1]:")
        assert "<h1>Runs</h1>" in get(address)


def test_who_trains_is_looked_up(tmp_path: Path, make_run: MakeRun) -> None:
    folder = shutil.copytree(make_run(records=2), tmp_path / "runs" / "run").resolve()
    watched = Watched([tmp_path.resolve() / "runs"])
    hold = Hold(folder)
    if not held_folders():
        pytest.skip("this system does not show its locks")
    watched.look()
    assert watched.runs[identity(folder)].training
    hold.let_go()
    watched.look()
    assert not watched.runs[identity(folder)].training


def test_a_folder_that_vanishes_while_it_is_searched_stops_nothing(
    tmp_path: Path, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(make_run(records=2), tmp_path / "runs" / "a")
    (tmp_path / "runs" / "gone").mkdir()
    plain = os.scandir

    def vanished(path: Any) -> Any:
        if str(path).endswith("gone"):
            raise FileNotFoundError(path)
        return plain(path)

    monkeypatch.setattr(os, "scandir", vanished)
    watched = Watched([tmp_path.resolve() / "runs"])
    watched.look()
    assert [seen.row["name"] for seen in watched.runs.values()] == ["a"]


def test_nothing_is_read_twice(
    tmp_path: Path, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(make_run(records=2), tmp_path / "runs" / "run")
    watched = Watched([tmp_path.resolve() / "runs"])
    watched.look()

    def fail(_: Path) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr("dnc_lightning.reporting.live.watched.read_run", fail)
    watched.look()
    assert [seen.row["problem"] for seen in watched.runs.values()] == [""]
    assert watched.count == 1


def test_numbers_that_are_not_defined_are_no_numbers(tmp_path: Path, make_run: MakeRun) -> None:
    shutil.copytree(make_run(records=2, undefined=True), tmp_path / "runs" / "a")
    shutil.copytree(make_run(records=0), tmp_path / "runs" / "b")
    shutil.copytree(make_run(records=2, few_shot=False), tmp_path / "runs" / "c")
    watched = Watched([tmp_path.resolve() / "runs"])
    watched.look()
    rows = {seen.row["name"]: seen.row for seen in watched.runs.values()}
    assert all(row["problem"] == "" for row in rows.values())
    assert rows["b"]["probes"] == 0
    assert rows["c"]["error"]["now"] == NONE
    json.dumps(list(rows.values()), allow_nan=False)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["watch", str(tmp_path / "none")]) == cli.FAILED
    assert "expected a folder of runs" in capsys.readouterr().err
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert cli.main(["watch", str(tmp_path), "--port", str(port)]) == cli.FAILED
    assert "Pass --port 0" in capsys.readouterr().err


def test_the_command_ends_at_an_interrupt(tmp_path: Path) -> None:
    import signal

    words = [sys.executable, "-m", "dnc_lightning.cli", "watch", str(tmp_path), "--port", "0"]

    def hear() -> None:
        """Of a shell in the background the tests may have inherited not to."""
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, preexec_fn=hear) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().split()[0]
            assert '"rows":[]' in get(address)
            os.kill(process.pid, signal.SIGINT)
            assert process.wait(30) == 0
        finally:
            process.kill()


def test_the_curve_follows_the_records(make_run: MakeRun) -> None:
    from dnc_lightning.reporting.live.rows import MOST_POINTS, row

    run = read_run(make_run(records=24))
    curve = row(run)["curve"]
    _, values = run.series("probe/label/directional_cdnv_median")
    logs = np.log10(values[np.isfinite(values)])
    np.testing.assert_allclose(curve, logs, atol=6e-4)
    assert len(curve) <= MOST_POINTS
