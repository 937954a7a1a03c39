"""Signs of a collapse in the numbers of a run."""

from __future__ import annotations

import dataclasses
import io
import math
from pathlib import Path

import numpy as np
import pytest

from dnc_lightning.records.store import Record, RecordWriter, read_run
from dnc_lightning.reporting.html import page
from dnc_lightning.reporting.read.alarm import (
    ALARM,
    IN_A_ROW,
    Alarm,
    Signs,
    alarm_words,
    alarms,
    judge,
    signs_of,
)
from dnc_lightning.reporting.read.best import checkpoint_until
from dnc_lightning.reporting.terminal import print_run

HEADER = {
    "name": "probe",
    "encoders": ["net"],
    "tasks": {"colour": ["a", "b"], "shape": ["a", "b", "c", "d"]},
    "prefixes": {"net": {"colour": "probe/colour", "shape": "probe/shape"}},
    "shots": [1, 5, 10],
}
HEALTHY = Signs(0, 30.0, 80.0, -1.3, 0.5, 1.0)


def history(*changes: dict[str, float], healthy: int = 8) -> list[Signs]:
    """Healthy probes, then some in which signs are multiplied."""
    found = [dataclasses.replace(HEALTHY, step=k) for k in range(healthy)]
    for k, change in enumerate(changes):
        values = {name: getattr(HEALTHY, name) * factor for name, factor in change.items()}
        found.append(dataclasses.replace(HEALTHY, step=healthy + k, **values))
    return found


def first(signs: list[Signs]) -> Alarm | None:
    found = (judge("net", signs[: k + 1]) for k in range(len(signs)))
    return next((alarm for alarm in found if alarm is not None), None)


DIMENSIONAL = {"effective_rank": 0.06, "rankme": 0.18}
NOTHING = dict.fromkeys(["effective_rank", "rankme", "error", "directional_cdnv"], math.nan)
BROKEN = {
    "dimensional": [
        # As slowly as a healthy run compresses, so that nothing is sudden.
        *({"effective_rank": 0.7**k, "rankme": 0.86**k} for k in range(1, 9)),
        *[DIMENSIONAL] * 3,
    ],
    "complete": [
        *({"effective_rank": 0.7**k, "rankme": 0.86**k} for k in range(1, 9)),
        *[{"effective_rank": 0.04, "rankme": 0.18}] * 2,
    ],
    "sudden": [{"effective_rank": 0.3, "error": 1.5}] * 2,
    "not finite": [NOTHING, NOTHING],
}


@pytest.mark.parametrize("kind", BROKEN)
def test_every_kind_is_raised_at_the_last_of_its_probes(kind: str) -> None:
    signs = history(*BROKEN[kind])
    assert first(signs[:-1]) is None
    alarm = first(signs)
    assert alarm is not None
    count = IN_A_ROW[kind]  # type: ignore[index]
    assert (alarm.kind, alarm.step) == (kind, signs[-1].step)
    assert (alarm.since, alarm.healthy) == (signs[-count].step, signs[-count - 1].step)
    assert f"since step {alarm.since}" in alarm.words


def test_one_point_is_a_complete_collapse_only_where_errors_say_so() -> None:
    flat = {"uniformity": 0.05, "error": 1.98, "effective_rank": 0.9}
    assert (alarm := first(history(*[flat] * 2))) is not None
    assert (alarm.kind, alarm.evidence) == (
        "complete",
        "uniformity -1.30 → -0.0650, error 0.990 of guessing's",
    )
    assert first(history(*[flat | {"error": 1.0}] * 4)) is None


def test_what_recovers_is_no_collapse() -> None:
    """A healthy student of DINO: two probes as low as a collapse, then higher again."""
    dip = [*BROKEN["dimensional"][:-1], {"effective_rank": 0.09, "rankme": 0.25}]
    assert first(history(*dip, DIMENSIONAL, DIMENSIONAL, {})) is None
    assert first(history({"effective_rank": 0.3, "error": 1.5}, {}, {})) is None


def test_one_sign_alone_and_small_changes_are_not_sudden() -> None:
    assert first(history(*[{"effective_rank": 0.3}] * 4)) is None
    assert first(history(*[{"effective_rank": 0.6, "error": 1.15}] * 4)) is None
    assert first(history(*[{"effective_rank": 0.3, "error": 1.5}] * 2, healthy=5)) is None


