"""Numbers of several tasks from the records, and the pictures of them."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dnc_lightning.records import archives as archives_module
from dnc_lightning.records.archives import Archives
from dnc_lightning.records.store import Record, RecordWriter
from dnc_lightning.reporting import Run, read_run
from dnc_lightning.reporting.charts.tasks import angle_matrix, cosine_chart, task_charts
from dnc_lightning.reporting.charts.variance import share_chart, variance_bars
from dnc_lightning.reporting.draw.plotly import plotly_spec, side_by_side
from dnc_lightning.reporting.html import write_report
from dnc_lightning.reporting.read.tasks import TaskPairs, VarianceParts, task_pairs, variance_parts
from dnc_lightning.reporting.read.views import views
from dnc_lightning.reporting.theme import DARK, LIGHT, Theme
from tests.reporting.figures import as_figure, opened
from tests.reporting.task_runs import FLOOR, add_tasks

MakeRun = Callable[..., Path]
TASKS = {
    "colour": ["red", "yellow", "green", "blue"],
    "shape": ["circle", "square"],
    "style": ["filled", "outline", "stripes"],
}
ENCODERS = ("student", "teacher")
PAIR_NAMES = ("colour-shape", "colour-style", "shape-style")


@pytest.fixture
def run(make_run: MakeRun) -> Run:
    return read_run(add_tasks(make_run(records=6, tasks=TASKS)))


def pairs_of(run: Run, *, encoder: str | None = None, max_values: int = 10**6) -> TaskPairs:
    shown = [view for view in views(run) if encoder in (None, view.encoder)]
    numbers = task_pairs(run, shown, max_values=max_values)
    assert numbers is not None
    return numbers


def parts_of(run: Run, task: int = 0, max_probes: int = 10**6) -> VarianceParts:
    parts = variance_parts(run, views(run)[task], max_probes=max_probes)
    assert parts is not None
    return parts


def task_curves(numbers: TaskPairs, average: str, theme: Theme = LIGHT) -> Any:
    return as_figure(side_by_side(*task_charts(numbers, average), theme))


def page_data(path: Path) -> dict[str, Any]:
    match = re.search(r'id="report-data">(.*?)</script>', path.read_text(encoding="utf-8"))
    assert match
    return json.loads(match[1])  # type: ignore[no-any-return]


def test_numbers_follow_the_records(run: Run) -> None:
    numbers = pairs_of(run)
    assert (numbers.tasks, numbers.pairs) == (tuple(TASKS), ((0, 1), (0, 2), (1, 2)))
    assert numbers.steps.tolist() == [record.step for record in run.records]
    for p, name in enumerate(("colour-shape", "colour-style", "shape-style")):
        for part, table in (
            ("abs_cos", numbers.abs_cos),
            ("abs_cos_max", numbers.largest),
            ("bound", numbers.bound),
        ):
            recorded = run.series(f"probe/orthogonality/{name}/{part}")[1]
            np.testing.assert_array_equal(table[:, p], recorded)
        dependence = run.series(f"probe/orthogonality/{name}/dependence")[1]
        assert numbers.dependence[p] == dependence[-1]
    assert numbers.floor == FLOOR
    for t, task in enumerate(TASKS):
        for metric in ("cdnv", "directional_cdnv"):
            for average, suffix in (("mean", ""), ("median", "_median"), ("unbiased", "_unbiased")):
                recorded = run.series(f"probe/{task}/{metric}{suffix}")[1]
                np.testing.assert_array_equal(numbers.curves[average][metric][:, t], recorded)


def test_every_encoder_has_its_own(make_run: MakeRun) -> None:
    folder = add_tasks(make_run(records=3, tasks=TASKS, encoders=ENCODERS))
    run = read_run(folder)
    found = [pairs_of(run, encoder=encoder) for encoder in ENCODERS]
    for encoder, numbers in zip(ENCODERS, found, strict=True):
        key = f"probe/{encoder}/orthogonality/shape-style/abs_cos"
        np.testing.assert_array_equal(numbers.abs_cos[:, 2], run.series(key)[1])
    assert not np.array_equal(found[0].abs_cos, found[1].abs_cos)
    data = page_data(write_report(folder, folder / "report.html"))["tasks"]
    assert [entry["encoder"] for entry in data] == list(ENCODERS)


def test_probes_are_thinned_to_the_budget(run: Run) -> None:
    numbers = pairs_of(run, max_values=30)  # three numbers of three pairs at three probes
    steps = [record.step for record in run.records]
    assert (numbers.steps[0], numbers.steps[-1], len(numbers.steps)) == (steps[0], steps[-1], 3)
    assert numbers.abs_cos.shape == (3, 3)
    parts = parts_of(run, max_probes=2)
    assert parts.steps.tolist() == [steps[0], steps[-1]]


def test_records_without_the_keys_have_no_numbers(make_run: MakeRun) -> None:
    folder = make_run(records=3, tasks=TASKS)
    run = read_run(folder)
    assert task_pairs(run, views(run), max_values=10**6) is None
    assert variance_parts(run, views(run)[0], max_probes=10**6) is None
    data = page_data(write_report(folder, folder / "report.html"))
    assert data["tasks"] == []
    assert [view["variance"] for view in data["views"]] == [None] * 3
    one = read_run(add_tasks(make_run(records=3)))
    assert task_pairs(one, views(one), max_values=10**6) is None
    assert parts_of(one).pairs


def test_a_probe_without_values_is_a_gap(run: Run) -> None:
    records = list(run.records)
    records[2] = Record(records[2].step, 0, 0.0, {"probe/seconds": 1.0})
    gap = Run(run.folder, run.header, tuple(records), ())
    numbers = pairs_of(gap)
    assert np.isnan(numbers.abs_cos[2]).all()
    assert np.isfinite(numbers.abs_cos[[1, 3]]).all()
    assert len(parts_of(gap).steps) == len(records) - 1


def test_the_parts_add_up_to_what_was_recorded(run: Run) -> None:
    for t, (task, names) in enumerate(TASKS.items()):
        parts = parts_of(run, t)
        for at, record in enumerate(run.records):
            stored = run.matrices(record)
            sums = stored[f"backbone/{task}/variance"].astype(float)
            table = parts.parts[at]
            np.testing.assert_allclose(table[:, 0], sums[:, 0])
            for k in (1, 2, 3, 4):  # the first, first 10, first 100 and all orthogonal ones
                np.testing.assert_allclose(table[:, 1 : k + 1].sum(1), sums[:, k], rtol=1e-6)
            chosen = stored[f"backbone/{task}/variance_pairs"].astype(int)
            assert parts.pairs[at] == tuple((names[a], names[b]) for a, b in chosen)
        for name, share in parts.shares.items():
            recorded = run.series(f"probe/{task}/axis_share/{name}")[1]
            np.testing.assert_array_equal(share, recorded)
    assert parts_of(run, 0).names(0) == ("best", "median", "worst")
    assert parts_of(run, 1).names(0) == ("only",)


@pytest.mark.parametrize(
    "spoilt",
    [
        {"variance": np.ones((3, 4))},
        {"variance_pairs": np.array([[0, 1], [0, 2], [1, 7]])},
        {"variance_pairs": np.array([[0, 1]])},
        {"variance": np.ones((0, 5)), "variance_pairs": np.ones((0, 2))},
    ],
)
def test_parts_that_do_not_fit_are_left_out(tmp_path: Path, spoilt: dict[str, Any]) -> None:
    writer = RecordWriter(tmp_path)
    prefixes = {"backbone": {"label": "probe/label"}}
    writer.open({"tasks": {"label": ["a", "b", "c"]}, "prefixes": prefixes})
    good = {"variance": np.ones((3, 5)), "variance_pairs": np.array([[0, 1], [0, 2], [1, 2]])}
    scalars = {"probe/label/axis_share/best": 0.1}
    for step, stored in enumerate((good, good | spoilt)):
        keyed = {f"backbone/label/{name}": value for name, value in stored.items()}
        writer.append(Record(step, 0, 0.0, scalars), keyed)
    assert parts_of(read_run(tmp_path)).steps.tolist() == [0]


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_the_pictures_hold_the_numbers(run: Run, theme: Theme) -> None:
    numbers = pairs_of(run)
    last = run.records[-1].scalars
    key = "probe/orthogonality/{}/{}"

    heatmap = as_figure(plotly_spec(angle_matrix(numbers), theme)).data[0]
    assert (list(heatmap.x), list(heatmap.y)) == (["colour", "shape"], ["shape", "style"])
    assert numbers.pairs == ((0, 1), (0, 2), (1, 2))
    parts = ("bound", "abs_cos_max", "dependence")
    for (a, b), name in zip(numbers.pairs, PAIR_NAMES, strict=True):
        expected = [last[key.format(name, part)] for part in parts]
        assert heatmap.z[b - 1][a] == pytest.approx(last[key.format(name, "abs_cos")], rel=1e-4)
        assert heatmap.customdata[b - 1][a] == pytest.approx([*expected, FLOOR], rel=1e-4)
    assert heatmap.z[0][1] is None
    assert heatmap.zmax >= np.nanmax(numbers.abs_cos)

    for pair, name in enumerate(PAIR_NAMES):
        bound, measured, floor = as_figure(plotly_spec(cosine_chart(numbers, pair), theme)).data
        assert (bound.name, measured.name) == ("Bound", "Measured")
        assert floor.name == f"Random directions {FLOOR:.3g}"
        assert floor.y == (FLOOR, FLOOR)
        assert (bound.line.color, measured.line.color) == (theme.certificate, theme.ink)
        for line, part in ((bound, "bound"), (measured, "abs_cos")):
            recorded = run.series(key.format(name, part))[1]
            np.testing.assert_allclose(line.y, recorded, rtol=1e-4)

    curves = task_curves(numbers, "median", theme).data
    assert [trace.name for trace in curves] == [*TASKS, *TASKS]
    for trace, metric in zip(curves, ["cdnv"] * 3 + ["directional_cdnv"] * 3, strict=True):
        recorded = run.series(f"probe/{trace.name}/{metric}_median")[1]
        np.testing.assert_allclose(trace.y, recorded, rtol=1e-4)
        assert (trace.yaxis or "y") == ("y" if metric == "cdnv" else "y2")
    assert len({trace.line.color for trace in curves}) == 3

    parts = parts_of(run)
    bars = as_figure(plotly_spec(variance_bars(parts, 2), theme)).data
    recorded = run.matrices(run.records[2])["backbone/colour/variance"].astype(float)
    np.testing.assert_allclose(bars[0].x, recorded[:, 0], rtol=1e-3)
    np.testing.assert_allclose(
        np.sum([trace.x for trace in bars], axis=0), recorded[:, 0] + recorded[:, 4], rtol=2e-3
    )
    (a, b), share = parts.pairs[2][2], run.records[2].scalars["probe/colour/axis_share/worst"]
    assert bars[0].y[2].startswith("<b>Worst pair</b>")
    assert a in bars[0].y[2]
    assert b in bars[0].y[2]
    assert f"{100 * share:.3g} % on axis" in bars[0].y[2]
    assert bars[0].customdata[2] == f"{100 * share:.3g} %"
    assert len({trace.marker.color for trace in bars}) == 5

    lines = as_figure(plotly_spec(share_chart(parts), theme)).data
    for trace, name in zip(lines, ("best", "median", "worst"), strict=True):
        recorded = 100 * run.series(f"probe/colour/axis_share/{name}")[1]
        np.testing.assert_allclose(trace.y, recorded, rtol=1e-4)
    assert len({(trace.line.dash, trace.marker.symbol) for trace in lines}) == 3
    assert [line.name for line in share_chart(parts_of(run, 1)).lines] == ["Only pair"]


def test_a_picture_without_values_says_so(make_run: MakeRun) -> None:
    run = read_run(add_tasks(make_run(records=2, tasks=TASKS)))
    records = [
        Record(r.step, 0, 0.0, dict.fromkeys(r.scalars, math.nan), matrices=r.matrices)
        for r in run.records
    ]
    numbers = pairs_of(Run(run.folder, run.header, tuple(records), ()))
    assert math.isnan(numbers.floor)
    spec = plotly_spec(cosine_chart(numbers, 0))
    assert spec["layout"]["annotations"][0]["text"] == "No value is defined yet"
    assert task_curves(numbers, "mean").layout.annotations[0].text
    assert as_figure(plotly_spec(angle_matrix(numbers), LIGHT)).data[0].zmax == 0.1


def test_the_page_holds_the_numbers_of_every_probe(run: Run, tmp_path: Path) -> None:
    data = page_data(write_report(run, tmp_path / "report.html"))
    (found,) = data["tasks"]
    for p, name in enumerate(PAIR_NAMES):
        for kept, part in (("cos", "abs_cos"), ("bound", "bound"), ("largest", "abs_cos_max")):
            recorded = run.series(f"probe/orthogonality/{name}/{part}")[1]
            shown = [row[p] for row in found["values"][kept]]
            np.testing.assert_allclose(shown, recorded, rtol=1e-3)
    assert found["averages"] == ["mean", "median", "unbiased"]
    medians = list(opened(found["curves"]))[1]["data"]
    for k, metric in enumerate(("cdnv", "directional_cdnv")):
        for t, task in enumerate(TASKS):
            recorded = run.series(f"probe/{task}/{metric}_median")[1]
            np.testing.assert_allclose(medians[3 * k + t]["y"], recorded, rtol=1e-4)
    variance = data["views"][0]["variance"]
    for record, spec, words in zip(
        run.records, opened(variance["bars"]), variance["words"], strict=True
    ):
        axis = run.matrices(record)["backbone/colour/variance"][:, 0]
        np.testing.assert_allclose(spec["data"][0]["x"], axis, rtol=1e-4)
        assert f"{100 * record.scalars['probe/colour/axis_share/worst']:.3g} % on the axis" in words


def contrast(one: str, two: str) -> float:
    def light(colour: str) -> float:
        channels = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        linear = np.where(
            channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4
        )
        return float(linear @ [0.2126, 0.7152, 0.0722])

    low, high = sorted((light(one), light(two)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_lines_of_tasks_stand_out_and_the_ramp_is_monotone(theme: Theme) -> None:
    assert all(contrast(colour, theme.panel) >= 3 for colour in theme.tasks)
    assert len(set(theme.tasks)) == 8
    steps = [contrast(colour, theme.panel) for colour in theme.cosine_ramp]
    assert steps == sorted(steps)


def test_more_tasks_than_colours_still_look_different(make_run: MakeRun) -> None:
    for count, looks in ((12, 12), (20, 1)):
        tasks = {f"t{i}": ["no", "yes"] for i in range(count)}
        run = read_run(add_tasks(make_run(records=2, tasks=tasks)))
        lines = task_curves(pairs_of(run), "mean").data[:count]
        assert len({(line.line.color, line.line.dash) for line in lines}) == looks
        assert lines[0].showlegend == (looks > 1)


def test_archives_read_what_the_run_reads(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives_module, "MOST_OPEN", 2)
    (run.folder / str(run.records[1].matrices)).write_bytes(b"PK broken")
    with Archives(run) as archives:
        for _ in range(2):
            for record in run.records:
                stored = run.matrices(record)
                for key in ("backbone/shape/cdnv", "backbone/shape/variance"):
                    found = archives.read(record, key)
                    if record is run.records[1]:
                        assert found is None
                    else:
                        np.testing.assert_array_equal(found, stored[key])
                assert archives.read(record, "backbone/shape/unknown") is None
                assert len(archives.opened) <= 2
        assert archives.read(Record(0, 0, 0.0, {}), "backbone/shape/cdnv") is None
    assert not archives.opened


def test_a_page_of_fine_and_coarse_classes_is_small_and_quick(make_run: MakeRun) -> None:
    tasks = {"fine": [f"c{i}" for i in range(100)], "coarse": [f"s{i}" for i in range(20)]}
    folder = add_tasks(make_run(records=200, tasks=tasks))
    write_report(folder, folder / "report.html")
    start = time.perf_counter()
    path = write_report(folder, folder / "report.html")
    assert time.perf_counter() - start < 6
    assert path.stat().st_size < 15e6
    assert len(page_data(path)["tasks"][0]["steps"]) == 200
