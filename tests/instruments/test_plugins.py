"""Instruments from outside: a package, an object, a metric of torchmetrics; and what is refused."""

from __future__ import annotations

import csv
import json
import math
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor
from torchmetrics import Metric

from dnc_lightning import ProbeCallback, ProbeSet
from dnc_lightning.instruments import (
    DEFAULT,
    Bench,
    Found,
    Reference,
    Series,
    declared,
    find_instruments,
)
from dnc_lightning.probe import bench
from dnc_lightning.reporting import read_run
from tests.callbacks.fits import data, fit, probe, records
from tests.callbacks.modules import BackboneModule, Clean
from tests.instruments.spread import Spread

FILE = Path(__file__).with_name("spread.py")
KEY = "probe/label/spread"


def install(folder: Path, *lines: str, name: str = "spread_of_others") -> None:
    """Put a package on disk as pip would: a module, and the entry points of its distribution."""
    (folder / f"{name}.py").write_text(FILE.read_text())
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    group = "[dnc_lightning.instruments]\n"
    (info / "entry_points.txt").write_text(group + "\n".join(lines) + "\n")


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for packages that are found until the test ends."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    for name in [name for name in sys.modules if name.endswith("_of_others")]:
        del sys.modules[name]


def pixels(module: Any, images: Tensor) -> Tensor:
    return images.flatten(1)


def spread_of(callback: ProbeCallback) -> float:
    """What an encoder of pixels has."""
    chosen = callback.probe.indices
    features = Clean().x[chosen].flatten(1).double().numpy() / 255
    distances = np.sqrt(((features - features.mean(0)) ** 2).sum(1))
    return float(distances.mean() / np.sqrt(features.shape[1]))


def test_a_metric_of_another_package_is_one_file(installed: Path, tmp_path: Path) -> None:
    assert len(FILE.read_text().splitlines()) <= 40
    install(installed, "spread = spread_of_others:Spread")
    logger = CSVLogger(tmp_path)
    tested = probe(encoder=pixels, metrics=["collapse", "spread"])
    trainer = fit(tmp_path, tested, max_steps=2, logger=logger)
    value = records(tested)[-1].scalars[KEY]
    assert value == pytest.approx(spread_of(tested), rel=1e-5)
    assert float(trainer.callback_metrics[KEY]) == pytest.approx(value)
    with Path(logger.log_dir, "metrics.csv").open() as file:
        logged = [float(row[KEY]) for row in csv.DictReader(file) if row.get(KEY)]
    assert logged == pytest.approx([record.scalars[KEY] for record in records(tested)])
    assert tested.run_dir_ is not None
    header = json.loads((tested.run_dir_ / "run.json").read_text())
    assert list(header["prefixes"].values()) == [{"label": "probe/label"}]
    found = {series.key: series for series in map(Series.from_json, header["series"])}
    assert found["spread"].title == "Spread of the features"
    assert found["spread"].references == (Reference("collapsed", 0.1),)
    assert found["spread"] == Spread.series[0]
    assert "few_shot_error/{m}" not in found
    assert found["overhead"].scope == "probe"


@pytest.mark.parametrize("made", ["Spread", "Spread()", "lambda: Spread()", "BrokenSpread"])
def test_what_is_registered_may_be_a_class_or_an_object(made: str, installed: Path) -> None:
    install(installed, "spread = spread_of_others:made")
    with (installed / "spread_of_others.py").open("a") as file:
        file.write(f"\n\nclass BrokenSpread:\n    name = 'spread'\n\n\nmade = {made}\n")
    if made == "BrokenSpread":
        with pytest.raises(
            ValueError, match=r"'spread' of spread_of_others must be an instrument, got BrokenSpr"
        ):
            find_instruments(["spread"])
    else:
        assert find_instruments(["spread"])[0].name == "spread"
    assert [i.name for i in find_instruments(None)] == list(DEFAULT)  # the others are asked for


@pytest.mark.parametrize("made", ["Top", "Top()"])
def test_what_is_registered_may_be_a_metric_of_torchmetrics(made: str, installed: Path) -> None:
    install(installed, "top = spread_of_others:made")
    with (installed / "spread_of_others.py").open("a") as file:
        file.write("\n\nfrom torchmetrics import MeanMetric\n\n\n")
        file.write(f"class Top(MeanMetric):\n    pass\n\n\nmade = {made}\n")
    (found,) = find_instruments(["top"])
    assert [series.key for series in found.series] == ["Top"]


