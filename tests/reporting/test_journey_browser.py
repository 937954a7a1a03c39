"""One visit with the mouse, at the width of a desk and of a phone, through every control."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dnc_lightning.reporting.html import write_report
from tests.reporting.conftest import Page, write_run
from tests.reporting.task_runs import add_tasks

TASKS = {
    "colour": ["red", "green", "blue"],
    "shape": ["circle", "square", "plus"],
    "size": ["S", "L"],
}

pytestmark = pytest.mark.browser


def centre(page: Page, selector: str) -> Any:
    element = page.find(selector)
    page.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
    page.settle()
    return element


def click(page: Page, selector: str, along: float = 0.5) -> None:
    """Click with the mouse at a fraction of the element's width."""
    from selenium.webdriver import ActionChains

    element = centre(page, selector)
    aside = int((along - 0.5) * element.rect["width"])
    ActionChains(page.driver).move_to_element_with_offset(element, aside, 0).click().perform()
    page.settle()


@pytest.mark.parametrize("width", [1440, 390])
def test_every_control_answers_to_the_mouse(
    open_page: Callable[..., Page], browser: Any, tmp_path: Path, width: int
) -> None:
    del open_page  # only for what it checks at the end: no console error, no request
    folder = add_tasks(
        write_run(tmp_path / "run", records=12, tasks=TASKS, encoders=("student", "teacher"))
    )
    page = Page(browser, write_report(folder, folder / "report.html", finished=False), width)

    assert page.find("#live").is_selected()
    click(page, "label:has(#live)")  # a page of a running training loads itself anew
    assert not page.find("#live").is_selected()

    for slider in ("few-shot-step", "tasks-step", "variance-step", "step"):
        texts = [page.text(f"#{slider}-text")]
        for along in (0.02, 0.98):
            click(page, f"#{slider}", along)
            texts.append(page.text(f"#{slider}-text"))
        assert texts[1].startswith("step 0 ·"), slider
        assert texts[2] == texts[0], slider

    visible = (
        "return document.getElementById('{}').data.filter(t => t.visible === 'legendonly').length"
    )
    for chart in ("collapse", "few-shot-curve", "tightness", "task-curves"):
        click(page, f"#{chart} .legendtoggle")
        page.wait(visible.format(chart) + " > 0")

    tiles = page.text("#tiles")
    page.choose("#encoder", "teacher")
    page.choose("#task", list(TASKS)[-1])
    assert page.text("#tiles") != tiles
    click(page, "label:has(#average-median)")
    assert "the typical pair" in page.text("#average-note")
    click(page, "label:has(#shots-50)")
    assert "at 50 shots" in page.text("#tiles")

    paper = "return document.getElementById('{}').layout.paper_bgcolor"
    charts = ("collapse", "tightness", "task-heatmap", "variance-bars", "cdnv")
    light = [page(paper.format(chart)) for chart in charts]
    click(page, "#theme")
    for chart, before in zip(charts, light, strict=True):  # they are drawn one a frame
        page.wait(f"{paper.format(chart)} !== '{before}'")
    assert not set(light) & {page(paper.format(chart)) for chart in charts}
    assert page("return document.documentElement.scrollWidth") <= width
