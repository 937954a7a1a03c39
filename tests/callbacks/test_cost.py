"""What the package says that it costs, against clocks outside."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dnc_lightning import HtmlReport, LogSpacedCheckpoint, ProbeCallback, TerminalSummary
from dnc_lightning.callbacks import cost, html_report, probe_callback, run_state
from dnc_lightning.callbacks.cost import Meter, shared
from dnc_lightning.probe.engine import ProbeEngine
from tests.callbacks.fits import fit, probe, records, steps
from tests.callbacks.modules import BackboneModule
from tests.reporting.test_html_report import probes_shown

HOOKS = (
    "setup",
    "on_fit_start",
    "on_train_start",
    "on_train_batch_start",
    "on_train_batch_end",
    "on_train_epoch_end",
    "on_train_end",
    "on_fit_end",
    "teardown",
)


class Clock:
    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


def test_blocks_inside_a_block_count_once() -> None:
    clock = Clock()
    meter = Meter(clock)
    meter.start()
    clock.now += 4
    with meter:
        clock.now += 1
        with meter:
            clock.now += 2
            assert meter.spent == 3
            meter.add("page", 2)
    clock.now += 3
    meter.add("page", 1.5)
    assert (meter.spent, meter.elapsed) == (4.5, 10)
    assert meter.cost().overhead == 0.45


def test_one_more_probe_and_the_last_are_expected_with_all_that_follows_them() -> None:
    meter = Meter(Clock())
    meter.start()
    meter.add("thorough probe", 7)
    meter.add("page", 1)
    assert meter.cost().last == 7 + 7 + 2 * 1
    meter.add("probe", 3)
    meter.add("page", 2)
    meter.add(None, 11)  # setup does not come again
    assert meter.cost().last == 3 + 7 + 2 * 2


def test_the_time_between_two_fits_is_no_time_of_the_run() -> None:
    clock = Clock()
    meter = Meter(clock)
    for _ in range(2):
        meter.start()
        clock.now += 3
        with meter:
            clock.now += 1
            meter.stop()  # in a hook, as in a fit
        clock.now += 1_000
        meter.add("page", 5)  # too late to belong to either
    assert (meter.spent, meter.elapsed) == (2, 8)
    meter.resume(0.5, 20)
    assert (meter.spent, meter.elapsed) == (0.5, 20)


def test_what_serves_two_probes_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(cost, "time", SimpleNamespace(monotonic=clock))
    meters = [Meter(clock), Meter(clock)]

    def fails() -> None:
        with shared(meters, None):
            clock.now += 3
            raise OSError

    with pytest.raises(OSError):
        fails()
    assert [(m.spent, m.elapsed) for m in meters] == [(1.5, 3), (1.5, 3)]


class Slow(BackboneModule):
    """Takes a number of seconds a step."""

    def __init__(self, seconds: float, sleep: Any = time.sleep) -> None:
        super().__init__()
        self.seconds, self.sleep = seconds, sleep

    def training_step(self, batch: Any, index: int) -> Any:
        self.sleep(self.seconds)
        return super().training_step(batch, index)


def timed(callbacks: list[Any]) -> list[float]:
    """Have every hook of some callbacks timed; returns a list that holds the sum."""
    spent = [0.0]

    def wrapped(hook: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return hook(*args, **kwargs)
            finally:
                spent[0] += time.perf_counter() - began

        return call

    for callback in callbacks:
        for name in HOOKS:
            setattr(callback, name, wrapped(getattr(callback, name)))
    return spent


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seconds", "count"),
    [(0.001, 600), (0.01, 150), pytest.param(0.1, 60, marks=pytest.mark.slow)],
)
@pytest.mark.parametrize("before", [True, False])
def test_the_overhead_is_what_a_clock_outside_measures(
    seconds: float, count: int, before: bool, tmp_path: Path
) -> None:
    callback = ProbeCallback(probe().probe)
    others = [HtmlReport(), TerminalSummary(), LogSpacedCheckpoint()]
    callbacks: list[Any] = [*others, callback] if before else [callback, *others]
    spent = timed(callbacks)
    began = time.perf_counter()
    fit(tmp_path, *callbacks, module=Slow(seconds), max_steps=count, max_epochs=-1)
    truth = spent[0] / (time.perf_counter() - began)
    assert records(callback)[-1].scalars["probe/overhead"] == pytest.approx(truth, rel=0.1)


@pytest.mark.slow
def test_two_probes_count_their_own(tmp_path: Path) -> None:
    both = [probe(name="a"), ProbeCallback(probe().probe, name="b", every_n_train_steps=1)]
    spent = timed([*both, report := HtmlReport()])
    fit(tmp_path, *both, report, max_steps=90, max_epochs=-1)  # 21 probes and 91
    rare, often = (callback.probe_seconds_ for callback in both)
    assert often > 1.5 * rare
    assert rare + often == pytest.approx(spent[0], rel=0.1)


class FakeTime:
    """Probes of 50 ms, and pages, lines and checkpoints of 20 each, whatever the machine does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = Clock()
        for module in (cost, html_report, probe_callback, run_state):
            monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=self.clock))
        self.slow_down(monkeypatch, ProbeEngine, "probe", 0.05)
        self.slow_down(monkeypatch, html_report, "write_report", 0.02)
        self.slow_down(monkeypatch, TerminalSummary, "_show", 0.02)
        self.slow_down(monkeypatch, LogSpacedCheckpoint, "_save_topk_checkpoint", 0.02)

    def sleep(self, seconds: float) -> None:
        self.clock.now += seconds

    def slow_down(self, monkeypatch: Any, owner: Any, name: str, seconds: float) -> None:
        work = getattr(owner, name)

        def slower(*args: Any, **kwargs: Any) -> Any:
            self.sleep(seconds)
            return work(*args, **kwargs)

        monkeypatch.setattr(owner, name, slower)


