"""Building and opening the largest page that the report is made for: 200 probes, 100 classes."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from dnc_lightning.reporting.html import write_report
from tests.reporting.conftest import CHROMIUM, DRIVER, FLAGS, write_run
from tests.reporting.task_runs import add_tasks

pytestmark = pytest.mark.bench

VISITS = 5
MOMENTS = """
const paint = performance.getEntriesByName('first-contentful-paint')[0].startTime;
const page = performance.getEntriesByType('navigation')[0];
return [paint, page.domInteractive, page.domContentLoadedEventEnd]"""


def test_opening_the_largest_page(
    benchmark: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Every visit in a browser that was never open before: no file or script is cached."""
    tasks = {"fine": [f"class {i}" for i in range(100)]}
    run = add_tasks(write_run(tmp_path / "run", records=200, tasks=tasks, examples=True))
    page = benchmark.pedantic(lambda: write_report(run, run / "report.html"), rounds=3)
    size = page.stat().st_size / 1e6
    with capsys.disabled():
        print(f"\n{size:.1f} MB, built in {benchmark.stats.stats.median:.2f} s")
    assert size < 15
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("opening needs chromium and chromedriver (chromium-driver)")
    visits = [_first_visit(page, tmp_path / f"profile-{k}") for k in range(VISITS)]
    painted, parsed, answers = (median(times) for times in zip(*visits, strict=True))
    with capsys.disabled():
        print(
            f"median of {VISITS} first visits: numbers after {painted / 1e3:.2f} s, scripts read "
            f"after {parsed / 1e3:.2f} s, answers after {answers / 1e3:.2f} s"
        )


def _first_visit(page: Path, profile: Path) -> list[float]:
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in [*FLAGS.split(), f"--user-data-dir={profile}"]:
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(DRIVER)))
    try:
        time.sleep(2)  # the browser's own start is not the page's
        driver.get(page.as_uri())
        return list(driver.execute_script(MOMENTS))
    finally:
        driver.quit()
