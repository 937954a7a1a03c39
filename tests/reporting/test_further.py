"""Series that no special chart draws: what is read of them, and that every surface shows them."""

from __future__ import annotations

import io
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dnc_lightning.cli import main
from dnc_lightning.records.declarations import UNDECLARED, declarations, is_drawn
from dnc_lightning.records.store import Run, read_run
from dnc_lightning.reporting.charts.general import chart_of
from dnc_lightning.reporting.charts.values import Chart, Matrix, Rule
from dnc_lightning.reporting.compare.page import comparison_data
from dnc_lightning.reporting.compare.pictures import compared
from dnc_lightning.reporting.compare_runs import find_runs, methods_of
from dnc_lightning.reporting.draw.plotly import plotly_spec
from dnc_lightning.reporting.html import write_report
from dnc_lightning.reporting.paper.figures import file_names, paper, papers
from dnc_lightning.reporting.paper.probe import probe_pictures
from dnc_lightning.reporting.read.series import Further, further, grouped
from dnc_lightning.reporting.terminal import print_run
from dnc_lightning.reporting.theme import DARK, LIGHT, css_variables
from dnc_lightning.reporting.words import Change, change, in_digits, sentence
from dnc_lightning.series import Reference, Series
from tests.reporting.conftest import write_run
from tests.reporting.figures import as_figure
from tests.reporting.further_runs import DECLARED, KNN, further_run

PLAIN = KNN.to_json()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return read_run(further_run(tmp_path_factory.mktemp("further") / "run"))


def named(found: list[Further], key: str, task: str | None = "colour") -> Further:
    return next(f for f in found if f.series.key == key and f.place.task == task)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ({"title": ""}, "has no title"),
        ({"key": "/odd/"}, "must be given and not begin"),
        ({"scale": "cubic"}, "scale must be one of"),
        ({"direction": "sideways"}, "direction must be one of"),
        ({"scope": "galaxy"}, "scope must be one of"),
        ({"digits": "many"}, "digits must be 1 to 12"),
        ({"low": 2.0}, "must have low < high"),
        ({"low": "a", "high": None}, "low and high must be numbers"),
        ({"title": 3}, "texts must be strings"),
        ({"references": [{"name": "chance", "value": None}]}, "a reference is a name"),
        ({"references": [{"title": "chance"}]}, "unexpected keyword"),
    ],
)
def test_a_damaged_declaration_is_named_and_left_out(damage: dict[str, Any], words: str) -> None:
    other = {**PLAIN, "key": "other"}
    found, problems = declarations({"series": [{**PLAIN, **damage}, other]})
    assert [series.key for series in found] == ["other"]
    assert len(problems) == 1
    assert repr({**PLAIN, **damage}["key"]) in problems[0]
    assert words in problems[0]


def test_what_is_no_declaration_is_named_by_its_place_and_two_of_a_key_by_both_titles() -> None:
    twin = {**PLAIN, "title": "Twin"}
    found, problems = declarations({"series": [3, PLAIN, twin, {"key": "alone"}]})
    assert found == [KNN]
    assert "number 1" in problems[0]
    assert "'Nearest-neighbour accuracy' and 'Twin' have one key" in problems[1]
    assert "'alone'" in problems[2]
    assert declarations({}) == declarations({"series": None}) == ([], [])
    assert "expected a list" in declarations({"series": {"key": "odd"}})[1][0]


def test_problems_of_declarations_are_problems_of_the_run(tmp_path: Path) -> None:
    folder = further_run(tmp_path / "run", header={"series": [{**PLAIN, "scale": "cubic"}]})
    damaged = read_run(folder)
    assert len(damaged.problems) == 1
    assert "'knn_accuracy'" in damaged.problems[0]
    assert named(further(damaged), "knn_accuracy").series.meaning == UNDECLARED
    assert "knn_accuracy" in write_report(damaged, folder / "r.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("scope", "key", "drawn"),
    [
        ("task", "cdnv", True),
        ("task", "cdnv_low", True),
        ("task", "few_shot_error/{m}", True),
        ("task", "certificate_high/100", True),
        ("task", "certificate/ten", False),
        ("task", "axis_share/worst", True),
        ("task", "cdnv_mean", False),
        ("tasks", "a-b/abs_cos", True),
        ("tasks", "{a}-{b}/bound", True),
        ("tasks", "{a}-{b}", True),
        ("tasks", "{a}-{b}/cka", False),
        ("probe", "overhead", True),
        ("task", "overhead", False),
    ],
)
def test_which_series_special_charts_draw(scope: Any, key: str, drawn: bool) -> None:
    assert is_drawn(scope, key) is drawn


