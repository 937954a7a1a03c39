"""Ratios of running times, taken in one run by turns, so that a busy machine slows both sides."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import pytest
import torch

ROWS: list[tuple[str, float, float, float]] = []


@pytest.fixture(autouse=True)
def _all_threads() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    yield
    torch.set_num_threads(before)


@pytest.fixture
def ratio(benchmark: Any, request: pytest.FixtureRequest) -> Callable[..., float]:
    """`ratio(subject, baseline)`: median over rounds of subject's time over baseline's."""

    def measure(subject: Callable[[], Any], baseline: Callable[[], Any], rounds: int = 15) -> float:
        def seconds(work: Callable[[], Any]) -> float:
            began = time.perf_counter()
            work()
            return time.perf_counter() - began

        subject(), baseline()
        times = [(seconds(baseline), seconds(subject)) for _ in range(rounds)]
        base, own = (median(column) for column in zip(*times, strict=True))
        benchmark.pedantic(subject, rounds=3)
        value = own / base
        benchmark.extra_info["ratio"] = round(value, 3)
        ROWS.append((request.node.name, own, base, value))
        return value

    return measure


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print every ratio, with the machine's size."""
    if ROWS:
        cores = len(os.sched_getaffinity(0))
        terminalreporter.section(f"ratios on {cores} cores, torch {torch.__version__}")
        for name, own, base, value in ROWS:
            terminalreporter.write_line(
                f"{name:70s} {own * 1e3:9.2f} ms / {base * 1e3:9.2f} ms = {value:8.3f}"
            )
