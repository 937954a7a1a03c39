"""The site of the docs, built and opened in headless Chromium from files, without a network."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
WIDTHS = (1440, 390)

pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Strictly: a broken link, a missing anchor or a tutorial that fails ends the build."""
    folder = tmp_path_factory.mktemp("site")
    subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        check=True,
    )
    return folder


def pages(folder: Path) -> Iterator[Path]:
    found = sorted(path for path in folder.rglob("*.html") if path.name != "404.html")
    assert len(found) >= 20
    yield from found


@pytest.mark.parametrize("width", WIDTHS)
def test_every_page_opens_and_fits(site: Path, browser: Any, width: int) -> None:
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False},
    )
    browser.get_log("performance")
    for path in pages(site):
        browser.get_log("browser")
        browser.get(path.as_uri())
        assert browser.find_element("css selector", "h1").text, path.name
        reach = browser.execute_script("return document.documentElement.scrollWidth")
        assert reach <= width, path.name
        broken = browser.execute_script(
            "return [...document.images].filter((i) => i.complete && !i.naturalWidth)"
            ".map((i) => i.src)"
        )
        assert broken == [], path.name
        assert [entry["message"] for entry in browser.get_log("browser")] == [], path.name
    asked = [
        entry["message"]
        for entry in browser.get_log("performance")
        if "Network.requestWillBeSent" in entry["message"] and '"url":"http' in entry["message"]
    ]
    assert asked == []


def test_search_and_the_dark_theme_work_from_files(site: Path, browser: Any) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 1440, "height": 900, "deviceScaleFactor": 1, "mobile": False},
    )
    browser.get((site / "index.html").as_uri())
    box = browser.find_element("css selector", ".md-search__input")
    browser.execute_script("document.querySelector('[for=__search]').click()")
    box.send_keys("guarantee")
    WebDriverWait(browser, 20).until(
        lambda b: b.find_elements("css selector", ".md-search-result__link")
    )
    before = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    browser.execute_script(
        "document.querySelector('label[title=Dark], label[title=Light]').click()"
    )
    after = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert before != after


def test_formulas_are_drawn_and_pictures_are_there(site: Path) -> None:
    theory = (site / "theory.html").read_text()
    assert theory.count("<math") > 300
    assert 'class="arithmatex">\\' not in theory
    assert "merror" not in theory
    for name in ("own_module", "reading_a_report", "several_tasks", "frozen_encoder"):
        assert list((site / "tutorials").glob(f"{name}_files/*.png")), name
    assert "Alarm" in (site / "tutorials" / "reading_a_report.html").read_text()
    assert '<svg class="layers"' in (site / "architecture.html").read_text()