@pytest.mark.parametrize("every", [1, 30])
def test_max_overhead_holds_over_pages_lines_and_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int
) -> None:
    fake = FakeTime(monkeypatch)
    callback = probe(every_n_train_steps=every, max_overhead=0.2)
    callbacks = [callback, HtmlReport(), TerminalSummary(), LogSpacedCheckpoint()]
    fit(tmp_path, *callbacks, module=Slow(0.01, fake.sleep), max_steps=400, max_epochs=-1)
    shares = [record.scalars["probe/overhead"] for record in records(callback)]
    assert max(shares[1:]) <= 0.2
    assert shares[-1] > 0.15  # 4 s of steps leave room for 1 s, 9 probes with all that follows them
    assert len(shares) == pytest.approx(9, abs=1)
    assert callback.probe_seconds_ == pytest.approx(fake.clock.now - 50 - 4)


def test_pages_follow_their_own_cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand pages of 20 ms would be twenty seconds; a twentieth of the time is enough."""
    fake = FakeTime(monkeypatch)
    pages: list[float] = []
    write = html_report.write_report

    def noted(*args: Any, **kwargs: Any) -> Path:
        pages.append(fake.clock.now - 50)
        return write(*args, **kwargs)

    monkeypatch.setattr(html_report, "write_report", noted)
    callback = probe(every_n_train_steps=1)
    fit(tmp_path, callback, HtmlReport(), module=Slow(0.01, fake.sleep), max_steps=100)
    assert len(steps(callback)) == 101
    early, late = pages[: html_report.PROMPT], pages[html_report.PROMPT :]
    assert early == pytest.approx([0.05 + 0.08 * k for k in range(html_report.PROMPT)], abs=0.011)
    assert all(b - a >= 20 * 0.02 for a, b in pairwise([early[-1], *late[:-1]]))
    assert 10 < len(late) < 20  # 6 s of steps and probes, one each 0.42 s, and the last
    assert callback.run_dir_ is not None
    assert probes_shown(callback.run_dir_ / "report.html") == len(steps(callback))
