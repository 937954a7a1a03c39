"""The page in headless Chromium, at the width of a desk and of a phone."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dnc_lightning.reporting.html import write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
FLAGS = """--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run
--disable-background-networking --disable-component-update --disable-sync --disable-dev-shm-usage"""
TASKS = {"colour": ["red", "yellow", "green"], "shape": ["circle", "a square with a long name"]}
PATIENCE_S = 30

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        CHROMIUM is None or DRIVER is None,
        reason="needs chromium and chromedriver (chromium-driver)",
    ),
]

MakeRun = Callable[..., Path]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
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

    def wait(self, script: str) -> None:
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.driver, PATIENCE_S, poll_frequency=0.05).until(lambda _: self(script))

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
def open_page(browser: Any, make_run: MakeRun) -> Iterator[Callable[..., Page]]:
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


CASES: dict[str, dict[str, Any]] = {
    "usual": {},
    "several": {"tasks": TASKS, "encoders": ("student", "teacher"), "warnings": ("a " * 90,)},
    "first": {"records": 1},
    "undefined": {"records": 3, "undefined": True},
    "empty": {"records": 0},
    "without matrices": {"records": 3, "matrices": False},
    "long names": {
        "records": 2,
        "tasks": {"t" * 70: [f"{'unbreakable' * 6}{i}" for i in range(3)]},
        "header": {"model": "VeryLongModuleName" * 5},
    },
    "many": {"records": 5, "tasks": {"fine": [f"class {i}" for i in range(100)]}},
}


@pytest.mark.parametrize("width", [1440, 390])
@pytest.mark.parametrize("case", CASES)
def test_it_opens_without_errors_and_fits(
    open_page: Callable[..., Page], case: str, width: int
) -> None:
    page = open_page(width, **CASES[case])
    assert page("return document.documentElement.scrollWidth") <= width
    drawn = {"empty": 0, "without matrices": 1}.get(case, 3)
    assert page("return document.querySelectorAll('.chart .main-svg:first-child').length") == drawn


def test_heatmap_cells_are_square(open_page: Callable[..., Page]) -> None:
    page = open_page()
    for metric in ("cdnv", "directional_cdnv"):
        box = f"document.querySelector('#{metric} .nsewdrag').getBoundingClientRect()"
        width, height = page(f"return [{box}.width, {box}.height]")
        assert abs(width / height - 1) < 0.04


def test_the_tiles_show_the_records(open_page: Callable[..., Page]) -> None:
    page = open_page(records=24)
    tiles = page("return [...document.querySelectorAll('.tile')].map(tile => tile.innerText)")
    start, now = page(
        "const d = document.getElementById('collapse').data[1].y; return [d[0], d.at(-1)]"
    )
    assert f"{now:#.3g}" in tiles[0]
    assert f"↓ {start / now:.1f}\N{MULTIPLICATION SIGN} from {start:.2f} at step 0" in tiles[0]
    assert "100%" in tiles[2].replace("\n", "")
    assert "0.83%" in tiles[3].replace("\n", "")


def test_the_slider_moves_the_heatmaps_and_the_table(open_page: Callable[..., Page]) -> None:
    from selenium.webdriver.common.keys import Keys

    page = open_page(records=24)
    latest, table = page.heat("directional_cdnv"), page.text("#worst")
    colours = page("return ['zmin', 'zmax'].map(k => document.getElementById('cdnv').data[0][k])")
    page.press("#step", Keys.HOME)
    first = page.heat("directional_cdnv")
    assert page.text("#step-text").startswith("step 0 ·")
    assert first[0][1] > 3 * latest[0][1]  # type: ignore[operator]
    assert first[2][2] is None
    assert page.text("#worst") != table
    assert page("return document.getElementById('collapse').layout.shapes[0].x0") == 1
    worst = max(value for row in first for value in row if value is not None)
    assert f"{worst:.2f}" in page.text("#worst tr:first-child")
    page.press("#step", Keys.ARROW_RIGHT)
    assert page.text("#step-text").startswith("step 1 ·")
    page.press("#step", Keys.END)
    assert (page.heat("directional_cdnv"), page.text("#worst")) == (latest, table)
    assert colours == page(
        "return ['zmin', 'zmax'].map(k => document.getElementById('cdnv').data[0][k])"
    )


def test_the_theme_toggle_changes_page_and_charts_and_is_kept(
    open_page: Callable[..., Page],
) -> None:
    page = open_page(390)
    colours = (
        "return [getComputedStyle(document.body).backgroundColor,"
        "document.getElementById('collapse').layout.paper_bgcolor,"
        "document.getElementById('theme').getAttribute('aria-pressed')]"
    )
    light = page(colours)
    page.press("#theme", " ")
    dark = page(colours)
    assert all(a != b for a, b in zip(light, dark, strict=True))
    page.reload()
    assert page(colours) == dark
    page.press("#theme", " ")
    assert page(colours) == light


def test_the_system_theme_is_followed(open_page: Callable[..., Page]) -> None:
    page = open_page()
    for scheme, background in (("dark", "#161b20"), ("light", "#ffffff")):
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        page.settle()
        shown = page("return document.getElementById('cdnv').layout.paper_bgcolor")
        assert shown == background


def test_the_selectors_change_what_is_shown(open_page: Callable[..., Page]) -> None:
    page = open_page(tasks=TASKS, encoders=("student", "teacher"))
    seen = {page.text("#tiles")}
    page.choose("#encoder", "teacher")
    seen.add(page.text("#tiles"))
    page("document.getElementById('average-median').click()")
    page.settle()
    assert "the typical pair" in page.text("#average-note")
    seen.add(page.text("#tiles"))
    page.choose("#task", "shape")
    seen.add(page.text("#tiles"))
    assert len(seen) == 4
    assert len(page.heat("cdnv")) == 2
    assert "a square with a long name" in page.text("#worst")
    page.reload()
    assert page.text("#tiles") in seen
    assert page("return document.getElementById('task').value") == "shape"


def test_a_single_task_needs_no_selector(open_page: Callable[..., Page]) -> None:
    page = open_page(records=2)
    assert not page.find("#encoder-label").is_displayed()
    assert not page.find("#task-label").is_displayed()


def test_a_legend_click_hides_a_line_and_only_that(open_page: Callable[..., Page]) -> None:
    page = open_page()
    page("document.querySelector('#collapse .legendtoggle').scrollIntoView({block: 'center'})")
    page.find("#collapse .legendtoggle").click()
    visible = "return document.getElementById('collapse').data.map(t => t.visible ?? true)"
    page.wait(f"const v = (() => {{ {visible} }})(); return v[0] === 'legendonly'")
    assert page(visible) == ["legendonly", True, True]


def test_refreshing_keeps_the_place_and_is_off_when_finished(
    open_page: Callable[..., Page],
) -> None:
    from selenium.webdriver.common.keys import Keys

    page = open_page(finished=True, records=4)
    assert not page.find("#live").is_selected()
    page = open_page(finished=False, records=6)
    assert page.find("#live").is_selected()
    page.press("#step", Keys.HOME)
    page("scrollTo(0, 700); window.before = true")
    page.wait("return !window.before && document.documentElement.dataset.ready === 'true'")
    page.settle()
    assert page("return scrollY") == 700
    assert page.text("#step-text").startswith("step 0 ·")
    assert page("return document.activeElement.id") == "step"
    page.press("#live", " ")
    page.reload()
    assert not page.find("#live").is_selected()


def test_everything_is_reached_by_the_keyboard(open_page: Callable[..., Page]) -> None:
    from selenium.webdriver.common.keys import Keys

    page = open_page(tasks=TASKS, encoders=("student", "teacher"))
    reached = []
    for _ in range(8):
        page.press("body" if not reached else ":focus", Keys.TAB)
        reached.append(page("return document.activeElement.id || document.activeElement.className"))
        assert page("return getComputedStyle(document.activeElement).outlineStyle") != "none" or (
            reached[-1].startswith("average")  # its visible label carries the outline
        )
    ours = [name for name in reached if name != "modebar-btn"]
    assert ours == ["skip", "live", "theme", "encoder", "task", "average-mean", "step"]