def test_names_that_are_registered_twice_or_cannot_be_loaded(installed: Path) -> None:
    install(installed, "spread = spread_of_others:Spread", "collapse = spread_of_others:Spread")
    install(
        installed, "spread = more_of_others:Spread", "gone = no_such:Thing", name="more_of_others"
    )
    with pytest.raises(ValueError, match=r"registered by \w+_of_others and by \w+_of_others"):
        ProbeCallback(ProbeSet(Clean()), metrics=["spread"])
    with pytest.raises(ValueError, match="registered by spread_of_others and by dnc_lightning"):
        find_instruments(["collapse"])
    with pytest.raises(
        ValueError, match=r"'gone', registered by more_of_others .* cannot be loaded"
    ):
        find_instruments(["gone"])
    with pytest.raises(
        ValueError, match=r"there is collapse, .*, and installed collapse, gone, spr"
    ):
        find_instruments(["other"])


class Own:
    """Measures what a test hands it."""

    def __init__(self, *series: Series, name: str = "own", measure: Any = None) -> None:
        self.name, self.series, self.given = name, series, measure

    def measure(self, bench: Bench) -> Found:
        found: Found = self.given(bench)
        return found


def declare(key: str, **more: Any) -> Series:
    return Series(key=key, title="A title", meaning="what it is", group="Own", **more)


def test_a_matrix_over_pairs_and_a_curve_over_shots(tmp_path: Path) -> None:
    seen: list[Bench] = []

    def measure(bench: Bench) -> Found:
        seen.append(bench)
        distances = bench.geometry.distance2.sqrt().bfloat16()
        curve = torch.tensor([1.0 / m for m in bench.settings.shots], requires_grad=True)
        return Found({"own/largest": distances.max()}, {"own/distance": distances, "curve": curve})

    series = (
        declare("own/largest", thorough=False),
        declare("own/distance", axes=("class", "class")),
        declare("curve", axes=("shots",)),
    )
    tested = probe(metrics=["collapse", Own(*series, measure=measure)], shots=(1, 2, 5))
    fit(tmp_path, tested, max_steps=1)
    assert tested.run_dir_ is not None
    run = read_run(tested.run_dir_)
    arrays = run.matrices(run.records[-1])
    assert set(arrays) >= {"backbone/label/cdnv", "backbone/label/class_variance"}
    matrix = arrays["backbone/label/own/distance"]
    assert matrix.shape == (3, 3)
    assert matrix.max() == run.records[-1].scalars["probe/label/own/largest"] > 0
    np.testing.assert_allclose(arrays["backbone/label/curve"], [1, 0.5, 0.2], rtol=1e-6)
    axes = {s["key"]: s["axes"] for s in run.header["series"] if "axes" in s}
    assert axes["own/distance"] == ["class", "class"]
    assert axes["curve"] == ["shots"]
    assert seen[-1].classes == ("dark", "middle", "bright")
    assert seen[-1].counts == [8, 8, 8]
    assert seen[-1].settings.shots == (1, 2, 5)
    both = {"a": seen[-1].task, "b": seen[-1].task}
    with pytest.raises(ValueError, match="one task was asked for, but here are a, b"):
        _ = Bench(seen[-1].features, both, seen[-1].settings).labels


@pytest.mark.filterwarnings("ignore:probe. .*Measuring failed")
@pytest.mark.parametrize(
    ("gives", "reason"),
    [
        (lambda bench: 1 / 0, "ZeroDivisionError"),
        (lambda bench: None, "AttributeError"),
        (lambda bench: Found({"other": 1.0}), "'other' is not declared here by own, but a, b"),
        (lambda bench: Found({"a": torch.zeros(3)}), r"number 'a' has shape \[3\]"),
        (lambda bench: Found({"a": 1.0}, {"m": torch.zeros(3)}), r"array 'm' has shape \[3\]"),
        (lambda bench: Found({}, {"m": torch.zeros(3, 4)}), "its axes are class 3, class 3"),
        (lambda bench: Found({}, {"a": torch.zeros(3, 3)}), "array 'a' is not declared here"),
    ],
)
def test_an_instrument_that_fails_costs_its_own_series(
    gives: Any, reason: str, tmp_path: Path
) -> None:
    series = (declare("a"), declare("b"), declare("m", axes=("class", "class")))
    tested = probe(metrics=[Own(*series, measure=gives), "collapse", Spread()])
    with pytest.warns(UserWarning, match=reason) as caught:
        trainer = fit(tmp_path, tested, max_steps=2)
    assert len([w for w in caught if "Measuring failed" in str(w.message)]) == 1
    assert trainer.global_step == 2
    for record in records(tested):
        assert math.isnan(record.scalars["probe/label/a"])
        assert math.isnan(record.scalars["probe/label/b"])
        assert record.scalars["probe/label/cdnv"] > 0
        assert record.scalars[KEY] > 0
        assert any(re.search(reason, text) and "in own." in text for text in record.warnings)
    assert math.isnan(float(trainer.callback_metrics["probe/label/a"]))


