"""Run folders made up on the spot, with the trends of real ones, and a browser for their pages."""

from __future__ import annotations

import io
import math
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dnc_lightning.records.store import EXAMPLES_FILE, Record, RecordWriter
from dnc_lightning.reporting.html import write_report
from dnc_lightning.reporting.read.examples import member

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
FLAGS = """--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run
--disable-background-networking --disable-component-update --disable-sync --disable-dev-shm-usage"""
PATIENCE_S = 30

SHOTS = (1, 5, 10, 50, 100)
FASHION = ["T-shirt/top", "trouser", "pullover", "dress", "coat"]
FASHION += ["sandal", "shirt", "sneaker", "bag", "ankle boot"]


def log_spaced(count: int, last: int = 1585) -> list[int]:
    """Return `count` distinct rising steps from 0 to about `last`, dense at the start."""
    steps = [0][:count]
    for k in range(1, count):
        steps.append(max(steps[-1] + 1, round((last + 1) ** (k / max(count - 1, 1))) - 1))
    return steps


def few_shot_numbers(
    prefix: str, classes: int, progress: float, wiggle: float, undefined: bool = False
) -> dict[str, float]:
    """Return falling errors and bounds of one probe; 100 shots are too many to be measured."""
    spread, axis = 20.0 * wiggle * 0.1**progress, 1.5 * wiggle * 0.0012**progress
    rivals, scalars = classes - 1, {}
    chance = 1 - 1 / max(classes, 2)
    for m in SHOTS:
        variance = 4 * axis * (1 + 1 / m) + 0.16 * spread**2 / m * (1 + 1 / m)
        first = (4 / m) * (spread**2 + spread / 4)
        noise = (math.sqrt(first) + math.sqrt(spread / m) + spread / m) ** 2
        old = min(
            (0.5 - 2 / a - 2**1.5 / (a * m)) ** -2 * axis
            + a / 4 * (4 * spread / math.sqrt(m) + spread / m)
            for a in (10.0, 12.0, 16.0, 24.0)
        )
        error = chance * (1 - progress * 0.93 * (1 - 0.55 * m**-0.5)) * (0.9 + 0.1 * wiggle)
        certificate = min(1.0, rivals * variance / (1 + variance))
        scalars |= {
            f"{prefix}/few_shot_error/{m}": math.nan if m >= 100 or undefined else error,
            f"{prefix}/few_shot_error_se/{m}": math.nan if m >= 100 else 0.011 / math.sqrt(m),
            f"{prefix}/certificate/{m}": math.nan if undefined else certificate,
            f"{prefix}/certificate_low/{m}": math.nan if undefined else certificate * 0.85,
            f"{prefix}/certificate_high/{m}": math.nan if undefined else min(1, certificate * 1.2),
            f"{prefix}/theorem_4_1/{m}": math.nan if undefined else rivals * (4 * axis + noise),
            f"{prefix}/luthra_2025/{m}": math.nan if undefined else rivals * old,
        }
    limit = rivals * 4 * axis / (1 + 4 * axis)
    scalars[f"{prefix}/shots_needed"] = (
        math.nan if limit >= 0.1 or undefined else math.ceil(10 * spread / (0.1 - limit))
    )
    return scalars


def write_run(
    folder: Path,
    *,
    records: int = 24,
    tasks: dict[str, list[str]] | None = None,
    encoders: tuple[str, ...] = ("backbone",),
    undefined: bool = False,
    matrices: bool = True,
    few_shot: bool = True,
    joint: bool = True,
    examples: bool = False,
    warnings: tuple[str, ...] = (),
    header: dict[str, Any] | None = None,
) -> Path:
    """Write a run folder; directional CDNV falls faster than CDNV, unresolved pairs come first."""
    tasks = tasks or {"label": FASHION}
    rng = np.random.default_rng(7)
    many = len(encoders) > 1
    prefixes = {e: {t: f"probe/{e}/{t}" if many else f"probe/{t}" for t in tasks} for e in encoders}
    writer = RecordWriter(folder)
    writer.open(
        {
            "name": "probe",
            "model": "SimCLR",
            "encoders": list(encoders),
            "tasks": tasks,
            "prefixes": prefixes,
            "probe": {
                "size": 1000,
                "per_class": {task: [100] * len(names) for task, names in tasks.items()},
                "seed": 0,
                "image_shape": [3, 32, 32],
                "dtype": "uint8",
            },
            "pooling": "auto",
            "normalize": False,
            "precision": "32-true",
            "shots": list(SHOTS),
            "ways": None,
            "target_error": 0.1,
            "device": "cpu",
            "world_size": 1,
            "versions": {"dnc_lightning": "0.1.0", "torch": "2.14.1", "lightning": "2.6.6"},
            "started": "2026-11-22T02:30:00",
            **(header or {}),
        }
    )
    levels = {
        (e, t): np.exp(rng.normal(0, 0.7, (len(names), len(names))))
        for e in encoders
        for t, names in tasks.items()
    }
    for step in log_spaced(records):
        progress = math.log1p(step) / math.log1p(1585)
        scalars: dict[str, float] = {}
        uncalibrated: dict[str, float] = {}
        stored: dict[str, np.ndarray] = {}
        for (encoder, task), level in levels.items():
            wiggle = 1 + 0.08 * rng.normal()
            if examples and step == 0:
                level = level[::-1, ::-1]  # so that the worst pairs change
            directional = 1.4 * level * ((0.06 / level**0.3) ** (progress**1.3)) * wiggle
            cdnv = 21.0 * (level + level.T) / 2 * (0.3**progress) * wiggle
            for matrix in (directional, cdnv):
                np.fill_diagonal(matrix, np.nan)
                if undefined:
                    matrix[:] = np.nan
            prefix = prefixes[encoder][task]
            for name, matrix in (("cdnv", cdnv), ("directional_cdnv", directional)):
                known = matrix[np.isfinite(matrix)]
                mean = float(known.mean()) if known.size else math.nan
                scalars[f"{prefix}/{name}"] = mean
                scalars[f"{prefix}/{name}_median"] = float(np.median(known)) if known.size else mean
                scalars[f"{prefix}/{name}_unbiased"] = mean * 1.15 if step else math.nan
                stored[f"{encoder}/{task}/{name}"] = matrix
                if step == 0:
                    uncalibrated[f"{prefix}/{name}"] = mean * (0.6 if name == "cdnv" else 2.4)
            if few_shot:
                scalars |= few_shot_numbers(prefix, len(tasks[task]), progress, wiggle, undefined)
                if joint and step in (0, log_spaced(records)[-1]):
                    for m in SHOTS:
                        scalars[f"{prefix}/joint/{m}"] = 0.8 * scalars[f"{prefix}/certificate/{m}"]
            scalars[f"{prefix}/resolved_pairs"] = 0.0 if undefined else min(1.0, 0.7 + progress / 3)
        scalars |= {"probe/seconds": 0.41, "probe/overhead": 0.0083}
        note = "BatchNorm statistics calibrated on 4 probe batches; both values are kept"
        writer.append(
            Record(
                step=step,
                epoch=step // 40,
                time=0.2 * step,
                scalars=scalars,
                uncalibrated=uncalibrated,
                notes=(note,) if step == 0 else (),
                warnings=warnings,
            ),
            stored if matrices else {},
        )
    if examples:
        write_strips(folder, tasks)
    return folder


