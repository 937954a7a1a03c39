"""Rank correlations against scipy's, and the study of a folder of evaluations."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau, weightedtau

from dnc_lightning.cli import main
from dnc_lightning.evaluation.agreement import agreement, tau
from dnc_lightning.evaluation.study import OUTCOME_KEYS, study
from dnc_lightning.records.store import Record, RecordWriter
from dnc_lightning.series import Series

nan = float("nan")


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=3, max_size=20))
@settings(max_examples=200, deadline=None)
def test_tau_is_scipys_with_ties(pairs: list[tuple[int, int]]) -> None:
    a, b = np.array(pairs, dtype=float).T
    expected = kendalltau(a, b).statistic
    assert tau(a, b) == pytest.approx(expected, nan_ok=True, abs=1e-12)
    gaps = np.append(a, nan), np.append(b, 1.0)
    assert tau(*gaps) == pytest.approx(expected, nan_ok=True, abs=1e-12)


def test_agreement_is_the_mean_of_tasks_that_are_never_pooled() -> None:
    random = np.random.default_rng(0)
    errors = random.random((2, 30))
    badness = np.stack([errors[0] * 2 + 5, -errors[1]])  # right for one task, wrong for the other
    found = agreement(badness, errors)
    assert (found.tau, found.tasks) == (pytest.approx(0.0, abs=1e-12), 2)
    assert math.isnan(found.partial)
    one = agreement(badness[:1], errors[:1], given=random.random((1, 30)))
    assert (one.tau, one.low, one.high) == pytest.approx((1, 1, 1))
    assert (one.regret, one.weighted, one.partial) == pytest.approx((0, 1, 1))
    wrong = agreement(badness[1:], errors[1:])
    assert wrong.regret == pytest.approx(errors[1].max() - errors[1].min())


def test_partial_tau_weighted_tau_and_interval() -> None:
    random = np.random.default_rng(1)
    errors = random.normal(size=(1, 40))
    other = errors + random.normal(size=(1, 40))
    badness = other + random.normal(size=(1, 40))  # knows nothing but what the other does
    found = agreement(badness, errors, other)
    ab, ac, bc = (
        kendalltau(x[0], y[0]).statistic
        for x, y in ((badness, errors), (badness, other), (errors, other))
    )
    assert found.partial == pytest.approx((ab - ac * bc) / math.sqrt((1 - ac**2) * (1 - bc**2)))
    assert abs(found.partial) < found.tau / 2
    assert found.weighted == pytest.approx(weightedtau(-badness[0], -errors[0]).statistic)
    # The interval is that of drawing encoders anew, one by one.
    slow = []
    for _ in range(2000):
        draw = random.integers(40, size=40)
        slow.append(kendalltau(badness[0, draw], errors[0, draw]).statistic)
    assert (found.low, found.high) == pytest.approx(np.quantile(slow, [0.025, 0.975]), abs=0.03)


def test_three_encoders_say_nothing() -> None:
    assert agreement(np.arange(3.0)[None], np.arange(3.0)[None]).tasks == 0


SERIES = (
    Series("directional_cdnv", "Directional CDNV", "d", group="g", direction="lower"),
    Series("cdnv", "CDNV", "c", group="g", direction="lower"),
    Series("few_shot_error/{m}", "Measured error, m={m}", "m", group="g", direction="lower"),
    Series("rare", "Rare", "r", group="g", direction="lower"),
    Series("se", "No direction", "s", group="g"),
    Series("rank", "Rank", "k", group="g", direction="higher", scope="features"),
    Series("ncti/features", "NCTI, features", "n", group="g", direction="higher"),
    Series("ncti/posterior", "NCTI, posterior", "n", group="g", direction="higher"),
    Series("ncti/spread", "NCTI, spread", "n", group="g", direction="lower"),
)


def write(folder: Path, name: str, scalars: dict[str, float]) -> None:
    writer = RecordWriter(folder / "dnc" / name)
    (folder / "dnc" / name).mkdir(parents=True)
    writer.open(
        {
            "name": name,
            "encoders": ["net"],
            "tasks": {"label": ["a", "b"]},
            "prefixes": {"net": {"label": f"{name}/label"}},
            "shots": [5],
            "series": [one.to_json() for one in SERIES],
        }
    )
    writer.append(Record(0, 0, 1.0, scalars), {})


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    """Six encoders; directional CDNV orders them as their errors, CDNV in the opposite order."""
    for k in range(6):
        numbers = {
            "train/label/directional_cdnv": 0.1 + k,
            "train/label/cdnv": 9.0 - k,
            "train/label/few_shot_error/5": [0.1, 0.2, 0.3, 0.5, 0.4, 0.6][k],
            "train/label/se": float(k),
            "train/features/rank": -float(k),
            "train/label/ncti/features": 10.0 * k,
            "train/label/ncti/posterior": 0.9 - 0.1 * k,
            "train/label/ncti/spread": float(2 * k),
            **({"train/label/rare": float(k)} if k < 4 else {}),
        }
        write(tmp_path / f"enc{k}", "train", numbers)
        errors = {"test/label/few_shot_error/5": k / 10, "test/label/logistic/top1": 1 - k / 20}
        write(tmp_path / f"enc{k}", "test", errors)
    return tmp_path


def test_numbers_of_one_half_against_errors_of_the_other(zoo: Path) -> None:
    found = study([zoo])
    assert found.encoders == tuple(f"enc{k}" for k in range(6))
    assert (found.tasks, found.scarce, found.problems) == (("label",), ("Rare",), ())
    told = {(line.number, line.outcome): line.found.tau for line in found.lines}
    five, _, linear = OUTCOME_KEYS
    assert {outcome for _, outcome in told} == {five, linear}  # 50 labels were not measured
    assert told["Directional CDNV", five] == pytest.approx(1)
    assert told["Directional CDNV", linear] == pytest.approx(1)
    assert told["CDNV", five] == pytest.approx(-1)
    assert told["Rank", five] == pytest.approx(1)  # higher is better
    assert told["Measured error, m=5", five] == pytest.approx(1 - 2 / 15)
    # Scaled to 0..1 and summed: features fall by k / 5, posterior and spread rise by as much.
    assert told["NCTI", five] == pytest.approx(1)
    assert ("No direction", five) not in told
    assert found.of(five)[0].found.tau >= found.of(five)[-1].found.tau
    assert "| Directional CDNV | 1.00 [1.00, 1.00] | 1.00 |" in found.markdown(five)


def test_the_command_prints_tables_and_writes_all_numbers(
    zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["study", str(zoo), "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "6 encoders, 1 tasks: label" in printed
    assert "Predicts error with 5 labels" in printed
    assert "left out: Rare" in printed
    rows = list(csv.DictReader((tmp_path / "out" / "study.csv").read_text().splitlines()))
    assert {row["number"] for row in rows} >= {"Directional CDNV", "CDNV", "Rank", "NCTI"}
    assert main(["study", str(tmp_path / "out")]) == 2
    assert "no encoder below" in capsys.readouterr().err


def test_several_data_sets_are_tasks_of_their_own_and_damage_is_named(zoo: Path) -> None:
    (zoo / "enc5" / "dnc" / "test" / "run.json").write_text("{")
    found = study([zoo, zoo], only=[f"enc{k}" for k in range(6)])
    assert found.tasks == (f"{zoo.name}, label",)
    assert len(found.encoders) == 5
    assert found.problems[0].startswith("enc5 is left out")
    file = io.StringIO()
    found.show(file)
    assert "Directional CDNV" in file.getvalue()
