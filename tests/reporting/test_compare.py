"""Which runs are seeds of one method, what their lines hold, and the page that compares them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dnc_lightning.records.store import RECORDS_FILE, Record, RecordWriter, read_run
from dnc_lightning.reporting.charts.general import comparison_of
from dnc_lightning.reporting.charts.values import Axis, Chart, Line
from dnc_lightning.reporting.compare.numbers import (
    band,
    geometric_mean,
    numbers,
    over_training,
    plain_mean,
)
from dnc_lightning.reporting.compare.page import comparison_data, write_comparison
from dnc_lightning.reporting.compare.pictures import collapse, errors
from dnc_lightning.reporting.compare_runs import find_runs, method_of, methods_of, run_names
from dnc_lightning.reporting.draw.look import dash, symbol
from dnc_lightning.reporting.draw.plotly import plotly_spec
from dnc_lightning.reporting.read.views import views
from dnc_lightning.reporting.theme import DARK, LIGHT
from dnc_lightning.reporting.words import bound_words, in_digits
from dnc_lightning.series import Series
from tests.reporting.conftest import Page, write_run

TASKS = {"colour": ["red", "yellow", "green"], "shape": ["circle", "square"]}


def scaled(folder: Path, factor: float, **options: Any) -> Path:
    """Write a run whose CDNV and errors are multiples of the usual ones."""
    run = read_run(write_run(folder / "template", **options))
    target = folder / "dnc" / "probe"
    writer = RecordWriter(target)
    writer.open({k: v for k, v in run.header.items() if k != "version"})
    for record in run.records:
        changed = {k: v * factor if "cdnv" in k else v for k, v in record.scalars.items()}
        writer.append(Record(record.step, record.epoch, record.time, changed), {})
    for file in sorted((folder / "template").rglob("*"), reverse=True):
        file.unlink() if file.is_file() else file.rmdir()
    (folder / "template").rmdir()
    return target


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds of SimCLR and one of DINO, which has two encoders."""
    root = tmp_path_factory.mktemp("runs")
    for seed, factor in ((0, 0.5), (1, 2.0)):
        scaled(root / "simclr" / f"seed{seed}", factor, tasks=TASKS)
    scaled(
        root / "dino" / "seed0",
        1.5,
        tasks=TASKS,
        encoders=("student", "teacher"),
        header={"model": "DINO"},
    )
    return root


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("simclr/seed0", "simclr"),
        ("simclr_seed=12", "simclr"),
        ("simclr-s3", "simclr"),
        ("fashion/vicreg/1", "fashion/vicreg"),
        ("resnet18", "resnet18"),
        ("resnet_50", "resnet_50"),
        ("losses2", "losses2"),
        ("csv/version_1", "csv/version_1"),
    ],
)
def test_only_what_counts_repetitions_is_dropped(name: str, method: str) -> None:
    assert method_of(name) == method


def test_names_are_what_tells_paths_apart() -> None:
    paths = [Path(f"/a/b/{m}/logs/{s}/dnc/probe") for m in ("x", "y") for s in (0, 1)]
    assert run_names(paths) == ["x/0", "x/1", "y/0", "y/1"]
    assert run_names(paths[:1]) == ["0"]
    assert run_names([Path("/a/b"), Path("/a/c/d")]) == ["b", "c/d"]


def test_seeds_are_grouped_and_methods_are_not(runs: Path) -> None:
    found = find_runs([runs])
    assert {g.label: [n.name for n in g.runs] for g in found.groups} == {
        "dino": ["dino/seed0"],
        "simclr": ["simclr/seed0", "simclr/seed1"],
    }
    assert found.problems == ()
    assert [m.label for m in methods_of(found.groups)] == [
        "dino · student",
        "dino · teacher",
        "simclr",
    ]


def test_labels_name_the_groups(runs: Path) -> None:
    found = find_runs([runs / "simclr", runs / "dino"], ["contrastive", "distillation"])
    assert [g.label for g in found.groups] == ["contrastive", "distillation"]
    with pytest.raises(ValueError, match="expected one label for each of the 2 paths, got 1: a"):
        find_runs([runs / "simclr", runs / "dino"], ["a"])


