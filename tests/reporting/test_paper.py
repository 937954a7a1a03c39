"""Figures for a paper: which there are, how large, with which fonts and numbers."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dnc_lightning.records.store import Record, RecordWriter, read_run
from dnc_lightning.reporting.charts.values import Matrix
from dnc_lightning.reporting.compare_runs import find_runs, methods_of
from dnc_lightning.reporting.draw.look import shade_ticks, shades
from dnc_lightning.reporting.paper.figures import DOTS_PER_INCH, paper, papers, write_figures
from dnc_lightning.reporting.paper.probe import (
    HEIGHT,
    LEFT,
    SIDE,
    TOP,
    WIDTH,
    matrix_picture,
    probe_pictures,
)
from dnc_lightning.reporting.theme import LIGHT
from tests.reporting.conftest import write_run

TASKS = {"colour": ["red", "yellow", "green"], "shape": ["circle", "square"]}
PARTS = {
    0: np.array([[0.4, 0.6, 2.0, 3.0, 3.5], [0.5, 0.7, 2.5, 3.5, 4.0]]),
    5: np.array([[0.04, 0.3, 1.0, 1.5, 1.7], [0.05, 0.4, 1.2, 1.6, 1.8]]),
}
PAIRS = np.array([[0, 1], [2, 0]])


def full_run(folder: Path) -> Path:
    """Write a run with everything that a figure can show."""
    source = read_run(write_run(folder.with_name(f"{folder.name}-source"), records=6, tasks=TASKS))
    writer = RecordWriter(folder)
    writer.open({k: v for k, v in source.header.items() if k != "version"})
    for i, record in enumerate(source.records):
        angles = {
            "probe/orthogonality/colour-shape/abs_cos": 0.5 - 0.05 * i,
            "probe/orthogonality/floor": 0.07,
            **{f"probe/colour/axis_share/{pair}": 0.1 for pair in ("best", "median", "worst")},
        }
        stored = (
            {"backbone/colour/variance": PARTS[i], "backbone/colour/variance_pairs": PAIRS}
            if i in PARTS
            else {}
        )
        scalars = {**record.scalars, **angles}
        writer.append(Record(record.step, record.epoch, record.time, scalars), stored)
    return folder


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("paper")
    full_run(root / "a" / "seed0")
    return root / "a" / "seed0"


@pytest.mark.parametrize(("width", "inches"), [("single", 3.25), ("double", 6.75)])
def test_files_are_of_a_paper_s_size_and_keep_their_text(
    root: Path, tmp_path: Path, width: str, inches: float
) -> None:
    paths = write_figures(find_runs([root]).groups, tmp_path, width=width)
    names = ["collapse", "few_shot", "orthogonality", "variance"]
    assert [p.name for p in paths] == [f"{name}.{e}" for name in names for e in ("pdf", "png")]
    for path in paths:
        content = path.read_bytes()
        expected = 3.25 if path.stem == "orthogonality" else inches
        if path.suffix == ".pdf":
            box = re.search(rb"/MediaBox \[ 0 0 ([\d.]+)", content)
            assert box is not None
            assert float(box[1]) == pytest.approx(72 * expected, abs=0.5)
            assert b"/FontFile2" in content  # TrueType outlines are embedded
            assert b"/Type3" not in content
            assert b"/Subtype /Image" not in content  # vector graphics throughout
        else:
            picture = Image.open(path)
            assert picture.width == pytest.approx(DOTS_PER_INCH * expected, abs=1)
            assert np.asarray(picture.convert("L")).std() > 10


def test_the_same_records_give_the_same_file(root: Path, tmp_path: Path) -> None:
    first, second = (
        write_figures(find_runs([root]).groups, tmp_path / name, tasks=["colour"])[0]
        for name in "ab"
    )
    assert first.read_bytes() == second.read_bytes()


def test_lines_are_the_records(root: Path) -> None:
    groups = find_runs([root]).groups
    run, methods = groups[0].runs[0].run, methods_of(groups)
    shown = papers(methods, ["shape"])
    figure = paper(shown["collapse"], "single")
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    for title, key in (("CDNV", "cdnv"), ("Directional CDNV", "directional_cdnv")):
        steps, values = run.series(f"probe/shape/{key}")
        np.testing.assert_allclose(lines[title].get_xdata(), steps + 1)
        np.testing.assert_allclose(lines[title].get_ydata(), values)
    figure = paper(shown["few_shot"], "single")
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    last = run.records[-1].scalars
    for title, key in (("Measured error", "few_shot_error"), ("Certificate", "certificate")):
        np.testing.assert_allclose(
            lines[title].get_ydata(),
            [last[f"probe/shape/{key}/{int(m)}"] for m in lines[title].get_xdata()],
        )
    figure = paper(shown["orthogonality"], "single")
    np.testing.assert_allclose(figure.axes[0].lines[0].get_ydata(), 0.5 - 0.05 * np.arange(6))
    assert figure.axes[0].lines[1].get_ydata()[0] == pytest.approx(0.07)


def test_bars_are_the_recorded_decomposition(root: Path) -> None:
    shown = papers(methods_of(find_runs([root]).groups), ["colour"])
    figure = paper(shown["variance"], "single")
    ax = figure.axes[0]
    heights = [[bar.get_height() for bar in part] for part in ax.containers]
    np.testing.assert_allclose(np.array(heights).T, PARTS[5], rtol=1e-6)
    ticks = np.array([line.get_ydata() for line in ax.lines])
    np.testing.assert_allclose(ticks.T, PARTS[0], rtol=1e-6)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["red\nyellow", "green\nred"]


def test_several_methods_have_a_line_each(tmp_path: Path) -> None:
    for method in ("simclr", "vicreg"):
        for seed in range(2):
            write_run(tmp_path / method / f"seed{seed}", records=4, tasks=TASKS)
    found = find_runs([tmp_path])
    figure = paper(papers(methods_of(found.groups), list(TASKS))["collapse"], "double")
    assert [len(ax.lines) for ax in figure.axes] == [2] * 4
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["simclr", "vicreg"]
    one, other = figure.axes[0].lines
    for look in ("get_color", "get_linestyle", "get_marker"):
        assert getattr(one, look)() != getattr(other, look)()


def test_what_was_not_recorded_has_no_figure(tmp_path: Path) -> None:
    write_run(tmp_path / "run", records=3, few_shot=False, matrices=False)
    paths = write_figures(find_runs([tmp_path]).groups, tmp_path / "out")
    assert {path.stem for path in paths} == {"collapse"}


def test_an_unknown_task_is_an_error(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected a task among colour, shape, got 'size'"):
        write_figures(find_runs([root]).groups, tmp_path, tasks=["size"])


def pairs(values: np.ndarray, *names: str) -> Matrix:
    return Matrix("CDNV", "class j", "class i", names, names, values, "log", role="standard")


def test_a_pair_picture_shows_rows_and_columns_as_given() -> None:
    matrix = np.array([[np.nan, 100.0], [0.01, np.nan]])
    picture = matrix_picture(pairs(matrix, "a", "b"))
    assert picture.shape == (HEIGHT, WIDTH, 3)
    middles = [SIDE // 4, SIDE * 3 // 4]
    cells = picture[TOP : TOP + SIDE, LEFT : LEFT + SIDE][np.ix_(middles, middles)]
    colours = [["#" + bytes(cell).hex() for cell in row] for row in cells]
    lowest, *_, highest = LIGHT.cdnv_ramp
    assert colours == [[LIGHT.sunken, highest], [lowest, LIGHT.sunken]]


def test_a_matrix_need_not_be_square_nor_logarithmic() -> None:
    values = np.array([[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]])
    chart = Matrix("Parts", "part", "pair", ("a", "b", "c"), ("x", "y"), values, "linear")
    picture = matrix_picture(chart)
    rows, columns = [SIDE // 4, SIDE * 3 // 4], [SIDE // 6, SIDE // 2, SIDE * 5 // 6]
    cells = picture[TOP : TOP + SIDE, LEFT : LEFT + SIDE][np.ix_(rows, columns)].astype(int)
    darkness = -cells.sum(axis=2)
    assert (np.diff(darkness.ravel()) > 0).all()
    assert "#" + bytes(cells[0, 0].astype(np.uint8)).hex() == LIGHT.cosine_ramp[0]
    assert shade_ticks(chart, 0.0, 5.0) == [(float(k), str(k)) for k in range(6)]


def test_a_zero_is_at_the_low_end_of_a_logarithmic_ramp_and_the_undefined_nowhere() -> None:
    heights, low, high = shades(pairs(np.array([[np.nan, 0.0], [0.01, 100.0]]), "a", "b"))
    np.testing.assert_allclose(heights, [[np.nan, -2], [-2, 2]])
    assert (low, high) == pytest.approx((-2, 2))


def test_names_stand_at_their_rows_and_columns() -> None:
    named, unnamed = (matrix_picture(pairs(np.ones((3, 3)), "", name, "")) for name in ("b", ""))
    rows, columns, _ = np.nonzero(named != unnamed)
    beside, below = columns < LEFT, rows > TOP + SIDE
    assert (beside | below).all()
    assert rows[beside].mean() == pytest.approx(TOP + SIDE / 2, abs=4)
    assert columns[below].mean() == pytest.approx(LEFT + SIDE / 2, abs=4)


def test_a_matrix_of_two_classes_is_not_drawn(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "run", records=2, tasks=TASKS))
    keys = probe_pictures(run, run.matrices(run.records[-1]))
    assert set(keys) == {
        "probe/colour/charts/few_shot",
        "probe/shape/charts/few_shot",
        "probe/colour/charts/cdnv",
        "probe/colour/charts/directional_cdnv",
    }
