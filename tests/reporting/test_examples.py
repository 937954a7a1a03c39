"""Example images of the worst pairs of classes, from the run folder to the page."""

from __future__ import annotations

import base64
import io
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dnc_lightning.records.store import EXAMPLES_FILE
from dnc_lightning.reporting import read_run
from dnc_lightning.reporting.html import write_report
from dnc_lightning.reporting.read.examples import named_classes, read_examples
from dnc_lightning.reporting.read.views import WORST_PAIRS, PairStack
from tests.reporting.conftest import strip_width
from tests.reporting.test_report import page_data

MakeRun = Callable[..., Path]
OpenPage = Callable[..., Any]

MANY = [f"class {i}" for i in range(200)]


def width(strip: str) -> int:
    return Image.open(io.BytesIO(base64.b64decode(strip))).width


def stack(*matrices: Any, chosen: tuple[int, ...]) -> PairStack:
    codes = np.array(matrices, dtype=np.uint16)
    return PairStack(tuple(range(len(codes))), chosen, {"directional_cdnv": codes}, {})


def test_the_classes_of_the_tables_come_latest_first() -> None:
    undefined, zero = 0, 1
    early = [[9, 50, 3, zero], [4, 9, 5, 6], [7, 8, 9, 40], [undefined, 2, 3, 9]]
    late = [[9, 3, zero, 5], [3, 9, 20, 3], [3, 30, 9, 4], [5, 3, 3, 9]]
    seen = stack(early, late, chosen=(10, 11, 12, 13))
    assert named_classes([seen], rows=1) == [12, 11, 10]
    assert named_classes([stack(early, chosen=(10, 11, 12, 13))], rows=1) == [10, 11]
    assert named_classes([stack(early, chosen=(10, 11, 12, 13))], rows=2) == [10, 11, 12, 13]
    tied = stack([[0, 5, 5], [5, 0, 5], [5, 5, 0]], chosen=(0, 1, 2))
    assert named_classes([tied], rows=1) == [0, 1]  # as a stable sort in the script leaves them
    nothing = [[9, undefined], [undefined, 9]]
    assert named_classes([stack(nothing, chosen=(3, 7))]) == []
    assert named_classes([]) == []
    assert named_classes([seen, stack(nothing, nothing, chosen=(3, 7))], rows=1)[0] == 12


def test_a_page_holds_what_its_tables_name_and_no_more(make_run: MakeRun) -> None:
    folder = make_run(
        records=6, tasks={"fine": MANY, "few": ["a", "b"]}, encoders=("s", "t"), examples=True
    )
    data = page_data(write_report(folder, folder / "report.html"))
    named: dict[str, set[int]] = {"fine": set(), "few": set()}
    for view in data["views"]:
        kept = view["stack"]
        count = len(kept["classes"])
        names = MANY if view["task"] == "fine" else ["a", "b"]
        assert [names[i] for i in kept["chosen"]] == kept["classes"]
        codes = np.frombuffer(base64.b64decode(kept["directional_cdnv"]["codes"]), "<u2")
        for table in codes.reshape(-1, count, count):
            pairs = [(-int(table[i, j]), i, j) for i in range(count) for j in range(count)]
            for code, i, j in sorted(p for p in pairs if p[1] != p[2] and p[0])[:WORST_PAIRS]:
                assert code < 0
                named[view["task"]] |= {kept["chosen"][i], kept["chosen"][j]}
    shown = {task: set(map(int, strips)) for task, strips in data["examples"].items()}
    assert shown == named
    assert shown["few"] == {0, 1}
    assert len(shown["fine"]) < 120
    for task, at in (("fine", 0), ("few", 1)):
        for index, strip in data["examples"][task].items():
            assert width(strip) == strip_width(at, int(index))