def test_runs_that_differ_in_their_settings_are_not_averaged(tmp_path: Path) -> None:
    write_run(tmp_path / "a" / "seed0", records=3)
    write_run(tmp_path / "a" / "seed1", records=3, header={"normalize": True})
    labels = [group.label for group in find_runs([tmp_path]).groups]
    assert labels == ["SimCLR", "SimCLR (2)"]


def test_what_cannot_be_read_is_named_and_the_rest_is_kept(tmp_path: Path) -> None:
    good = write_run(tmp_path / "good", records=3)
    empty = write_run(tmp_path / "empty", records=0)
    newer = write_run(tmp_path / "newer", records=2)
    header = (newer / "run.json").read_text().replace('"version": 1', '"version": 9')
    (newer / "run.json").write_text(header)
    with (good / RECORDS_FILE).open("ab") as file:
        file.write(b'{"version": 1, "step": 99')
    found = find_runs([tmp_path, tmp_path / "nowhere"])
    assert [named.run.folder for named in found.runs] == [good.resolve()]
    texts = "\n".join(found.problems)
    for words in (
        "there is none at",
        "is of version 9",
        "was cut short",
        f"{empty.name} is left out: no probe has been recorded yet",
    ):
        assert words in texts


def test_a_band_averages_logarithms_between_the_extremes() -> None:
    x = np.array([0, 1, 10])
    found = band([(x, np.array([1.0, 4, 2])), (x, np.array([4.0, 1, 8]))], geometric=True)
    assert found.x == (0, 1, 10)
    assert found.mean == pytest.approx([2, 2, 4])
    assert found.low == pytest.approx([1, 1, 2])
    assert found.high == pytest.approx([4, 4, 8])


def test_seeds_probed_at_other_steps_meet_where_all_have_been() -> None:
    a = (np.array([0, 3, 15]), np.array([8.0, 4, 2]))
    b = (np.array([1, 7]), np.array([10.0, 10]))
    found = band([a, b], geometric=True)
    assert found.x == (1, 3, 7)
    # log2(step + 1) is 0, 2, 4 in the first; halfway in step means a factor of sqrt(2).
    assert found.low == pytest.approx([8 / 2**0.5, 4, 4 / 2**0.5])
    assert band([a, (np.array([99]), np.array([1.0]))], geometric=True).x == ()
    assert band([], geometric=False).x == ()


def test_means_leave_out_what_is_undefined() -> None:
    assert geometric_mean([2.0, 8.0, math.nan, 0.0]) == pytest.approx(4)
    assert plain_mean([2.0, math.nan, 4.0]) == pytest.approx(3)
    assert math.isnan(geometric_mean([]))
    assert math.isnan(plain_mean([math.nan]))


def test_the_lines_are_the_records(runs: Path) -> None:
    group = find_runs([runs / "simclr"]).groups[0]
    key = "probe/shape/directional_cdnv"
    steps, low = group.runs[0].run.series(key)
    _, high = group.runs[1].run.series(key)
    found = over_training(group.runs, key)
    assert found.x == tuple(steps)
    assert found.mean == pytest.approx(np.sqrt(low * high))
    assert found.low == pytest.approx(low)
    assert found.high == pytest.approx(high)