def write_strips(folder: Path, tasks: dict[str, list[str]]) -> None:
    """Write an image per class whose width tells the task and the class: see `strip_width`."""
    with zipfile.ZipFile(folder / EXAMPLES_FILE, "w") as archive:
        for task, names in tasks.items():
            for index in range(len(names)):
                width = strip_width(list(tasks).index(task), index)
                buffer = io.BytesIO()
                Image.new("RGB", (width, 8), (40 * index % 256, 90, 160)).save(buffer, "JPEG")
                archive.writestr(member(task, index), buffer.getvalue())


def strip_width(task: int, index: int) -> int:
    return 8 + 40 * task + index


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Return `write_run` with a folder of its own for each call."""
    made = iter(range(1000))

    def make(**options: Any) -> Path:
        return write_run(tmp_path / f"run-{next(made)}", **options)

    return make


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("needs chromium and chromedriver (chromium-driver)")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    profile = tmp_path_factory.mktemp("profile")
    for flag in [*FLAGS.split(), f"--user-data-dir={profile}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(DRIVER)))
    yield driver
    driver.quit()


class Page:
    """One open page; every script runs in it."""

    def __init__(self, driver: Any, path: Path, width: int = 1440) -> None:
        self.driver = driver
        self.resize(width)
        for log in ("browser", "performance"):
            driver.get_log(log)
        driver.get(path.as_uri())
        self("sessionStorage.clear()")
        self.reload()

    def __call__(self, script: str) -> Any:
        return self.driver.execute_script(script)

    def resize(self, width: int) -> None:
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False},
        )

    def reload(self) -> None:
        self.driver.refresh()
        self.wait("return document.documentElement.dataset.ready === 'true'")
        self.settle()

    def wait(self, script: str, seconds: float = PATIENCE_S) -> None:
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.driver, seconds, poll_frequency=0.05).until(lambda _: self(script))

    def settle(self) -> None:
        """Let the drawing that waits for the next frame, and the one after it, happen."""
        self.driver.execute_async_script(
            "const done = arguments[0]; let frames = 4;"
            "const next = () => frames-- ? requestAnimationFrame(next) : done(); next();"
        )

    def find(self, selector: str) -> Any:
        from selenium.webdriver.common.by import By

        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        return str(self.find(selector).text)

    def press(self, selector: str, *keys: str) -> None:
        self.find(selector).send_keys(*keys)
        self.settle()

    def choose(self, selector: str, value: str) -> None:
        from selenium.webdriver.support.ui import Select

        Select(self.find(selector)).select_by_value(value)
        self.settle()

    def heat(self, metric: str) -> list[list[float | None]]:
        return self(f"return document.getElementById('{metric}').data[0].customdata")  # type: ignore[no-any-return]


@pytest.fixture
def open_page(browser: Any, make_run: Callable[..., Path]) -> Iterator[Callable[..., Page]]:
    opened: list[Page] = []

    def open_(width: int = 1440, finished: bool = True, **options: Any) -> Page:
        folder = make_run(**options)
        opened.append(
            Page(browser, write_report(folder, folder / "report.html", finished=finished), width)
        )
        return opened[-1]

    yield open_
    assert [entry["message"] for entry in browser.get_log("browser")] == []
    requested = [
        entry["message"]
        for entry in browser.get_log("performance")
        if "Network.requestWillBeSent" in entry["message"] and '"url":"http' in entry["message"]
    ]
    assert requested == []
