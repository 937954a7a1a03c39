"""The page in headless Chromium, at the width of a desk and of a phone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

TASKS = {"colour": ["red", "yellow", "green"], "shape": ["circle", "a square with a long name"]}

pytestmark = pytest.mark.browser

OpenPage = Callable[..., Any]


CASES: dict[str, dict[str, Any]] = {
    "usual": {},
    "several": {"tasks": TASKS, "encoders": ("student", "teacher"), "warnings": ("a " * 90,)},
    "first": {"records": 1},
    "undefined": {"records": 3, "undefined": True},
    "empty": {"records": 0},
    "no few-shot": {"records": 3, "few_shot": False},
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
def test_it_opens_without_errors_and_fits(open_page: OpenPage, case: str, width: int) -> None:
    page = open_page(width, **CASES[case])
    assert page("return document.documentElement.scrollWidth") <= width
    drawn = {"empty": 0, "without matrices": 3, "no few-shot": 3}.get(case, 5)
    assert page("return document.querySelectorAll('.chart .main-svg:first-child').length") == drawn


def test_heatmap_cells_are_square(open_page: OpenPage) -> None:
    page = open_page()
    for metric in ("cdnv", "directional_cdnv"):
        box = f"document.querySelector('#{metric} .nsewdrag').getBoundingClientRect()"
        width, height = page(f"return [{box}.width, {box}.height]")
        assert abs(width / height - 1) < 0.04


def test_the_tiles_show_the_records(open_page: OpenPage) -> None:
    page = open_page(records=24)
    tiles = page("return [...document.querySelectorAll('.tile')].map(tile => tile.innerText)")
    start, now = page(
        "const d = document.getElementById('collapse').data[1].y; return [d[0], d.at(-1)]"
    )
    assert f"{now:#.3g}" in tiles[0]
    assert f"↓ {start / now:.1f}\N{MULTIPLICATION SIGN} from {start:.2f} at step 0" in tiles[0]
    assert "100%" in tiles[4].replace("\n", "")
    assert "0.83%" in tiles[5].replace("\n", "")


def test_the_slider_moves_the_heatmaps_and_the_table(open_page: OpenPage) -> None:
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
    open_page: OpenPage,
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


def test_the_system_theme_is_followed(open_page: OpenPage) -> None:
    page = open_page()
    for scheme, background in (("dark", "#161b20"), ("light", "#ffffff")):
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        page.settle()
        shown = page("return document.getElementById('cdnv').layout.paper_bgcolor")
        assert shown == background


def test_the_selectors_change_what_is_shown(open_page: OpenPage) -> None:
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


def test_a_single_task_needs_no_selector(open_page: OpenPage) -> None:
    page = open_page(records=2)
    assert not page.find("#encoder-label").is_displayed()
    assert not page.find("#task-label").is_displayed()


def test_a_legend_click_hides_a_line_and_only_that(open_page: OpenPage) -> None:
    page = open_page()
    page("document.querySelector('#collapse .legendtoggle').scrollIntoView({block: 'center'})")
    page.find("#collapse .legendtoggle").click()
    visible = "return document.getElementById('collapse').data.map(t => t.visible ?? true)"
    page.wait(f"const v = (() => {{ {visible} }})(); return v[0] === 'legendonly'")
    assert page(visible) == ["legendonly", True, True]


def test_refreshing_keeps_the_place_and_is_off_when_finished(
    open_page: OpenPage,
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


def test_everything_is_reached_by_the_keyboard(open_page: OpenPage) -> None:
    from selenium.webdriver.common.keys import Keys

    page = open_page(tasks=TASKS, encoders=("student", "teacher"))
    reached = []
    for _ in range(12):
        page.press("body" if not reached else ":focus", Keys.TAB)
        reached.append(page("return document.activeElement.id || document.activeElement.className"))
        assert page("return getComputedStyle(document.activeElement).outlineStyle") != "none" or (
            reached[-1].startswith(("average", "shots"))  # its visible label carries the outline
        )
    ours = [name for name in reached if name != "modebar-btn"]
    controls = ["encoder", "task", "average-mean", "few-shot-step", "shots-10", "step"]
    assert ours == ["skip", "live", "theme", *controls]