def test_the_table_holds_first_last_and_falls(runs: Path) -> None:
    groups = find_runs([runs / "simclr"]).groups
    data = comparison_data(groups, methods_of(groups))
    assert [task["task"] for task in data["tasks"]] == ["colour", "shape"]
    task = data["tasks"][0]
    shown = [*task["averages"][0]["columns"], *task["at"][5], *task["columns"]]
    cells = {column["title"]: column["cells"][0] for column in shown[1:]}
    run = groups[0].runs[0].run
    first, last = (run.records[i].scalars for i in (0, -1))
    key = "probe/colour/directional_cdnv"
    # The seeds have half and twice the usual values, so their geometric mean has the usual ones.
    title, (words, value, _) = shown[0]["title"], shown[0]["cells"][0]
    assert title == "Directional CDNV"
    assert words == f"{in_digits(2 * first[key])} → {in_digits(2 * last[key])}"
    assert value == pytest.approx(2 * last[key], rel=1e-5)
    falls = [first[k] / last[k] for k in (key, "probe/colour/cdnv")]
    for column, fall in zip((shown[1], shown[3]), falls, strict=True):
        words, value, below = column["cells"][0]
        assert column["title"] == "Fall"
        assert value == pytest.approx(fall, rel=1e-5)
        assert words == f"↓ {in_digits(fall)}\N{MULTIPLICATION SIGN}"
        assert below == f"{in_digits(fall)} to {in_digits(fall)}"
    assert cells["Ratio of falls"][1] == pytest.approx(falls[0] / falls[1], rel=1e-5)
    certificate = cells["Certificate, m\u00a0=\u00a05"]
    assert certificate[0] == bound_words(last["probe/colour/certificate/5"])
    error = cells["Measured error, m\u00a0=\u00a05"]
    assert error[0] == in_digits(last["probe/colour/few_shot_error/5"])
    assert error[1] == pytest.approx(last["probe/colour/few_shot_error/5"], rel=1e-5)
    assert cells["Steps"] == [f"{run.records[-1].step:,}"]
    assert cells["Overhead"] == ["0.83%"]
    own = numbers(run, views(run)[0])
    assert own.directional_cdnv.last == last[key]


def test_a_method_without_a_task_has_no_cell_and_no_line(tmp_path: Path) -> None:
    for name, tasks in (("a", TASKS), ("b", {"colour": TASKS["colour"]})):
        write_run(tmp_path / name, records=2, tasks=tasks, header={"model": name})
    groups = find_runs([tmp_path]).groups
    shape = comparison_data(groups, methods_of(groups))["tasks"][1]
    assert shape["task"] == "shape"
    for column in [*shape["averages"][0]["columns"], *shape["at"][5], *shape["columns"]]:
        assert column["cells"][0] is not None
        assert column["cells"][1] is None
    assert [trace["method"] for trace in shape["averages"][0]["cdnv"]["figure"]["data"]] == [0]


def test_titles_are_those_that_a_run_declares(tmp_path: Path) -> None:
    told = Series("cdnv", "Spread", "Of a class.", "Collapse", scale="log", role="standard")
    errs = Series("certificate/{m}", "Bound, m={m}", "On errors.", "Errors", scale="log")
    header = {"series": [told.to_json(), errs.to_json()]}
    write_run(tmp_path / "run", records=2, header=header)
    methods = methods_of(find_runs([tmp_path]).groups)
    assert collapse(methods, "label", "cdnv").picture.title == "Spread"
    assert collapse(methods, "label", "directional_cdnv").picture.title == "Directional CDNV"
    shown = errors(methods, "label", ("few_shot_error", "certificate"))
    assert [entry.picture.title for entry in shown] == ["Measured error", "Bound"]
    assert shown[0].picture.range == shown[1].picture.range
    assert shown[0].picture.labels == shown[1].picture.labels


def test_methods_differ_in_more_than_colour_and_their_colours_are_names() -> None:
    lines = [Line("a", (1.0,), (1.0,), "method", k) for k in range(12)]
    assert len({(symbol(line), dash(line)) for line in lines}) == 12
    chart = Chart("t", Axis("x", "steps"), Axis("y", "log"), tuple(lines), labels=("step 0",))
    colours = {trace["line"]["color"] for trace in plotly_spec(chart)["data"]}
    assert colours == {f"--methods-{k}" for k in range(8)}


def test_an_axis_of_shots_reaches_as_far_as_any_method() -> None:
    series = Series("e/{m}", "E", "M.", "G", scale="log")
    bands = [
        band([(np.array(x), np.array([0.5, 0.2]))], geometric=False) for x in ([1, 5], [1, 20])
    ]
    chart = comparison_of(series, bands, ["a", "b"], along=("1", "5"))
    assert chart.labels == ("1", "5", "20")
    assert plotly_spec(chart)["layout"]["xaxis"]["range"][1] > math.log10(20)