def test_what_it_declares_and_leaves_out_is_nan(tmp_path: Path) -> None:
    tested = probe(metrics=[Own(declare("a"), declare("b"), measure=lambda b: Found({"b": 0.1}))])
    fit(tmp_path, tested, max_steps=1)
    for record in records(tested):
        assert math.isnan(record.scalars["probe/label/a"])
        assert record.scalars["probe/label/b"] == 0.1
        assert record.warnings == ()


def test_what_the_first_and_last_probe_alone_measure(tmp_path: Path) -> None:
    def measure(bench: Bench) -> Found:
        return Found({"cheap": 1.0} | ({"dear/1": 2.0, "dear/2": 3.0} if bench.thorough else {}))

    own = Own(declare("cheap"), declare("dear/{m}", thorough=True), measure=measure)
    tested = probe(metrics=[own], shots=(1, 2), every_n_train_steps=1)
    fit(tmp_path, tested, max_steps=2)
    held = [sorted(k for k in r.scalars if "/label/" in k) for r in records(tested)]
    all_keys = ["probe/label/cheap", "probe/label/dear/1", "probe/label/dear/2"]
    assert held == [all_keys, all_keys[:1], all_keys]


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: [Own(declare("cdnv")), "collapse"], "'own' and 'collapse' have one key: 'cdnv'"),
        (
            lambda: [Own(declare("certificate/5")), "few_shot"],
            "'certificate/5' and 'certificate/{m}'",
        ),
        (
            lambda: [Own(declare("a")), Own(declare("a"), name="b")],
            "'own' and 'b' have one key: 'a'",
        ),
        (lambda: [Own(declare("x-y/bound", scope="tasks")), "orthogonality"], "have one key: 'x-y"),
        (lambda: [Own(declare("a"), declare("a"))], "'own' declares 'a' and 'a'"),
        (lambda: [Own(declare("a")), Own(declare("b"))], "own twice"),
        (lambda: [Own(declare("a"), declare("b", scope="tasks"))], "got task, tasks"),
        (lambda: [Own(declare("a", scope="probe"))], "got probe"),
        (lambda: [Own()], "'own' must be of Series, at least one"),
        (lambda: [Own(declare("a"), name="")], "Own must have a name"),
        (lambda: [Spread], "got the class Spread. An instrument has name, series and measure"),
        (lambda: [object()], "got object"),
        (lambda: [Own(declare("/a"))], "begin or end with '/', got '/a'"),
        (lambda: [Own(declare("a/"))], "begin or end with '/', got 'a/'"),
        (lambda: [Own(declare(""))], "must be given"),
        (lambda: [Own(Series("a", " ", "b", "c"))], "series 'a' has no title"),
        (lambda: [Own(declare("m", axes=("class", "")))], "axis of the array 'm' must have a name"),
        (lambda: [Own(declare("m", axes="class"))], r"array 'm' must have .* got axes='class'"),
        (lambda: [Own(declare("a", low=1.0, high=0.0))], "low < high"),
    ],
)
def test_what_is_refused_at_construction(make: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        ProbeCallback(ProbeSet(Clean()), metrics=make())


def test_an_array_and_a_number_may_have_one_key() -> None:
    find_instruments([Own(declare("a"), declare("a", axes=("class",)))])
    find_instruments([Own(declare("cdnv", scope="tasks")), "collapse"])


class Purity(Metric):
    """How pure the neighbourhoods are."""

    higher_is_better = True
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros(()), dist_reduce_fx="sum")

    def update(self, features: Tensor, labels: Tensor) -> None:
        self.total += 0.25

    def compute(self) -> Tensor:
        return self.total


