from __future__ import annotations

import base64
import json
import math
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import plotly.offline
import pytest

from dnc_lightning.records.store import Record
from dnc_lightning.reporting import read_run
from dnc_lightning.reporting.charts.collapse import collapse_chart, pair_matrix
from dnc_lightning.reporting.charts.values import Matrix
from dnc_lightning.reporting.draw.axes import log_ticks, plotly_script
from dnc_lightning.reporting.draw.look import shades
from dnc_lightning.reporting.draw.plotly import plotly_spec
from dnc_lightning.reporting.html import write_report
from dnc_lightning.reporting.read.facts import remarks, run_facts
from dnc_lightning.reporting.read.views import (
    curves,
    duration,
    log_bounds,
    pair_stack,
    quantised,
    thinned,
    unique_names,
    views,
    worst_classes,
)
from dnc_lightning.reporting.theme import DARK, LIGHT, Theme
from tests.reporting.figures import as_figure

MakeRun = Callable[..., Path]


def page_data(path: Path) -> dict[str, Any]:
    match = re.search(r'id="report-data">(.*?)</script>', path.read_text(encoding="utf-8"))
    assert match
    return json.loads(match[1])  # type: ignore[no-any-return]


def without_plotly(text: str) -> str:
    assert plotly_script() in text
    return text.replace(plotly_script(), "")


def test_the_page_is_one_file_that_names_no_other(make_run: MakeRun) -> None:
    folder = make_run()
    path = write_report(folder, folder / "report.html")
    text = without_plotly(path.read_text(encoding="utf-8"))
    urls = set(re.findall(r"(?:https?:)?//[\w.]+\.\w+", text))
    assert urls == {"http://www.w3.org"}  # the namespace of the inline icon
    assert not re.search(
        r"""(?:src|@import|url\()\s*=?\s*["']?(?!data:)[\w/.]+\.(?:js|css|png)""", text
    )
    assert "default-src 'none'" in text
    assert not list(folder.glob("*.part"))


def test_plotly_is_inlined_as_it_is_but_for_one_pair_of_parentheses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before, after = plotly.offline.get_plotlyjs().rstrip(), plotly_script()
    opening = after.index("(() => {")
    assert len(after) == len(before) + 2
    assert after[:opening] + after[opening + 1 : -1].removesuffix(")") + ";" == before
    monkeypatch.setattr(plotly.offline, "get_plotlyjs", lambda: "another build")
    assert plotly_script() == "another build"


def test_a_page_of_many_probes_is_small_and_quick(make_run: MakeRun) -> None:
    for classes, records in ((10, 200), (100, 60), (100, 200)):
        folder = make_run(records=records, tasks={"fine": [f"class {i}" for i in range(classes)]})
        write_report(folder, folder / "report.html")
        start = time.perf_counter()
        path = write_report(folder, folder / "report.html")
        assert time.perf_counter() - start < 4
        assert path.stat().st_size < 15e6
        assert page_data(path)["probes"] == records


def test_names_cannot_break_out_of_the_page(make_run: MakeRun) -> None:
    evil = "</script><img src=x onerror=alert(1)>&\u2028"
    folder = make_run(
        tasks={evil: ["a", evil]}, records=2, warnings=(evil,), header={"model": evil}
    )
    text = write_report(folder, folder / "report.html").read_text(encoding="utf-8")
    assert "<img src=x" not in without_plotly(text)
    assert page_data(folder / "report.html")["views"][0]["task"] == evil


def test_the_page_of_a_run_without_records_says_so(make_run: MakeRun) -> None:
    folder = make_run(records=0)
    text = write_report(folder, folder / "report.html").read_text(encoding="utf-8")
    assert 'class="empty" >No probe has been recorded yet' in text
    assert page_data(folder / "report.html")["views"] == []


def test_problems_of_the_records_are_shown(make_run: MakeRun) -> None:
    folder = make_run(records=3)
    with (folder / "records.jsonl").open("ab") as file:
        file.write(b'{"ver')
    text = write_report(folder, folder / "report.html").read_text(encoding="utf-8")
    assert "was cut short" in text
    assert "Warnings: 1" in text