def test_a_run_of_special_charts_alone_has_nothing_further(tmp_path: Path) -> None:
    tasks = {"a": ["x", "y"], "b": ["u", "v"]}
    folder = write_run(tmp_path / "run", records=3, tasks=tasks, encoders=("student", "teacher"))
    assert further(read_run(folder)) == []


def test_the_numbers_are_those_of_the_records(run: Run) -> None:
    found = further(run)
    knn = named(found, "knn_accuracy")
    steps, values = run.series("probe/colour/knn_accuracy")
    assert knn.series == KNN
    assert knn.kind == "line"
    np.testing.assert_array_equal(knn.steps, steps)
    np.testing.assert_array_equal(knn.values, values)
    assert knn.references == (("chance", 0.25),)
    (track,) = knn.tracks()
    assert (track.first, track.last) == (values[0], values[-1])
    assert track.best == (steps[6], values[6])
    rank = named(found, "rank")
    ((name, floor),) = rank.references
    assert name == "of random features"
    assert "rank_floor" not in {entry.series.key for entry in found}  # it is that line alone
    np.testing.assert_array_equal(floor, run.series("probe/colour/rank_floor")[1])


def test_curves_matrices_and_pairs_of_tasks(run: Run) -> None:
    found = further(run)
    curve = named(found, "linear_error/{m}")
    assert curve.kind == "curve"
    assert curve.names == (("1", "5", "10", "50", "100"),)
    last = run.records[-1].scalars
    expected = [last[f"probe/colour/linear_error/{m}"] for m in (1, 5, 10, 50, 100)]
    np.testing.assert_array_equal(curve.values[-1], expected)
    assert [track.title for track in curve.tracks()] == ["Linear error, m = 10"]
    cells = named(found, "confusion")
    assert cells.kind == "matrix"
    assert cells.names == (("red", "yellow", "green", "blue"),) * 2
    stored = run.matrices(run.records[-1])["backbone/colour/confusion"]
    np.testing.assert_array_equal(cells.values[-1], stored)
    assert cells.steps.tolist() == [run.records[0].step, run.records[-1].step]
    pair = named(found, "{a}-{b}/cka", None)
    assert pair.names == (("colour-shape",),)
    assert pair.place.encoder == "backbone"
    key = "probe/orthogonality/colour-shape/cka"
    np.testing.assert_array_equal(pair.values[:, 0], run.series(key)[1])


def test_numbers_that_nobody_declared_say_so(run: Run, tmp_path: Path) -> None:
    found = further(run)
    apart, odd = named(found, "apart"), named(found, "odd_one")
    assert (apart.series.title, apart.names) == ("Apart", (("near", "far"),))
    assert (odd.series.title, odd.kind) == ("Odd one", "line")
    assert apart.series.meaning == odd.series.meaning == UNDECLARED
    assert math.isnan(odd.values[2])
    assert list(grouped(found)) == ["Neighbours", "Spread", "Further numbers"]
    older = further(read_run(further_run(tmp_path / "old", declared=None)))
    assert {f.series.group for f in older} == {"Further numbers"}
    assert {"knn_accuracy", "linear_error/{m}"} < {f.series.key for f in older}
    assert named(older, "linear_error/{m}").kind == "curve"
    assert named(older, "colour-shape/cka", None).series.title == "Colour-shape, cka"


def test_several_encoders_have_their_own(tmp_path: Path) -> None:
    folder = further_run(tmp_path / "run", encoders=("student", "teacher"), records=3)
    found = further(read_run(folder))
    places = {(f.place.encoder, f.place.task) for f in found if f.series.key == "knn_accuracy"}
    assert places == {(e, t) for e in ("student", "teacher") for t in ("colour", "shape")}
    shared = [f.place for f in found if f.series.key == "{a}-{b}/cka"]
    assert [place.prefix for place in shared] == [
        f"probe/{encoder}/orthogonality/" for encoder in ("student", "teacher")
    ]


def test_chance_follows_from_the_classes_of_each_task(tmp_path: Path) -> None:
    series = Series(**{**PLAIN, "references": (Reference("chance", "{chance}"),)})
    found = further(read_run(further_run(tmp_path / "run", [series], records=2)))
    assert named(found, "knn_accuracy").references == (("chance", 0.75),)
    assert named(found, "knn_accuracy", "shape").references == (("chance", 0.5),)