def test_a_page_stays_below_its_budget(make_run: MakeRun) -> None:
    folder = make_run(records=1, tasks={"a": MANY[:40], "b": ["x", "y"]}, examples=True)
    wanted = {"a": list(range(30)), "b": [1, 0]}
    everything = read_examples(folder, wanted)
    assert {task: list(strips) for task, strips in everything.items()} == wanted
    sizes = [len(strip) for strips in everything.values() for strip in strips.values()]
    most = sum(sizes) // 2
    half = read_examples(folder, wanted, most=most)
    assert list(half["b"]) == [1, 0]  # the tasks take turns
    assert list(half["a"]) == list(range(len(half["a"])))
    held = sum(len(strip) for strips in half.values() for strip in strips.values())
    assert most - max(sizes) < held <= most
    assert read_examples(folder, wanted, most=10) == {"a": {}, "b": {}}


def test_a_run_without_examples_has_none(make_run: MakeRun) -> None:
    folder = make_run(records=2)
    path = write_report(folder, folder / "report.html")
    assert page_data(path)["examples"] == {"label": {}}
    assert read_run(folder).problems == ()


def test_a_damaged_archive_is_told_and_never_raises(make_run: MakeRun, tmp_path: Path) -> None:
    folder = make_run(records=1, examples=True)
    archive = folder / EXAMPLES_FILE
    whole = archive.read_bytes()
    wanted = {"label": list(range(10))}
    intact = read_examples(folder, wanted)["label"]
    rng = random.Random(0)
    for _ in range(300):
        content = bytearray(whole[: rng.choice([len(whole), rng.randrange(len(whole))])])
        for _ in range(rng.randrange(1, 4)):
            if content:
                content[rng.randrange(len(content))] = rng.randrange(256)
        archive.write_bytes(content)
        found = read_examples(folder, wanted)["label"]
        assert found.items() <= intact.items()
    archive.write_bytes(whole[: len(whole) // 2])
    text = write_report(folder, folder / "report.html").read_text(encoding="utf-8")
    assert "examples.zip is damaged" in text
    assert page_data(folder / "report.html")["examples"] == {"label": {}}
    archive.unlink()
    archive.mkdir()
    assert read_examples(folder, wanted) == {"label": {}}
    shutil.rmtree(archive)


SHOWN = """return [...document.querySelectorAll('#worst tr')].map(row =>
    [...row.querySelectorAll('img')].map(image => [image.naturalWidth, image.alt]))"""
LOADED = """return [...document.querySelectorAll('#worst img')].every(
    image => image.complete && image.naturalWidth > 0)"""


@pytest.mark.browser
@pytest.mark.parametrize("width", [1440, 390])
def test_rows_show_their_own_two_classes(open_page: OpenPage, width: int) -> None:
    from selenium.webdriver.common.keys import Keys

    names = {"shape": ["o", "x"], "thing": [f"thing {i}" for i in range(170)]}
    page = open_page(width, records=12, tasks=names, examples=True)
    seen = []
    for task, key in (("shape", Keys.END), ("thing", Keys.END), ("thing", Keys.HOME)):
        page.choose("#task", task)
        page.press("#step", key)
        page.wait(LOADED)
        rows = page(SHOWN)
        table = page.heat("directional_cdnv")
        pairs = sorted(
            ((-value, i, j) for i, row in enumerate(table) for j, value in enumerate(row) if value)
        )[:10]
        kept = page("return document.getElementById('directional_cdnv').data[0].y")
        at = list(names).index(task)
        assert rows == [
            [
                [strip_width(at, names[task].index(name)), f"Examples of {name}"]
                for name in (kept[i], kept[j])
            ]
            for _, i, j in pairs
        ]
        seen.append(rows)
        boxes = page("return [...document.querySelectorAll('#worst img')].map(i => i.clientHeight)")
        assert all(0 < height <= 40 for height in boxes)
        assert page("return document.documentElement.scrollWidth") <= width
        assert page.find("#examples-note").is_displayed()
    assert seen[1] != seen[2]


@pytest.mark.browser
def test_a_table_without_examples_is_as_before(open_page: OpenPage) -> None:
    page = open_page(records=2)
    assert page("return document.querySelectorAll('#worst img').length") == 0
    assert not page.find("#examples-note").is_displayed()
    table = page.heat("directional_cdnv")
    _, i, j = max((v, i, j) for i, row in enumerate(table) for j, v in enumerate(row) if v)
    names = page("return document.getElementById('directional_cdnv').data[0].y")
    assert page.text("#worst td:first-child") == f"{names[i]} → {names[j]}"
