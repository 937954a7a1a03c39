"""The callback against a stand-in for ProbeCallback: it only looks at two attributes."""

from __future__ import annotations

import re
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dnc_lightning.callbacks.html_report import HtmlReport
from dnc_lightning.reporting import Record, RecordWriter

MODULE = object()


class Probe:
    def __init__(self, folder: Path) -> None:
        self.run_dir_: Path | None = None
        self.records_written_ = 0
        self.folder = folder

    def record(self, step: int) -> None:
        writer = RecordWriter(self.folder)
        if self.run_dir_ is None:
            writer.open({"name": "probe", "model": "Net"})
            self.run_dir_ = self.folder
        writer.append(Record(step, 0, 0.0, {"probe/label/cdnv": 1.0}), {})
        self.records_written_ += 1


def trainer_with(*callbacks: Any, rank: int = 0) -> SimpleNamespace:
    return SimpleNamespace(callbacks=list(callbacks), is_global_zero=rank == 0)


def probes_shown(path: Path) -> int:
    match = re.search(r'"finished":(?:true|false),"probes":(\d+)', path.read_text())
    assert match
    return int(match[1])


def finished(path: Path) -> bool:
    return '"finished":true' in path.read_text()


def batch_end(report: HtmlReport, trainer: Any) -> None:
    report.on_train_batch_end(trainer, MODULE, None, None, 0)


def test_the_page_follows_the_records(tmp_path: Path) -> None:
    probe, report = Probe(tmp_path / "run"), HtmlReport()
    trainer = trainer_with(report, probe)
    report.setup(trainer, MODULE, "fit")
    report.on_train_start(trainer, MODULE)
    assert report.path_ is None
    probe.record(0)
    batch_end(report, trainer)
    page = tmp_path / "run" / "report.html"
    assert report.path_ == page
    assert (probes_shown(page), finished(page)) == (1, False)
    stamp = page.stat().st_mtime_ns
    batch_end(report, trainer)
    assert page.stat().st_mtime_ns == stamp  # nothing new, nothing written
    probe.record(5)
    report.on_train_epoch_end(trainer, MODULE)
    assert probes_shown(page) == 2
    report.on_train_end(trainer, MODULE)
    probe.record(9)  # a probe callback that stands later in the list
    report.teardown(trainer, MODULE, "fit")
    assert (probes_shown(page), finished(page)) == (3, True)


def test_an_exception_leaves_a_finished_page(tmp_path: Path) -> None:
    probe, report = Probe(tmp_path), HtmlReport("page.html")
    trainer = trainer_with(probe, report)
    report.setup(trainer, MODULE, "fit")
    probe.record(0)
    report.on_exception(trainer, MODULE, KeyboardInterrupt())
    assert finished(tmp_path / "page.html")


def test_an_exception_before_setup_is_not_made_worse(tmp_path: Path) -> None:
    probe = Probe(tmp_path)
    probe.record(0)
    HtmlReport().on_exception(trainer_with(probe), MODULE, RuntimeError())
    assert not (tmp_path / "report.html").exists()


def test_two_probe_callbacks_get_a_page_each(tmp_path: Path) -> None:
    first, second, report = Probe(tmp_path / "a"), Probe(tmp_path / "b"), HtmlReport()
    trainer = trainer_with(first, second, report)
    report.setup(trainer, MODULE, "fit")
    first.record(0)
    second.record(0)
    second.record(1)
    batch_end(report, trainer)
    assert probes_shown(tmp_path / "a" / "report.html") == 1
    assert probes_shown(tmp_path / "b" / "report.html") == 2


def test_only_rank_zero_writes(tmp_path: Path) -> None:
    probe, report = Probe(tmp_path), HtmlReport()
    trainer = trainer_with(probe, report, rank=1)
    report.setup(trainer, MODULE, "fit")
    probe.record(0)
    batch_end(report, trainer)
    report.teardown(trainer, MODULE, "fit")
    assert not (tmp_path / "report.html").exists()


def test_a_trainer_without_a_probe_is_refused() -> None:
    report = HtmlReport()
    with pytest.raises(ValueError, match=r"add ProbeCallback\(\.\.\.\) to the Trainer's callbacks"):
        report.setup(trainer_with(report), MODULE, "fit")
    report.setup(trainer_with(report), MODULE, "validate")  # nothing to show there


@pytest.mark.parametrize("filename", ["", "a/b.html", "..", "/x.html"])
def test_a_file_name_must_be_plain(tmp_path: Path, filename: str) -> None:
    with pytest.raises(ValueError, match="plain file name"):
        HtmlReport(filename).setup(trainer_with(Probe(tmp_path)), MODULE, "fit")


def test_missing_plotly_is_told_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "plotly", None)
    with pytest.raises(ModuleNotFoundError, match=r"dnc_lightning\[report\]"):
        HtmlReport().setup(trainer_with(Probe(tmp_path)), MODULE, "fit")


def test_a_failing_write_warns_once_and_later_ones_try_again(tmp_path: Path) -> None:
    probe, report = Probe(tmp_path), HtmlReport()
    trainer = trainer_with(probe, report)
    report.setup(trainer, MODULE, "fit")
    probe.record(0)
    (tmp_path / "report.html").mkdir()
    with pytest.warns(UserWarning, match="could not write"):
        batch_end(report, trainer)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        probe.record(1)
        batch_end(report, trainer)
        (tmp_path / "report.html").rmdir()
        probe.record(2)
        batch_end(report, trainer)
    assert probes_shown(tmp_path / "report.html") == 3


def test_a_resumed_run_starts_from_its_own_count(tmp_path: Path) -> None:
    probe, report = Probe(tmp_path), HtmlReport()
    trainer = trainer_with(probe, report)
    for step in (0, 7):
        report.setup(trainer, MODULE, "fit")
        probe.record(step)
        batch_end(report, trainer)
        report.teardown(trainer, MODULE, "fit")
    assert probes_shown(tmp_path / "report.html") == 2