def test_a_page_that_cannot_be_written_leaves_the_old_one(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_run(records=2)
    path = write_report(folder, folder / "report.html")
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_report(folder, path, finished=False)
    assert path.read_bytes() == before
    assert not list(folder.glob("*.part"))


def test_without_plotly_the_error_names_the_extra(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_run(records=1)
    monkeypatch.setitem(sys.modules, "plotly", None)
    with pytest.raises(ModuleNotFoundError, match=r"dnc_lightning\[report\]"):
        write_report(folder, folder / "report.html")


def test_a_report_needs_neither_torch_nor_lightning(make_run: MakeRun) -> None:
    folder = make_run(records=2)
    code = (
        "import sys; sys.modules.update(torch=None, lightning=None, pytorch_lightning=None)\n"
        "from dnc_lightning.reporting.html import write_report\n"
        "write_report(sys.argv[1], sys.argv[1] + '/alone.html')"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True)
    assert (folder / "alone.html").stat().st_size > 1e6


def test_quantised_matrices_decode_to_the_recorded_values(make_run: MakeRun) -> None:
    folder = make_run(records=4)
    data = page_data(write_report(folder, folder / "report.html"))
    run = read_run(folder)
    stack = data["views"][0]["stack"]
    for metric in ("cdnv", "directional_cdnv"):
        low, high = stack[metric]["bounds"]
        codes = np.frombuffer(base64.b64decode(stack[metric]["codes"]), "<u2").reshape(4, 10, 10)
        decoded = 10 ** (low + (codes - 2.0) / 65533 * (high - low))
        decoded[codes == 0] = np.nan
        for at, record in enumerate(run.records):
            expected = run.matrices(record)[f"backbone/label/{metric}"]
            np.testing.assert_allclose(decoded[at], expected, rtol=2e-4)


def test_codes_of_zero_undefined_and_the_ends() -> None:
    codes = quantised(np.array([0.0, np.nan, 0.01, 1.0, 100.0, np.inf]), (-2.0, 2.0))
    assert codes.tolist() == [1, 0, 2, 32768, 65535, 0]


def test_thinning_keeps_both_ends_in_order() -> None:
    assert thinned(list(range(7)), 7) == list(range(7))
    kept = thinned(list(range(200)), 11)
    assert (kept[0], kept[-1], len(kept)) == (0, 199, 11)
    assert kept == sorted(set(kept))


def test_the_worst_pairs_keep_their_classes() -> None:
    matrix = np.full((6, 6), 0.1)
    np.fill_diagonal(matrix, np.nan)
    matrix[4, 1] = 9.0
    matrix[0, 3] = 5.0
    assert worst_classes(matrix, 2) == [1, 4]
    assert worst_classes(matrix, 4) == [0, 1, 3, 4]
    assert worst_classes(matrix, 10) == list(range(6))


def test_hundreds_of_classes_are_cut_to_the_worst(make_run: MakeRun) -> None:
    folder = make_run(records=3, tasks={"fine": [f"class {i}" for i in range(300)]})
    data = page_data(write_report(folder, folder / "report.html"))
    stack = data["views"][0]["stack"]
    assert len(stack["classes"]) == 160
    assert "Of 300 classes, the 160 with the worst pairs" in stack["note"]
    run = read_run(folder)
    matrix = run.matrices(run.records[-1])["backbone/fine/directional_cdnv"]
    i, j = np.unravel_index(np.nanargmax(matrix), matrix.shape)
    assert {f"class {i}", f"class {j}"} <= set(stack["classes"])


def test_matrices_of_another_shape_are_not_shown(make_run: MakeRun) -> None:
    folder = make_run(records=2)
    header = json.loads((folder / "run.json").read_text())
    header["tasks"]["label"].append("one more")
    (folder / "run.json").write_text(json.dumps(header))
    run = read_run(folder)
    assert pair_stack(run, views(run)[0], max_values=10**6, max_classes=9) is None
    write_report(run, folder / "report.html")


def test_curves_follow_the_records(make_run: MakeRun) -> None:
    run = read_run(make_run(records=5))
    drawn = curves(run, views(run)[0], "median")
    np.testing.assert_array_equal(drawn.cdnv, run.series("probe/label/cdnv_median")[1])
    np.testing.assert_array_equal(
        drawn.directional_cdnv, run.series("probe/label/directional_cdnv_median")[1]
    )
    assert drawn.uncalibrated is None  # only the means were recorded before calibration
    mean = curves(run, views(run)[0], "mean")
    before = run.records[0].uncalibrated
    assert mean.uncalibrated == (
        0,
        before["probe/label/cdnv"],
        before["probe/label/directional_cdnv"],
    )
    assert drawn.labels[0] == "step 0 · epoch 0 · 0.0 s"


@pytest.mark.parametrize("theme", [LIGHT, DARK])
@pytest.mark.parametrize("options", [{"records": 1}, {"undefined": True}, {"records": 200}])
def test_every_picture_is_a_valid_figure(
    make_run: MakeRun, options: dict[str, Any], theme: Theme
) -> None:
    run = read_run(make_run(**options))
    view = views(run)[0]
    figure = as_figure(plotly_spec(collapse_chart(curves(run, view, "mean")), theme))
    assert [trace.name for trace in figure.data][:2] == ["CDNV", "Directional CDNV"]
    assert figure.data[1].line.color == theme.directional_cdnv
    matrix = run.matrices(run.records[-1])["backbone/label/cdnv"].astype(float)
    bounds = log_bounds(matrix)
    heatmap = as_figure(plotly_spec(pair_matrix("cdnv", view.classes, matrix, bounds), theme)).data[
        0
    ]
    assert heatmap.y[0] == "T-shirt/top"
    assert (heatmap.zmin, heatmap.zmax) == bounds
    assert [colour for _, colour in heatmap.colorscale] == list(theme.cdnv_ramp)
    np.testing.assert_allclose(np.array(heatmap.customdata, dtype=float), matrix, rtol=1e-4)
    np.testing.assert_allclose(np.array(heatmap.z, dtype=float), np.log10(matrix), atol=1e-4)


def test_the_chart_of_collapse_holds_the_numbers(make_run: MakeRun) -> None:
    run = read_run(make_run(records=5))
    drawn = curves(run, views(run)[0], "mean")
    chart = collapse_chart(drawn)
    for line, metric in zip(chart.lines, ("cdnv", "directional_cdnv"), strict=True):
        assert line.x == tuple(drawn.steps + 1)
        np.testing.assert_array_equal(line.y, run.series(f"probe/label/{metric}")[1])
    assert [line.role for line in chart.lines] == ["standard", "directional"]
    before = run.records[0].uncalibrated
    (points,) = chart.points
    assert points.x == (1.0, 1.0)
    assert points.y == (before["probe/label/cdnv"], before["probe/label/directional_cdnv"])
    drawn_points = as_figure(plotly_spec(chart, LIGHT)).data[2]
    assert drawn_points.marker.color == (LIGHT.cdnv, LIGHT.directional_cdnv)
    np.testing.assert_allclose(drawn_points.y, points.y, rtol=1e-4)
    assert 10 ** chart.range[0] < min(*chart.lines[1].y, *points.y)
    assert 10 ** chart.range[1] > max(*chart.lines[0].y, *points.y)


def test_the_worst_pairs_are_ranked_and_said_once(make_run: MakeRun) -> None:
    folder = make_run(records=4)
    run = read_run(folder)
    stack = page_data(write_report(folder, folder / "report.html"))["views"][0]["stack"]
    start = run.matrices(run.records[0])["backbone/label/directional_cdnv"]
    for at, record in enumerate(run.records):
        directional, cdnv = (
            run.matrices(record)[f"backbone/label/{metric}"]
            for metric in ("directional_cdnv", "cdnv")
        )
        order = np.argsort(-np.nan_to_num(directional, nan=-1), axis=None)[:10]
        expected = [tuple(map(int, np.unravel_index(flat, directional.shape))) for flat in order]
        rows = stack["worst"][at]
        assert [tuple(row[:2]) for row in rows] == expected
        for i, j, *words in rows:
            for word, value in zip(words[:2], (directional[i, j], cdnv[i, j]), strict=True):
                assert float(word.replace(",", "")) == pytest.approx(value, rel=6e-3)
            if at:
                factor = float(words[2].strip("↓↑ \N{MULTIPLICATION SIGN}"))
                assert factor == pytest.approx(start[i, j] / directional[i, j], rel=6e-3)
            else:
                assert words[2] == "\N{EN DASH}"


def test_the_first_step_has_a_place_on_the_logarithmic_axis(make_run: MakeRun) -> None:
    run = read_run(make_run(records=4))
    spec = plotly_spec(collapse_chart(curves(run, views(run)[0], "mean")))
    assert spec["data"][0]["x"][0] == 1
    axis = spec["layout"]["xaxis"]
    assert (axis["tickvals"][:3], axis["ticktext"][:3]) == ([1, 2, 11], ["0", "1", "10"])


def test_colour_values_of_a_matrix() -> None:
    table = np.array([[np.nan, 0.0], [10.0, 0.1]])
    chart = Matrix("", "", "", ("a", "b"), ("c", "d"), table, "log", range=(-3.0, 1.0))
    values, *ends = shades(chart)
    assert ends == [-3.0, 1.0]
    np.testing.assert_allclose(values, [[np.nan, -3.0], [1.0, -1.0]])


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (-1, 1, [0.1, 0.2, 0.5, 1, 2, 5, 10]),
        (0, 4, [1, 10, 100, 1000, 10000]),
        (0, 0.31, [1, 1.5, 2]),
    ],
)
def test_ticks(low: float, high: float, expected: list[float]) -> None:
    np.testing.assert_allclose(log_ticks(low, high), expected)


