"""Sections of further series in headless Chromium: both themes, desk and phone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dnc_lightning.reporting.compare.page import write_comparison
from dnc_lightning.reporting.compare_runs import find_runs
from dnc_lightning.reporting.html import write_report
from dnc_lightning.reporting.theme import DARK, LIGHT
from tests.reporting.conftest import Page
from tests.reporting.further_runs import KNN, further_run

pytestmark = pytest.mark.browser

COLOURS = (
    "const d = document.getElementById('further-0').data;return [d[0].line.color, d[1].line.color]"
)


@pytest.fixture
def quiet(browser: Any) -> Iterator[Any]:
    """Return the browser; whatever a page complains about fails the test."""
    yield browser
    assert [entry["message"] for entry in browser.get_log("browser")] == []


@pytest.mark.parametrize("width", [1440, 390])
def test_a_section_a_group_with_title_meaning_value_and_reference(
    quiet: Any, tmp_path: Path, width: int
) -> None:
    folder = further_run(tmp_path / "run")
    page = Page(quiet, write_report(folder, folder / "report.html"), width)
    titles = page("return [...document.querySelectorAll('#further h2')].map(h => h.textContent)")
    assert titles == ["Neighbours", "Spread", "Further numbers"]
    figure = page.text("#further figure:first-child")
    assert KNN.title in figure
    assert KNN.meaning in figure
    assert "0.780" in figure
    assert "↑ 0.480 from 0.300 at step 0" in figure
    legend = page.text("#further-0 .legend")
    assert "chance 0.25" in legend
    assert page("return document.getElementById('further-0').layout.yaxis.type") != "log"
    drawn = page("return document.querySelectorAll('#further .chart .main-svg:first-child').length")
    assert drawn == page("return document.querySelectorAll('#further .chart').length") == 8
    assert page("return document.documentElement.scrollWidth") <= width
    page.choose("#task", "shape")
    rows = page("return document.querySelector('#further .square').data[0].y")
    assert rows == ["circle", "square"]


def test_the_theme_colours_what_is_stored_once(quiet: Any, tmp_path: Path) -> None:
    folder = further_run(tmp_path / "run", records=4)
    page = Page(quiet, write_report(folder, folder / "report.html"))
    seen = [page(COLOURS)]
    page.find("#theme").click()
    page.settle()
    page.settle()
    page.wait("return document.querySelectorAll('#further .main-svg:first-child').length === 8")
    seen.append(page(COLOURS))
    themes = [LIGHT, DARK] if seen[0][0] == LIGHT.ink else [DARK, LIGHT]
    assert seen == [[theme.ink, theme.muted] for theme in themes]


def test_a_page_without_further_series_has_no_section(quiet: Any, make_run: Any) -> None:
    folder = make_run(records=3)
    page = Page(quiet, write_report(folder, folder / "report.html"))
    assert page("return document.querySelectorAll('#further > *').length") == 0


@pytest.mark.parametrize("width", [1440, 390])
def test_a_comparison_has_the_same_groups(quiet: Any, tmp_path: Path, width: int) -> None:
    for method, records in (("simclr", 4), ("vicreg", 6)):
        made = further_run(tmp_path / "sources" / method, records=records)
        (tmp_path / "runs").mkdir(exist_ok=True)
        made.rename(tmp_path / "runs" / method)
    path = write_comparison(find_runs([tmp_path / "runs"]), tmp_path / "comparison.html")
    page = Page(quiet, path, width)
    titles = page("return [...document.querySelectorAll('#further h2')].map(h => h.textContent)")
    assert titles == ["Neighbours", "Spread", "Further numbers"]
    names = "return document.getElementById('further-0').data.map(trace => trace.name)"
    assert page(names) == ["simclr", "vicreg", "chance 0.25"]
    assert "chance 0.25" in page.text("#further-0 .legend")
    page.find("#method-1").click()
    page.settle()
    visible = "return document.getElementById('further-0').data.map(trace => trace.visible)"
    assert page(visible)[:2] == [True, False]
    assert page("return document.documentElement.scrollWidth") <= width