def test_a_line_is_drawn_on_its_scale_with_its_references(run: Run) -> None:
    found = further(run)
    chart = chart_of(named(found, "knn_accuracy"))
    assert isinstance(chart, Chart)
    assert (chart.x.scale, chart.y.scale) == ("steps", "linear")
    assert chart.lines[0].role == "measured"
    assert chart.lines[0].x == tuple(run.series("probe/colour/knn_accuracy")[0] + 1)
    assert chart.rules == (Rule("chance", 0.25),)
    assert chart.range[0] < 0.25
    assert chart.range[1] > 0.78
    spec = plotly_spec(chart)
    assert [trace["name"] for trace in spec["data"]] == [KNN.title, "chance 0.25"]
    assert spec["data"][1]["y"] == [0.25, 0.25]
    rank = chart_of(named(found, "rank"))
    assert isinstance(rank, Chart)
    assert rank.y.scale == "log"
    assert rank.y.label == "Effective rank (dims)"
    assert [line.role for line in rank.lines] == ["plain", "reference"]


def test_a_logarithmic_axis_is_given_up_where_nothing_has_a_place_on_it(tmp_path: Path) -> None:
    series = Series(key="apart/far", title="Far", meaning="Far.", group="G", scale="log")
    run = read_run(further_run(tmp_path / "run", [series], records=3))
    assert chart_of(named(further(run), "apart/far")).y.scale == "log"  # type: ignore[union-attr]
    below = Run(run.folder, run.header, tuple(_less(r) for r in run.records), ())
    assert chart_of(named(further(below), "apart/far")).y.scale == "linear"  # type: ignore[union-attr]


def _less(record: Any) -> Any:
    from dataclasses import replace

    return replace(record, scalars={key: value - 100 for key, value in record.scalars.items()})


def test_a_large_matrix_is_cut_and_says_so(tmp_path: Path) -> None:
    many = {"fine": [f"c{i}" for i in range(200)]}
    run = read_run(further_run(tmp_path / "run", tasks=many, records=2))
    chart = chart_of(named(further(run), "confusion", "fine"))
    assert isinstance(chart, Matrix)
    assert chart.values.shape == (120, 120)
    assert chart.values[3, 5] == (200 * 3 + 5) / 2
    assert chart.shown.endswith("the first 120 of 200 by 200.")


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_every_chart_is_a_valid_figure(run: Run, theme: Any) -> None:
    for found in further(run):
        chart = chart_of(found)
        figure = as_figure(plotly_spec(chart, theme))
        expected = 1 if isinstance(chart, Matrix) else len(chart.lines) + len(chart.rules)
        assert len(figure.data) == expected


def test_a_page_names_no_colour_that_its_theme_has_not(run: Run, tmp_path: Path) -> None:
    text = write_report(run, tmp_path / "r.html").read_text(encoding="utf-8")
    data = re.search(r'id="report-data">(.*?)</script>', text)
    assert data
    used = set(re.findall(r'"(--[\w-]+)(?:/2e)?"', data[1]))
    known = set(re.findall(r"(--[\w-]+):", css_variables(DARK)))
    assert {"--plain", "--certificate", "--cosine-ramp-0"} <= used <= known
    assert not re.search(r'"#[0-9a-f]{6}"', data[1])
    assert len(json.loads(data[1])["further"]) == len(further(run))


def test_numbers_and_changes_in_words() -> None:
    values = (0.0371, 12345.6, 9.9996, 2e-7, 0.0, math.nan, -3.14159)
    words = ["0.0371", "12,346", "10.0", "2.00e-07", "0", "\N{EN DASH}", "-3.14"]
    assert [in_digits(value) for value in values] == words
    assert in_digits(0.5, 2, "bits") == "0.50 bits"
    assert in_digits(12, 3, "%") == "12.0%"


@pytest.mark.parametrize(
    ("first", "last", "direction", "scale", "expected"),
    [
        (4.0, 1.0, "lower", "log", Change("↓ 4.00\N{MULTIPLICATION SIGN}", True)),
        (0.3, 0.5, "lower", "linear", Change("↑ 0.200", False)),
        (0.0, 0.5, "higher", "log", Change("↑ 0.500", True)),
        (1.0, 2.0, None, "linear", Change("↑ 1.00", None)),
        (1.0, 1.001, "higher", "linear", Change("unchanged", None)),
        (0.0, 0.0, "higher", "linear", Change("unchanged", None)),
        (math.nan, 1.0, "higher", "linear", Change("", None)),
    ],
)
def test_changes_in_words(
    first: float, last: float, direction: Any, scale: Any, expected: Change
) -> None:
    series = Series("k", "T", "M.", "G", direction=direction, scale=scale)
    assert change(first, last, series) == expected


def test_a_meaning_is_shown_as_a_sentence() -> None:
    assert sentence("mean distance of all") == "Mean distance of all."
    assert sentence("Is it so?") == "Is it so?"
    assert sentence("CKA of two.") == "CKA of two."