def test_words() -> None:
    assert [duration(s) for s in (0.41, 33.2, 700, 18700)] == ["0.4 s", "33 s", "12 min", "5.2 h"]
    assert unique_names(["cat", "dog", "cat"]) == ["cat", "dog", "cat (2)"]
    records = [Record(s, 0, 0.0, {}, warnings=("slow",) if s else ()) for s in (0, 4, 900, 1200)]
    (remark,) = remarks(records, "warnings")
    assert (remark.text, remark.when) == ("slow", "steps 4 to 1,200, 3 probes")
    assert log_bounds(np.array([np.nan, 0.0])) == (-1.0, 1.0)
    low, high = log_bounds(np.array([2.0]))
    assert math.isclose(high - low, 0.3)


def test_facts_cope_with_a_bare_header(make_run: MakeRun) -> None:
    run = read_run(make_run(records=1, header={"world_size": 2, "normalize": True}))
    facts = dict(run_facts(run))
    assert facts["Device"] == "cpu, 2 processes"
    assert facts["Features"] == "L2-normalised"
    assert facts["Samples per class"] == "100"
    assert (facts["Ways"], facts["Target error"]) == ("all classes", "0.1")
    bare = type(run)(run.folder, {"version": 1}, (), ())
    assert dict(run_facts(bare)) == {"Probes": "0"}