# ---- in the browser


@pytest.fixture
def open_comparison(browser: Any, tmp_path: Path) -> Iterator[Callable[..., Page]]:
    def open_(found: Any, width: int = 1440) -> Page:
        return Page(browser, write_comparison(found, tmp_path / "comparison.html"), width)

    yield open_
    assert [entry["message"] for entry in browser.get_log("browser")] == []
    sent = [
        e["message"] for e in browser.get_log("performance") if "requestWillBeSent" in e["message"]
    ]
    assert not [message for message in sent if '"url":"http' in message]


@pytest.mark.browser
@pytest.mark.parametrize("width", [1440, 390])
def test_the_page_opens_and_fits(
    open_comparison: Callable[..., Page], runs: Path, width: int
) -> None:
    page = open_comparison(find_runs([runs]), width)
    assert page("return document.documentElement.scrollWidth") <= width
    assert page("return document.querySelectorAll('.chart .main-svg:first-child').length") == 4
    assert page.text("h1") == "dino vs simclr"
    assert len(page("return [...document.querySelectorAll('#numbers tr')]")) == 3


@pytest.mark.browser
def test_the_page_follows_task_methods_and_theme(
    open_comparison: Callable[..., Page], runs: Path
) -> None:
    from selenium.webdriver.common.keys import Keys

    page = open_comparison(find_runs([runs]))
    before = page.text("#numbers")
    values = page("return document.getElementById('directional_cdnv').data.at(-1).y")
    group = next(g for g in find_runs([runs]).groups if g.label == "simclr")
    expected = over_training(group.runs, "probe/colour/directional_cdnv")
    assert values == pytest.approx(list(expected.mean), rel=1e-4)
    page.choose("#task", "shape")
    assert page.text("#numbers") != before
    page.press("#method-2", Keys.SPACE)
    assert "simclr" not in page.text("#numbers")
    shown = "return document.getElementById('cdnv').data.filter(t => t.visible).map(t => t.name)"
    assert set(page(shown)) - {None} == {"dino · student", "dino · teacher"}
    colour = page("return getComputedStyle(document.body).backgroundColor")
    page.press("#theme", Keys.ENTER)
    assert page("return getComputedStyle(document.body).backgroundColor") != colour
    page.reload()
    assert "simclr" not in page.text("#numbers")


@pytest.mark.browser
def test_the_best_of_a_column_is_among_the_shown_and_colours_follow_the_theme(
    open_comparison: Callable[..., Page], runs: Path
) -> None:
    from selenium.webdriver.common.keys import Keys

    page = open_comparison(find_runs([runs]))
    best = """return [...document.querySelectorAll('#numbers td.best')]
        .filter(cell => cell.cellIndex === 1)
        .map(cell => cell.parentElement.cells[0].textContent)"""
    colours = """return [document.getElementById('cdnv').data.at(-1).line.color,
        getComputedStyle(document.querySelector('#methods label:last-child line')).stroke]"""
    assert page(best) == ["simclr"]
    seen = [page(colours)]
    page.press("#theme", Keys.ENTER)
    seen.append(page(colours))
    themes = [LIGHT, DARK] if seen[0][0] == LIGHT.methods[2] else [DARK, LIGHT]
    for (line, swatch), theme in zip(seen, themes, strict=True):
        assert line == theme.methods[2]
        assert swatch == "rgb({}, {}, {})".format(*bytes.fromhex(line[1:]))
    page.press("#method-2", Keys.SPACE)
    assert page(best) in (["dino · student"], ["dino · teacher"])


@pytest.mark.browser
def test_names_cannot_inject_markup(open_comparison: Callable[..., Page], tmp_path: Path) -> None:
    evil = "</script><img src=x onerror=alert(1)>"
    for name in "ab":
        write_run(tmp_path / "in" / name, records=2, tasks={evil: ["a", "b"]}, few_shot=False)
    page = open_comparison(find_runs([tmp_path / "in"], [evil]))
    assert page("return document.images.length") == 0
    assert evil in page.text("h1")