@pytest.fixture(scope="module")
def methods(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("methods")
    sources = tmp_path_factory.mktemp("sources")
    for method, records in (("simclr", 4), ("vicreg", 6)):
        for seed in range(2):
            run = further_run(sources / f"{method}{seed}", records=records)
            (root / method).mkdir(exist_ok=True)
            run.rename(root / method / f"seed{seed}")
    return root


def test_a_comparison_has_a_line_a_method(methods: Path) -> None:
    groups = find_runs([methods]).groups
    data = comparison_data(groups, methods_of(groups))["further"]
    knn = next(e for e in data if e["title"] == KNN.title and e["task"] == "colour")
    lines = [trace for trace in knn["figure"]["data"] if "method" in trace]
    assert [line["name"] for line in lines] == ["simclr", "vicreg"]
    np.testing.assert_allclose(lines[0]["y"], [0.3, 0.38, 0.46, 0.54])
    assert knn["figure"]["data"][-1]["name"] == "chance 0.25"
    curve = next(e for e in data if e["title"] == "Linear error" and e["task"] == "shape")
    np.testing.assert_allclose(
        curve["figure"]["data"][1]["y"], 0.7 / 6 / np.array([1, 5, 10, 50, 100]) ** 0.3, rtol=1e-4
    )
    assert not any(entry["title"] == "Confusion" for entry in data)


def test_the_terminal_names_every_series(run: Run) -> None:
    file = io.StringIO()
    print_run(run, "a run", file)
    lines = file.getvalue().splitlines()
    knn = next(line for line in lines if KNN.title in line and "colour" in line)
    assert "0.300 → 0.780" in knn
    assert "↑ 0.480" in knn
    assert "chance 0.250" in knn
    for found in further(run):
        assert any(found.series.title in line for line in lines)
    assert any("Confusion, 4 x 4" in line and "0 to 1.88" in line for line in lines)


def test_a_paper_has_a_figure_a_group(run: Run, methods: Path, tmp_path: Path) -> None:
    shown = papers(methods_of(find_runs([methods]).groups), ["colour"])
    names = ["further_neighbours", "further_spread", "further_numbers"]
    assert list(shown) == ["collapse", "few_shot", *names]
    figure = paper(shown["further_neighbours"], "double")
    ax = figure.axes[0]
    assert ax.get_title().replace("\n", " ") == KNN.title
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [0.3, 0.38, 0.46, 0.54])
    assert ax.lines[2].get_label() == "chance"
    assert main(["figures", str(run.folder), "--out", str(tmp_path), "--task", "colour"]) == 0
    assert {"further_neighbours.pdf", "further_spread.png"} < {p.name for p in tmp_path.iterdir()}
    alone = compared(methods_of(find_runs([run.folder]).groups))
    assert any(isinstance(entry.picture, Matrix) for entry in alone)
    assert file_names(["A b", "a B!", "Further numbers"]) == [
        "further_a_b",
        "further_a_b (2)",
        "further_numbers",
    ]


def test_arrays_and_curves_of_a_probe_are_pictures_for_loggers(run: Run) -> None:
    last = run.records[-1]
    alone = Run(Path(), run.header, (last,), ())
    drawn = probe_pictures(alone, run.matrices(last), curves=False)
    for key in ("confusion", "spectrum", "linear_error"):
        assert drawn[f"probe/colour/charts/{key}"].std() > 10


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_workspace_lays_out_what_a_run_declares(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("wandb_workspaces")
    words = ["wandb-workspace", "--project", "p", "--entity", "e", "--dry-run"]
    assert main([*words, "--run", str(run.folder)]) == 0
    spec = json.loads(capsys.readouterr().out)["spec"]
    sections = spec["section"]["panelBankConfig"]["sections"]
    panels = {
        panel["config"]["chartTitle"]: panel["config"]
        for section in sections
        for panel in section["panels"]
        if section["name"] in ("Neighbours", "Spread")
    }
    assert panels["colour: Effective rank"]["metrics"] == [
        "probe/colour/rank",
        "probe/colour/rank_floor",
    ]
    assert panels["colour: Effective rank"]["yLogScale"] is True
    assert panels["CKA of two tasks"]["metrics"] == ["probe/orthogonality/colour-shape/cka"]
    first = next(s for s in sections if s["name"] == "Decision-axis collapse")
    assert [p["config"]["metrics"][0] for p in first["panels"]] == [
        f"probe/{task}/directional_cdnv" for task in ("colour", "shape")
    ]


def test_declarations_survive_their_way_through_a_file() -> None:
    told = json.loads(json.dumps([series.to_json() for series in DECLARED]))
    assert declarations({"series": told}) == (list(DECLARED), [])