class TopAccuracy(Purity):
    higher_is_better = None  # type: ignore[assignment]
    plot_lower_bound = 1.0


class Unbounded(Purity):
    plot_lower_bound = -math.inf


def test_a_metric_of_torchmetrics_declares_what_it_says_of_itself() -> None:
    purity, top = find_instruments([Purity(), TopAccuracy()])
    (one,), (other,) = purity.series, top.series
    assert (one.key, one.title, one.meaning) == (
        "Purity",
        "Purity",
        "How pure the neighbourhoods are.",
    )
    assert (one.low, one.high, one.direction) == (0.0, 1.0, "higher")
    assert (other.title, other.direction, other.low) == ("Top accuracy", None, None)
    assert "torchmetrics' TopAccuracy" in other.meaning
    ((without,),) = (i.series for i in find_instruments([Unbounded()]))
    assert (without.low, without.high) == (None, 1.0)
    assert declared([purity])[0] == Series.from_json(json.loads(json.dumps(one.to_json())))


class Draws(Own):
    """Uses every random state that training has."""

    def measure(self, bench: Bench) -> Found:
        return Found({"a": float(torch.rand(()) + np.random.rand())})


def test_random_numbers_of_an_instrument_are_not_those_of_training(tmp_path: Path) -> None:
    weights = []
    for metrics in ([Draws(declare("a"))], ["collapse"]):
        module = BackboneModule()
        torch.manual_seed(1)
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter)
        fit(tmp_path, probe(metrics=metrics, every_n_train_steps=1), module=module, max_steps=3)
        weights.append(torch.cat([p.detach().flatten() for p in module.parameters()]))
    assert torch.equal(*weights)  # dropout draws too


def test_shared_work_is_done_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    for name in ("class_geometry", "population_estimate"):
        works = getattr(bench, name)

        def counted(*args: Any, name: str = name, works: Any = works, **kw: Any) -> Any:
            calls.append(name)
            return works(*args, **kw)

        monkeypatch.setattr(bench, name, counted)
    own = Own(declare("a"), measure=lambda bench: Found({"a": bench.geometry.variance.mean()}))
    counts = []
    for metrics in (["variance"], ["collapse"], ["collapse", "few_shot", "variance", own]):
        calls.clear()
        fit(tmp_path, probe(metrics=metrics), max_steps=1)
        counts.append((calls.count("class_geometry"), calls.count("population_estimate")))
    # The first probe and the last are thorough.
    assert counts == [(counts[0][0], 0), (counts[0][0], 2), (counts[0][0], 2)]
    assert counts[0][0] > 0


class Half(Own):
    """Fails on one rank, after nothing was summed."""

    def measure(self, bench: Bench) -> Found:
        if torch.distributed.get_rank() == 1:
            raise ArithmeticError("overflow")
        return Found({"a": 1.0})


class Dump(pl.Callback):
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_end(self, trainer: pl.Trainer, *_: Any) -> None:
        values = {k: float(v) for k, v in trainer.callback_metrics.items()}
        (self.folder / f"rank{trainer.global_rank}.json").write_text(json.dumps(values))


@pytest.mark.filterwarnings("ignore:probe. .*Measuring failed")
def test_two_processes_sum_and_agree_on_what_failed(tmp_path: Path) -> None:
    one = fit(tmp_path / "one", probe(metrics=[Spread()]), max_steps=1, loader=data())
    tested = probe(metrics=[Spread(), Half(declare("a"), name="half"), "collapse"])
    fit(tmp_path, tested, Dump(tmp_path), max_steps=1, devices=2, strategy="ddp_fork")
    ranks = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1)]
    assert ranks[0][KEY] == ranks[1][KEY]
    assert all(math.isnan(rank["probe/label/a"]) for rank in ranks)
    assert all(rank["probe/label/cdnv"] > 0 for rank in ranks)
    first = read_run(tmp_path / "dnc" / "probe").records[0]
    assert "it failed on another rank in half" in first.warnings[0]
    alone = read_run(tmp_path / "one" / "dnc" / "probe").records[0]
    assert first.scalars[KEY] == pytest.approx(alone.scalars[KEY], rel=1e-5)
    assert one.global_step == 1