@pytest.mark.parametrize("size", [0.03, 0.1, 0.3])
def test_noise_raises_no_alarm(size: float) -> None:
    """300 runs of 40 probes each, around one level and as a random walk."""
    random, raised = np.random.default_rng(0), 0
    for walk in [False, True] * 150:
        noise = random.normal(size=(40, 4)) * size
        noise = np.cumsum(noise, 0) / 3 if walk else noise
        signs = [
            Signs(
                k,
                *np.array([30.0, 80.0]) * np.exp(n[:2]),
                -1.3,
                0.5 * math.exp(n[2] / 3),
                math.exp(n[3]),
            )
            for k, n in enumerate(noise)
        ]
        raised += first(signs) is not None
    assert raised <= 1


def test_signs_are_read_over_all_tasks() -> None:
    scalars = {
        "probe/features/effective_rank": 7.0,
        "probe/features/rankme": 20.0,
        "probe/features/uniformity": -2.0,
        "probe/colour/directional_cdnv": 0.1,
        "probe/shape/directional_cdnv": 10.0,
        "probe/colour/few_shot_error/1": 0.4,
        "probe/colour/few_shot_error/5": 0.1,
        "probe/colour/few_shot_error/10": 0.05,
        "probe/shape/few_shot_error/1": 0.6,
        "probe/shape/few_shot_error/5": 0.3,
        "probe/shape/few_shot_error/10": 0.2,
    }
    found = signs_of(scalars, HEADER, 9)["net"]
    assert (found.step, found.effective_rank, found.rankme, found.uniformity) == (9, 7, 20, -2)
    assert found.error == pytest.approx((0.1 / 0.5 + 0.3 / 0.75) / 2)
    assert found.directional_cdnv == pytest.approx(1.0)
    assert not signs_of({}, HEADER, 9)["net"].known


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run whose ranks fall slowly and stay there, and whose loss was told of between probes."""
    folder = tmp_path / "dnc" / "probe"
    folder.mkdir(parents=True)
    writer = RecordWriter(folder)
    writer.open(HEADER)
    for signs in history(*BROKEN["complete"], *[{"effective_rank": 0.04, "rankme": 0.18}] * 6):
        scalars = {
            "probe/features/effective_rank": signs.effective_rank,
            "probe/features/rankme": signs.rankme,
        }
        warnings = (f"{ALARM}the loss <b>.", "Something else.") if signs.step == 20 else ()
        writer.append(Record(signs.step, 0, 1.0, scalars, warnings=warnings), {})
    return folder


def test_every_surface_of_a_finished_run_shows_its_alarms_first(folder: Path) -> None:
    run = read_run(folder)
    assert [(alarm.kind, alarm.step, alarm.since) for alarm in alarms(run)] == [
        ("complete", 17, 16)  # which tells of the dimensional one as well
    ]
    words = alarm_words(run)
    assert words[1:] == ["the loss <b>."]
    assert "one line or point, since step 16" in words[0]
    printed = io.StringIO()
    print_run(run, "x", printed)
    text = " ".join(printed.getvalue().split())
    assert (
        text.index("Alarm net: complete") < text.index("Alarm the loss <b>.") < text.index("Task")
    )
    assert "! Something else." in text
    assert "! Alarm" not in text
    html = page(run, finished=True)
    assert 'role="alert" aria-label="Alarms" ><li>' in html
    assert "the loss &lt;b&gt;." in html
    assert html.count("the loss &lt;b&gt;.") == 1


def test_a_run_without_alarms_hides_the_place_for_them(folder: Path) -> None:
    run = read_run(folder)
    run = dataclasses.replace(run, records=run.records[:10])
    assert alarm_words(run) == []
    assert 'aria-label="Alarms" hidden' in page(run, finished=True)


def test_the_latest_checkpoint_up_to_a_step(folder: Path) -> None:
    assert checkpoint_until(folder, 10) is None
    kept = folder.parents[1] / "checkpoints"
    kept.mkdir()
    for name in ("step-000004.ckpt", "step-000009.ckpt", "epoch=1-step=12.ckpt", "last.ckpt"):
        (kept / name).touch()
    told = [checkpoint_until(folder, step) for step in (3, 4, 11, 12, 99)]
    assert [path and path.name for path in told] == [
        None,
        "step-000004.ckpt",
        "step-000009.ckpt",
        "epoch=1-step=12.ckpt",
        "epoch=1-step=12.ckpt",
    ]
