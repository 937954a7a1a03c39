"""Few-shot numbers from the records, and the two pictures of them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dnc_lightning.records.store import Record, RecordWriter
from dnc_lightning.reporting import read_run
from dnc_lightning.reporting.charts.few_shot import AT_PROBE, shots_charts, tightness_chart
from dnc_lightning.reporting.charts.values import Axis, Chart, Line, Rule
from dnc_lightning.reporting.draw.plotly import plotly_spec
from dnc_lightning.reporting.html import write_report
from dnc_lightning.reporting.page.tiles import few_shot_tiles
from dnc_lightning.reporting.read.few_shot import FewShot, few_shot
from dnc_lightning.reporting.read.views import views
from dnc_lightning.reporting.theme import DARK, LIGHT, Theme
from dnc_lightning.reporting.words import bound_digits, bound_words, error_words, measured_words
from tests.reporting.figures import as_figure, opened

MakeRun = Callable[..., Path]
LABEL = "probe/label"


def read(folder: Path, *, max_probes: int = 10**6) -> FewShot | None:
    run = read_run(folder)
    return few_shot(run, views(run)[0], max_probes=max_probes)


def found(folder: Path, *, max_probes: int = 10**6) -> FewShot:
    numbers = read(folder, max_probes=max_probes)
    assert numbers is not None
    return numbers


def written(
    folder: Path, scalars: list[dict[str, float]], classes: int = 4, **header: Any
) -> FewShot | None:
    names = [f"class {i}" for i in range(classes)]
    writer = RecordWriter(folder)
    writer.open(
        {"tasks": {"label": names}, "prefixes": {"backbone": {"label": LABEL}}, "shots": [1, 5, 10]}
        | header
    )
    for step, values in enumerate(scalars):
        keyed = {f"{LABEL}/{name}": value for name, value in values.items()}
        writer.append(Record(step, 0, 0.0, keyed), {})
    return read(folder)


def test_numbers_follow_the_records(make_run: MakeRun) -> None:
    folder = make_run(records=5)
    run, numbers = read_run(folder), found(folder)
    assert numbers.shots == (1, 5, 10, 50, 100)
    assert (numbers.chance, numbers.target, numbers.asked) == (0.9, 0.1, True)
    assert numbers.steps.tolist() == [record.step for record in run.records]
    for name, values in numbers.values.items():
        if not numbers.holds(name):
            assert name in ("conditional", "guarantee")
            continue
        at = [0, -1] if name == "joint" else slice(None)
        for column, m in enumerate(numbers.shots):
            np.testing.assert_array_equal(values[at, column], run.series(f"{LABEL}/{name}/{m}")[1])
    assert np.isnan(numbers.values["joint"][1:-1]).all()
    for name, values in (
        ("few_shot_error_se", numbers.error_se),
        ("certificate_low", numbers.low),
        ("certificate_high", numbers.high),
    ):
        np.testing.assert_array_equal(values[:, 2], run.series(f"{LABEL}/{name}/10")[1])
    np.testing.assert_array_equal(numbers.needed, run.series(f"{LABEL}/shots_needed")[1])
    assert math.isnan(numbers.needed[0])
    assert numbers.needed[-1] > 100


def test_records_without_the_keys_have_no_numbers(make_run: MakeRun) -> None:
    assert read(make_run(records=3, few_shot=False)) is None
    assert read(make_run(records=3, header={"shots": None})) is None
    assert read(make_run(records=3, header={"shots": [2, 3]})) is None


def test_records_and_shots_that_hold_nothing_are_left_out(tmp_path: Path) -> None:
    numbers = written(
        tmp_path, [{"cdnv": 1.0}, {"certificate/10": 0.5}, {"theorem_4_1/1": 9.0, "cdnv": 1.0}]
    )
    assert numbers is not None
    assert (numbers.shots, numbers.steps.tolist(), numbers.asked) == ((1, 10), [1, 2], False)
    np.testing.assert_array_equal(numbers.values["certificate"], [[np.nan, 0.5], [np.nan, np.nan]])


@pytest.mark.parametrize(
    ("classes", "ways", "chance"),
    [(4, None, 0.75), (4, 2, 0.5), (4, 9, 0.75), (1, None, None), (0, 5, 0.8), (0, None, None)],
)
def test_chance(tmp_path: Path, classes: int, ways: int | None, chance: float | None) -> None:
    numbers = written(tmp_path, [{"certificate/1": 0.5}], classes, ways=ways, target_error=0.25)
    assert numbers is not None
    assert numbers.chance == (None if chance is None else pytest.approx(chance))
    assert numbers.target == 0.25


@pytest.mark.parametrize(
    ("scalars", "middle"),
    [
        ({f"few_shot_error/{m}": 0.1 for m in (1, 5, 10)}, 5),
        ({"few_shot_error/1": 0.1, "few_shot_error/10": math.nan, "certificate/5": 0.3}, 1),
        ({"certificate/5": 0.3, "certificate/10": 0.2}, 10),
        ({"certificate/5": math.nan}, 5),
    ],
)
def test_the_middle_shots_that_have_data_come_first(
    tmp_path: Path, scalars: dict[str, float], middle: int
) -> None:
    numbers = written(tmp_path, [scalars])
    assert numbers is not None
    assert numbers.shots[numbers.middle] == middle


def test_probes_are_thinned_with_both_ends_kept(make_run: MakeRun) -> None:
    folder = make_run(records=40)
    all_steps, steps = found(folder).steps, found(folder, max_probes=7).steps
    assert (len(steps), steps[0], steps[-1]) == (7, 0, all_steps[-1])


def shots_figure(numbers: FewShot, at: int = -1, theme: Theme = LIGHT) -> Any:
    return as_figure(plotly_spec(shots_charts(numbers)[at], theme))


def tightness_figure(numbers: FewShot, shots: int) -> Any:
    return as_figure(plotly_spec(tightness_chart(numbers, numbers.shots.index(shots)), LIGHT))


def test_the_chart_against_shots(make_run: MakeRun) -> None:
    numbers = found(make_run(records=6))
    chart = shots_charts(numbers)[2]
    lines = dict(zip(numbers.shown(AT_PROBE), chart.lines, strict=True))
    assert [line.name for line in chart.lines] == [
        "Certificate",
        "Joint",
        "Theorem 4.1",
        "2025 bound",
        "Measured",
    ]
    assert len({(line.role, line.dash, line.marker) for line in chart.lines}) == 5
    for name, line in lines.items():
        assert line.x == (1, 5, 10, 50, 100)
        np.testing.assert_array_equal(line.y, numbers.values[name][2])
        words = [bound_digits(value) for value in line.y]
        if name == "few_shot_error":
            words = [error_words(*pair) for pair in zip(line.y, numbers.error_se[2], strict=True)]
        assert list(line.words) == words
        assert (line.low is not None) == (name == "certificate")
    np.testing.assert_array_equal(lines["certificate"].low, numbers.low[2])
    np.testing.assert_array_equal(lines["certificate"].high, numbers.high[2])
    error = lines["few_shot_error"].error
    assert error is not None
    np.testing.assert_array_equal(error[:4], 2 * numbers.error_se[2, :4])
    assert chart.rules == (Rule("Chance", 0.9),)
    assert (chart.x.scale, chart.y.scale) == ("shots", "log")
    assert (chart.y, chart.range) == (shots_charts(numbers)[0].y, shots_charts(numbers)[0].range)


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_the_picture_against_shots(make_run: MakeRun, theme: Theme) -> None:
    numbers = found(make_run(records=6))
    drawn = np.vectorize(shots_charts(numbers)[-1].place)
    figure = shots_figure(numbers, 2, theme)
    names = [trace.name for trace in figure.data]
    band, *bounds, measured, chance = figure.data
    assert names[1:4] == ["Certificate", "Joint", "Theorem 4.1"]
    assert names[4:] == ["2025 bound", "Measured", "Chance 0.9"]
    assert bounds.pop(1).showlegend is False
    for trace, name in zip(bounds, ("certificate", "theorem_4_1", "luthra_2025"), strict=True):
        np.testing.assert_allclose(trace.y, drawn(numbers.values[name][2]), rtol=1e-4)
        assert trace.line.color == getattr(theme, name)
    assert measured.line.color == theme.ink
    assert measured.legendrank < 1000  # plotly's own, of the bounds
    assert measured.y[-1] is None  # not measured at 100 shots
    np.testing.assert_allclose(measured.error_y.array[:4], 2 * numbers.error_se[2, :4], rtol=1e-4)
    assert measured.text[0] == f"{numbers.values['few_shot_error'][2, 0]:.3f} ± 0.011"
    assert measured.text[-1] == "\N{EN DASH}"
    assert set(chance.y) == {0.9}
    assert band.x == (1, 5, 10, 50, 100, 100, 50, 10, 5, 1)
    np.testing.assert_allclose(band.y[:5], numbers.high[2], rtol=1e-4)
    np.testing.assert_allclose(band.y[:4:-1], numbers.low[2], rtol=1e-4)
    assert band.legendgroup == bounds[0].legendgroup
    assert (figure.layout.xaxis.type, figure.layout.yaxis.type) == ("log", "log")
    assert figure.layout.yaxis.range == shots_figure(numbers, 0).layout.yaxis.range


@pytest.mark.parametrize("at", [0, -1])
def test_the_joint_certificate_is_drawn_where_it_was_recorded(make_run: MakeRun, at: int) -> None:
    numbers = found(make_run(records=6))
    trace = shots_figure(numbers, at).data[2]
    assert (trace.name, trace.showlegend) == ("Joint", True)
    drawn = np.vectorize(shots_charts(numbers)[-1].place)
    np.testing.assert_allclose(trace.y, drawn(numbers.values["joint"][at]), rtol=1e-4)
    assert trace.text == tuple(map(bound_digits, numbers.values["joint"][at]))
    assert "Joint" not in [trace.name for trace in tightness_figure(numbers, 5).data]


def test_the_picture_over_training(make_run: MakeRun) -> None:
    numbers = found(make_run(records=6))
    figure = tightness_figure(numbers, 5)
    certificate, measured = figure.data[2], figure.data[5]
    assert certificate.x == tuple(numbers.steps + 1)
    hovered = figure.layout.xaxis.labelalias
    assert [hovered[f"+{x:.0f}"] for x in certificate.x] == list(numbers.labels)
    np.testing.assert_allclose(certificate.y, numbers.values["certificate"][:, 1], rtol=1e-4)
    np.testing.assert_allclose(measured.y, numbers.values["few_shot_error"][:, 1], rtol=1e-4)
    upper = numbers.values["few_shot_error"][:, 1] + 2 * numbers.error_se[:, 1]
    np.testing.assert_allclose(figure.data[1].y[:6], upper, rtol=1e-4)


def test_a_zero_lies_on_the_floor_and_huge_bounds_leave_room_for_small_ones(tmp_path: Path) -> None:
    scalars = {"few_shot_error/1": 0.0, "few_shot_error_se/1": 0.0, "certificate/1": 0.02}
    numbers = written(tmp_path, [scalars | {"theorem_4_1/1": 1e12, "luthra_2025/1": math.inf}])
    assert numbers is not None
    figure = shots_figure(numbers)
    low, high = figure.layout.yaxis.range
    measured = next(trace for trace in figure.data if trace.name == "Measured")
    assert measured.y[0] == pytest.approx(10**low, rel=1e-3)
    assert measured.text[0] == "0"
    assert -low / (high - low) > 0.45
    assert figure.layout.yaxis.ticktext[0] == "0.02"


def test_the_guarantee_is_the_upper_edge_of_a_band_above_the_measured_error(
    tmp_path: Path,
) -> None:
    ends = {"few_shot_error/1": 0.3, "few_shot_error/5": 0.1, "guarantee/1": 0.5}
    numbers = written(
        tmp_path, [ends | {"guarantee/5": 0.4}, {"few_shot_error/1": 0.2}, ends | {"joint/1": 0.6}]
    )
    assert numbers is not None
    first, between, _ = shots_charts(numbers)
    assert [line.name for line in first.lines][1:3] == ["Joint", "Guaranteed"]
    line = first.lines[2]
    assert (line.y, line.low, line.high) == ((0.5, 0.4), (0.3, 0.1), (0.5, 0.4))
    assert np.isnan(between.lines[2].y).all()
    assert [line.name for line in tightness_chart(numbers, 0).lines][1] == "Guaranteed"


ANSWERS = {
    "measured": 3.42,
    "measured_low": 2.9,
    "measured_high": 4.1,
    "guaranteed": math.nan,
    "certified": 187.0,
    "more_samples": 1240.0,
}


@pytest.mark.parametrize(
    ("changed", "value", "words"),
    [
        (
            {},
            "3.42",
            "measured, 2.90 to 4.10 with 95 %; guaranteed for new data: none, before about 1,240 "
            "more images a class in the probe; certified for the probe set: 187",
        ),
        (
            {"guaranteed": 10.0, "more_samples": 0.0, "measured_high": math.nan},
            "3.42",
            "measured, from 2.90 with 95 %; guaranteed for new data: 10; certified for the probe "
            "set: 187",
        ),
        (
            {"measured": math.nan, "more_samples": math.nan, "certified": math.nan},
            "none",
            "measured: at no number of shots that was tried; guaranteed for new data: none; "
            "certified for the probe set: none",
        ),
    ],
)
def test_three_answers_to_how_many_labels(
    tmp_path: Path, changed: dict[str, float], value: str, words: str
) -> None:
    answers = {f"labels_needed/{name}": v for name, v in (ANSWERS | changed).items()}
    scalars = {"certificate/5": 0.5, "shots_needed": math.nan}
    numbers = written(tmp_path, [scalars | answers, scalars])
    assert numbers is not None
    tile = few_shot_tiles(numbers, 0)[1]
    assert (tile["title"], tile["value"]) == ("Labels per class for 0.1 error", value)
    assert tile["detail"] == [words]


def test_the_scale_is_true_up_to_one_and_keeps_the_order_above(make_run: MakeRun) -> None:
    numbers = found(make_run(records=6))
    chart = shots_charts(numbers)[-1]
    low, high = chart.range
    assert chart.place(0.2) == 0.2
    assert chart.place(1.0) == 1.0
    assert chart.place(0.0) == pytest.approx(10**low)
    assert chart.place(3.0) == pytest.approx(3.0**chart.y.squeeze)
    assert math.isnan(chart.place(-0.1))
    assert math.isnan(chart.place(math.nan))
    everything = np.concatenate([values.ravel() for values in numbers.values.values()])
    placed = [math.log10(chart.place(v)) for v in np.sort(everything[np.isfinite(everything)])]
    assert placed == sorted(placed)
    assert low < placed[0]
    assert placed[-1] < high
    axis = plotly_spec(chart)["layout"]["yaxis"]
    assert [axis["tickvals"][axis["ticktext"].index(tick)] for tick in ("0.1", "1")] == [0.1, 1]
    assert axis["tickvals"][axis["ticktext"].index("100")] == pytest.approx(100**chart.y.squeeze)


@pytest.mark.parametrize(
    ("bound", "words"),
    [
        (0.2401, "0.241"),
        (0.24, "0.24"),
        (0.07, "0.07"),
        (1, "1"),
        (56.71, "56.8"),
        (5682.3, "5,683"),
    ],
)
def test_a_bound_is_rounded_up(bound: float, words: str) -> None:
    assert bound_words(bound) == words


@pytest.mark.parametrize(
    ("bound", "words"),
    [
        (0.2401, "0.241"),
        (0.24, "0.240"),
        (1, "1.00"),
        (56.71, "56.8"),
        (99.999, "100"),
        (5682.3, "5,683"),
        (0, "0"),
        (math.nan, "\N{EN DASH}"),
    ],
)
def test_a_bound_in_a_table_has_all_digits(bound: float, words: str) -> None:
    assert bound_digits(bound) == words


def test_an_error_has_the_decimals_that_its_standard_error_needs() -> None:
    assert measured_words(0.20512, 0.0031) == "0.205 ± 0.003"
    assert measured_words(0.20512, 0.00042) == "0.2051 ± 0.0004"
    assert measured_words(0.20512, math.nan) == "0.205"
    assert error_words(math.nan, 0.003) == "\N{EN DASH}"


def test_undefined_numbers_give_a_picture_that_says_so(make_run: MakeRun) -> None:
    numbers = found(make_run(records=3, undefined=True))
    for figure in (shots_figure(numbers), tightness_figure(numbers, 10)):
        assert "No value is defined yet" in [note.text for note in figure.layout.annotations]


def test_a_band_is_broken_at_gaps() -> None:
    low = (0.1, 0.2, math.nan, 0.3, math.nan, 0.0, 0.5)
    x, high = tuple(map(float, range(1, 8))), tuple(v + 0.5 for v in low)
    line = Line("L", x, high, low=low, high=high)
    axis = Axis("Error", "log", squeeze=0.5)
    chart = Chart("T", Axis("m", "shots"), axis, (line,), range=(-2.0, 1.0))
    band = plotly_spec(chart)["data"][0]
    assert band["x"] == [1, 2, 2, 1, None, 6, 7, 7, 6]
    assert band["y"] == [0.6, 0.7, 0.2, 0.1, None, 0.5, 1.0, 0.5, 0.01]


def test_the_page_holds_the_numbers_of_every_view_in_little_space(make_run: MakeRun) -> None:
    options: dict[str, Any] = {
        "records": 200,
        "tasks": {"a": ["x", "y", "z"], "b": ["u", "v"]},
        "encoders": ("student", "teacher"),
    }
    sizes = []
    for held in (True, False):
        folder = make_run(few_shot=held, **options)
        path = write_report(folder, folder / "report.html")
        sizes.append(path.stat().st_size)
        match = re.search(r'id="report-data">(.*?)</script>', path.read_text(encoding="utf-8"))
        assert match
        pages = [view["fewShot"] for view in json.loads(match[1])["views"]]
        assert [page is not None for page in pages] == [held] * 4
        if held:
            for page in pages:
                curves, trainings = (list(opened(page[name])) for name in ("curve", "training"))
                assert (len(curves), len(trainings)) == (200, 5)
            assert pages[0]["shown"] == 10
            numbers = found(folder)
            for at in (0, 77, 199):
                drawn = next(islice(opened(pages[0]["curve"]), at, None))
                assert drawn == json.loads(json.dumps(plotly_spec(shots_charts(numbers)[at])))
            last = list(opened(pages[0]["training"]))[-1]
            assert last == json.loads(json.dumps(plotly_spec(tightness_chart(numbers, 4))))
    assert sizes[0] - sizes[1] < 2.5e6


def test_the_axis_of_shots_reaches_from_the_least_to_the_most(make_run: MakeRun) -> None:
    numbers = read(make_run(records=3))
    assert numbers is not None
    axis = plotly_spec(shots_charts(numbers)[-1])["layout"]["xaxis"]
    assert 10 ** axis["range"][0] < numbers.shots[0] < numbers.shots[-1] < 10 ** axis["range"][1]
    assert axis["tickvals"][-1] > 10
