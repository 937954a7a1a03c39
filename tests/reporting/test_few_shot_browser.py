"""The few-shot section and tiles in headless Chromium."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dnc_lightning.reporting import read_run

pytestmark = pytest.mark.browser

OpenPage = Callable[..., Any]
TASKS = {"colour": ["red", "yellow", "green"], "shape": ["circle", "square"]}
CURVE = "return document.getElementById('few-shot-curve').data.map(trace => trace.y)"
TIGHTNESS = "return document.getElementById('tightness').data.map(trace => trace.y)"
TILES = "return [...document.querySelectorAll('.tile')].map(tile => tile.innerText)"


def row(page: Any, m: int) -> list[str]:
    rows = page(
        "return [...document.querySelectorAll('#few-shot-rows tr')]"
        ".map(row => [...row.cells].map(cell => cell.innerText))"
    )
    return next(cells for cells in rows if cells[0] == str(m))


def scalars(page: Any, at: int) -> dict[str, float]:
    folder = Path(page("return decodeURI(location.pathname)")).parent
    return dict(read_run(folder).records[at].scalars)


def test_the_slider_moves_the_chart_and_the_table_and_all_the_rest(open_page: OpenPage) -> None:
    from selenium.webdriver.common.keys import Keys

    page = open_page()
    latest, over_training = page(CURVE), page(TIGHTNESS)
    shown = row(page, 10)
    page.press("#few-shot-step", Keys.HOME)
    values = scalars(page, 0)
    first = page(CURVE)
    assert page.text("#few-shot-step-text").startswith("step 0 ·")
    hovered = page("return document.getElementById('few-shot-curve').data[3].text[2]")
    assert hovered == f"{math.ceil(values['probe/label/theorem_4_1/10']):,}"
    assert first[5][0] == pytest.approx(values["probe/label/few_shot_error/1"], rel=1e-3)
    assert all(now < then for now, then in zip(latest[3], first[3], strict=True))
    assert row(page, 10) != shown
    assert page(TIGHTNESS) == over_training
    for chart in ("tightness", "collapse"):
        assert page(f"return document.getElementById('{chart}').layout.shapes.at(-1).x0") == 1
    assert page.text("#step-text").startswith("step 0 ·")
    page.press("#step", Keys.ARROW_RIGHT)
    assert page.text("#few-shot-step-text").startswith("step 1 ·")
    page.press("#step", Keys.END)
    assert (page(CURVE), row(page, 10)) == (latest, shown)


def test_the_table_shows_the_records_and_what_is_vacuous(open_page: OpenPage) -> None:
    page = open_page()
    values = scalars(page, -1)
    _, measured, certificate, joint, theorem, newer = row(page, 10)
    error, bound = (values[f"probe/label/{name}/10"] for name in ("few_shot_error", "certificate"))
    assert measured.split() == [f"{error:.3f}", "±", "0.003"]
    assert certificate.split()[0] == f"{math.ceil(bound * 1000) / 1000:.3f}"
    assert certificate.split()[2] == "to"
    assert joint == f"{math.ceil(values['probe/label/joint/10'] * 1000) / 1000:.3f}"
    assert "vacuous" not in certificate
    assert "vacuous" in theorem
    assert "vacuous" in newer
    assert row(page, 1)[2].split() == ["1.00", "vacuous"]
    assert row(page, 100)[1] == "\N{EN DASH}"
    colours = page(
        "return [...document.querySelectorAll('#few-shot-rows tr:nth-child(3) td')]"
        ".map(cell => getComputedStyle(cell).color)"
    )
    assert colours[1] == colours[2] != colours[3] == colours[4]


def test_the_joint_certificate_shows_where_it_was_recorded(open_page: OpenPage) -> None:
    from selenium.webdriver.common.keys import Keys

    def legend(page: Any) -> list[str]:
        return page(  # type: ignore[no-any-return]
            "return [...document.querySelectorAll('#few-shot-curve .legendtext')]"
            ".map(entry => entry.textContent)"
        )

    page = open_page()
    assert "Joint" in legend(page)
    assert "Joint" in page.text("#few-shot thead")
    assert "never above the certificate" in page.text("#few-shot-joint")
    page.press("#few-shot-step", Keys.ARROW_LEFT)
    page.wait("return !document.querySelector('#few-shot-curve .legend').textContent.includes('J')")
    assert row(page, 10)[3] == "\N{EN DASH}"
    assert set(page(CURVE)[2]) == {None}
    page.press("#few-shot-step", Keys.HOME)
    page.wait("return document.querySelector('#few-shot-curve .legend').textContent.includes('J')")
    assert row(page, 1)[3].split()[0] == "0.800"
    page = open_page(joint=False)
    assert "Joint" not in legend(page)
    assert "Joint" not in page.text("#few-shot")
    assert len(row(page, 10)) == 5


def test_the_shots_selector_changes_the_chart_and_the_tile_and_is_kept(
    open_page: OpenPage,
) -> None:
    page = open_page()
    values = scalars(page, -1)
    assert page("return document.querySelector('#shots input:checked').value") == "10"
    at_ten, axis = page(TIGHTNESS), "return document.getElementById('tightness').layout.yaxis.range"
    range_ten = page(axis)
    page.press("#shots-10", "\ue014")  # arrow right
    assert page("return document.activeElement.id") == "shots-50"
    assert page(TIGHTNESS)[5][-1] == pytest.approx(
        values["probe/label/few_shot_error/50"], rel=1e-3
    )
    assert page(TIGHTNESS) != at_ten
    assert page(axis) != range_ten
    tile = page(TILES)[2]
    assert "Few-shot error at 50 shots" in tile
    assert f"{values['probe/label/few_shot_error/50']:.3f}" in tile
    page.press("#shots-50", "\ue014")
    assert "not measured here; certified at most 0.0" in page(TILES)[2]
    page.reload()
    assert page("return document.querySelector('#shots input:checked').value") == "100"


def test_the_tiles_say_what_is_certified(open_page: OpenPage) -> None:
    page = open_page()
    values = scalars(page, -1)
    error, needed = page(TILES)[2:4]
    bound = math.ceil(values["probe/label/certificate/10"] * 1000) / 1000
    assert f"certified at most {bound:.3f}; chance is 0.9" in error
    assert "± 0.003" in error
    assert f"{values['probe/label/shots_needed']:.0f}\n" in needed
    assert "for a certified error of at most 0.1" in needed
    page = open_page(records=1)  # before training nothing is certified
    error, needed = page(TILES)[2:4]
    assert "its certificate says nothing yet at 10 shots" in error
    assert "none\n" in needed
    page = open_page(records=2, undefined=True)
    error, needed = page(TILES)[2:4]
    assert "not measured here; no certificate is defined" in error
    assert "undefined at the latest probe" in needed


def test_tasks_and_encoders_have_their_own_numbers(open_page: OpenPage) -> None:
    page = open_page(tasks=TASKS, encoders=("student", "teacher"), records=8)
    seen = [page(CURVE)]
    page.choose("#encoder", "teacher")
    seen.append(page(CURVE))
    page.choose("#task", "shape")
    seen.append(page(CURVE))
    assert all(seen[i] != seen[j] for i, j in ((0, 1), (0, 2), (1, 2)))
    assert [curve[6][0] for curve in seen] == pytest.approx([2 / 3, 2 / 3, 1 / 2])


def test_runs_without_the_keys_have_neither_section_nor_tiles(open_page: OpenPage) -> None:
    page = open_page(few_shot=False, records=4)
    assert not page.find("#few-shot").is_displayed()
    assert len(page(TILES)) == 4
    assert "shot" not in "".join(page(TILES))
    assert "certificate" not in page.text("main").lower()


def test_without_matrices_the_slider_still_works(open_page: OpenPage) -> None:
    from selenium.webdriver.common.keys import Keys

    page = open_page(records=5, matrices=False)
    latest = page(CURVE)
    page.press("#few-shot-step", Keys.HOME)
    assert page(CURVE) != latest
    assert page("return document.getElementById('collapse').layout.shapes[0].x0") == 1


def test_hovering_tells_the_step_and_every_number(open_page: OpenPage) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    page = open_page(records=5)
    for chart, first in (("collapse", "CDNV :"), ("tightness", "Measured :")):
        page(f"document.getElementById('{chart}').scrollIntoView({{block: 'center'}})")
        ActionChains(page.driver).move_to_element(page.find(f"#{chart} .nsewdrag")).perform()
        hovered = "[...document.querySelectorAll('.hoverlayer text')].map(text => text.textContent)"
        page.wait(f"return {hovered}.some(text => text.startsWith('{first}'))")
        assert page(f"return {hovered}")[0].startswith("step ")


@pytest.mark.parametrize(("width", "joint"), [(1440, True), (390, True), (390, False), (320, True)])
def test_the_table_needs_no_scrolling(open_page: OpenPage, width: int, joint: bool) -> None:
    page = open_page(width, joint=joint)
    assert page("return document.documentElement.scrollWidth") <= width
    if width == 1440 or (width == 390 and not joint):  # else it scrolls in its own box
        box = "document.querySelector('.few-shot-numbers .table')"
        assert page(f"return {box}.scrollWidth <= {box}.clientWidth")
