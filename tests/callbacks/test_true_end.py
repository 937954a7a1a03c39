"""A run ends with one thorough record of its last step, however it comes to its end."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
from lightning.pytorch.callbacks import EarlyStopping, GradientAccumulationScheduler
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader, IterableDataset

from dnc_lightning import HtmlReport, TerminalSummary
from dnc_lightning.callbacks import publish
from tests.callbacks.fits import STEPS, Manual, fit, probe, records, steps, thorough
from tests.callbacks.modules import Floats


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        images = Floats(48)
        return (images[i] for i in range(48))


class Stop(pl.Callback):
    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        trainer.should_stop = trainer.global_step >= 6


class Elapsed(pl.Callback):
    """Stops as `max_time` does, at a known step."""

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == 6:
            (timer,) = (c for c in trainer.callbacks if isinstance(c, pl.callbacks.Timer))
            timer._duration = 0.0


ENDS: dict[str, tuple[dict[str, Any], int]] = {
    "max_epochs": ({"max_epochs": 2}, 8),
    "max_steps": ({"max_steps": 6}, 6),
    "max_time": ({"max_time": timedelta(hours=1), "callback": Elapsed}, 6),
    "should_stop": ({"max_epochs": 9, "callback": Stop}, 6),
    "early stopping": (
        {
            "max_epochs": 9,
            "callback": lambda: EarlyStopping(
                "probe/label/cdnv", mode="max", patience=1, check_on_train_epoch_end=True
            ),
        },
        8,
    ),
    "a stream": ({"max_epochs": 2, "loader": DataLoader(Stream(), 48 // STEPS)}, 8),
    "growing accumulation": (
        {
            "max_epochs": 4,
            "callback": lambda: GradientAccumulationScheduler(scheduling={0: 1, 1: 2}),
        },
        10,
    ),
    "two optimizers": ({"max_epochs": 2, "module": lambda: Manual("two")}, 8),
    "a raw optimizer": ({"max_epochs": 2, "module": lambda: Manual("raw")}, 8),
}


@pytest.mark.filterwarnings("ignore:probe. Steps are batches")
@pytest.mark.parametrize("schedule", [{}, {"every_n_epochs": 1}, {"every_n_train_steps": 2}])
@pytest.mark.parametrize("end", ENDS)
def test_the_true_end_has_the_one_thorough_record(
    end: str, schedule: dict[str, Any], tmp_path: Path
) -> None:
    options, last = ENDS[end]
    options = dict(options)
    others = [options.pop("callback")()] if "callback" in options else []
    if "module" in options:
        options["module"] = options["module"]()
    callback = probe(**schedule)
    trainer = fit(tmp_path, callback, *others, **options)
    assert thorough(callback) == [0, last]
    found = steps(callback)
    assert found == sorted(set(found))
    assert found[-1] == last
    folder = callback.run_dir_
    assert folder is not None
    assert len(list((folder / "matrices").iterdir())) == len(found)
    values = records(callback)[-1].scalars
    for key, value in values.items():
        assert float(trainer.callback_metrics[key]) == pytest.approx(value, nan_ok=True), key


def test_between_the_ends_what_they_alone_measure_is_nan_not_stale(tmp_path: Path) -> None:
    class Look(pl.Callback):
        seen: dict[int, float] = {}  # noqa: RUF012

        def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
            value = trainer.callback_metrics["probe/label/cdnv_low"]
            self.seen[trainer.global_step] = float(value)

    callback, look = probe(), Look()
    fit(tmp_path, callback, look, max_steps=3)
    assert [value != value for value in look.seen.values()] == [True, True, True]
    last = records(callback)[-1].scalars["probe/label/cdnv_low"]
    assert last == last


def test_a_replaced_record_counts_once_and_loggers_hear_of_what_is_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[tuple[int, set[str]]] = []
    monkeypatch.setattr(
        publish, "log_scalars", lambda _, values, step: logged.append((step, set(values))) or []
    )
    callback = probe(every_n_train_steps=2)
    fit(tmp_path, callback, HtmlReport(), TerminalSummary(), max_steps=4)
    assert steps(callback) == [0, 2, 4]
    assert callback.records_written_ == 3
    assert [step for step, _ in logged] == [0, 2, 4, 4]
    again = logged[-1][1] - {"probe/seconds", "probe/overhead"}
    assert again == {
        f"probe/label/{metric}_{end}"
        for metric in ("cdnv", "directional_cdnv")
        for end in ("low", "high")
    }
    assert (tmp_path / "dnc" / "probe" / "report.html").exists()


def test_the_pictures_are_drawn_at_the_true_end_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[int, bool]] = []

    def log_charts(_: Any, __: Any, record: Any, ___: Any, *, pictures: bool) -> list[str]:
        drawn.append((record.step, pictures))
        return []

    monkeypatch.setattr(publish, "log_charts", log_charts)
    options = ENDS["growing accumulation"][0]
    fit(
        tmp_path,
        probe(every_n_train_steps=1),
        options["callback"](),
        max_epochs=4,
        logger=CSVLogger(tmp_path),
    )
    assert drawn == [(0, False), (10, True)]


def test_an_exception_ends_with_what_was_probed(tmp_path: Path) -> None:
    class Fails(pl.Callback):
        def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
            if trainer.global_step == 3:
                raise RuntimeError("power cut")

    callback = probe()
    with pytest.raises(RuntimeError, match="power cut"):
        fit(tmp_path, callback, Fails(), max_steps=6)
    assert steps(callback) == [0, 1, 2, 3]
    assert thorough(callback) == [0]


def test_a_run_without_steps_has_no_record(tmp_path: Path) -> None:
    callback = probe()
    fit(tmp_path, callback, max_steps=0)
    assert callback.run_dir_ is None
