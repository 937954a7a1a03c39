"""TerminalSummary in a fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
from lightning.pytorch.callbacks import RichProgressBar, TQDMProgressBar

from dnc_lightning import ProbeCallback, ProbeSet, TerminalSummary
from dnc_lightning.callbacks import terminal
from dnc_lightning.reporting import read_run
from dnc_lightning.reporting.terminal import number_words
from dnc_lightning.reporting.words import bound_words
from tests.callbacks.modules import BackboneModule, Clean, in_flavour, loader


def fit(
    path: Path,
    callbacks: list[pl.Callback],
    module: Any = None,
    bar: pl.Callback | None = None,
    steps: int = 5,
) -> Any:
    pl.seed_everything(1, verbose=False)
    module = module or BackboneModule()
    trainer = pl.Trainer(
        max_steps=steps,
        accelerator="cpu",
        default_root_dir=path,
        logger=False,
        callbacks=[*callbacks, *([bar] if bar else [])],
        enable_checkpointing=False,
        enable_progress_bar=bar is not None,
        enable_model_summary=False,
    )
    trainer.fit(module, loader())
    return module


def probe() -> ProbeCallback:
    return ProbeCallback(ProbeSet(Clean(), per_class=15), shots=(1, 5, 10))


@pytest.mark.parametrize("first", [True, False])
def test_it_prints_lines_above_the_bar_and_a_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], first: bool
) -> None:
    callback = probe()
    callbacks = [TerminalSummary(), callback] if first else [callback, TerminalSummary()]
    fit(tmp_path, callbacks, bar=TQDMProgressBar())
    out = capsys.readouterr().out
    assert callback.run_dir_ is not None
    run = read_run(callback.run_dir_)
    for step in (0, 1, 2, 3):
        assert f"probe  step {step}  dir " in out
    assert "cert@5" in out
    assert out.count("dir. CDNV") == 1
    assert str(callback.run_dir_) in out
    assert f"{len(run.records)} probes · step 5" in out


def test_the_lines_can_be_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(tmp_path, [probe(), TerminalSummary(lines=False)])
    out = capsys.readouterr().out
    assert "cert@5 " in out
    assert "step 1  dir" not in out


class Watch(pl.Callback):
    """What there is for the bar and for other callbacks after each step."""

    def __init__(self) -> None:
        self.bar: dict[int, dict[str, Any]] = {}
        self.metrics: dict[int, set[str]] = {}

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.bar[trainer.global_step] = dict(trainer.progress_bar_metrics)
        self.metrics[trainer.global_step] = set(trainer.callback_metrics)


def rich_bar() -> RichProgressBar:
    return RichProgressBar(console_kwargs={"force_terminal": True, "width": 200})


@pytest.mark.parametrize(
    ("bar", "form"), [(TQDMProgressBar, "dir={}, cert@5={}"), (rich_bar, "dir: {} cert@5: {}")]
)
@pytest.mark.parametrize("lines", [True, False])
def test_the_bar_carries_the_latest_values(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], bar: Any, form: str, lines: bool
) -> None:
    callback, watch = probe(), Watch()
    module = fit(tmp_path / "a", [callback, TerminalSummary(lines), watch], bar=bar(), steps=8)
    assert callback.run_dir_ is not None
    records = read_run(callback.run_dir_).records
    out = capsys.readouterr().out
    assert [record.step for record in records] == [0, 1, 2, 3, 4, 5, 6, 8]
    for step, shown in watch.bar.items():
        scalars = next(r.scalars for r in records[::-1] if r.step <= step)
        directional = number_words(scalars["probe/label/directional_cdnv"])
        certificate = bound_words(scalars["probe/label/certificate/5"])
        assert shown == {"dir": directional, "cert@5": certificate}
        assert form.format(directional, certificate) in out
    without = Watch()
    alone = fit(tmp_path / "b", [probe(), without], bar=bar(), steps=8)
    assert set(without.bar) == set(watch.bar)
    assert not any(without.bar.values())
    assert watch.metrics == without.metrics
    assert module.losses == alone.losses


def test_the_values_of_several_probes_have_their_names(tmp_path: Path) -> None:
    probes = [
        ProbeCallback(ProbeSet(Clean(), per_class=15), shots=(1, 5, 10), name=n) for n in "ab"
    ]
    watch = Watch()
    fit(tmp_path, [*probes, TerminalSummary(lines=False), watch], bar=TQDMProgressBar())
    assert set(watch.bar[5]) == {"a/dir", "a/cert@5", "b/dir", "b/cert@5"}


def test_without_a_bar_there_is_nothing_for_it(tmp_path: Path) -> None:
    watch = Watch()
    fit(tmp_path, [probe(), TerminalSummary(), watch])
    assert not any(watch.bar.values())


def test_the_bar_of_the_other_flavour_carries_them_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import pytorch_lightning as other

    trainer = other.Trainer(
        max_steps=5,
        accelerator="cpu",
        default_root_dir=tmp_path,
        logger=False,
        callbacks=[probe(), TerminalSummary(), other.callbacks.TQDMProgressBar()],
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    trainer.fit(in_flavour(BackboneModule, other.LightningModule)(), loader())
    assert set(trainer.progress_bar_metrics) == {"dir", "cert@5"}
    assert "dir=" in capsys.readouterr().out


def test_it_changes_nothing(tmp_path: Path) -> None:
    with_it = fit(tmp_path / "a", [probe(), TerminalSummary()])
    without = fit(tmp_path / "b", [probe()])
    assert with_it.losses == without.losses


def test_a_stopped_run_gets_its_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Stops(BackboneModule):
        def training_step(self, batch: Any, index: int) -> Any:
            if len(self.losses) == 2:
                raise RuntimeError("out of memory")
            return super().training_step(batch, index)

    with pytest.raises(RuntimeError, match="out of memory"):
        fit(tmp_path, [probe(), TerminalSummary()], Stops())
    assert "dir. CDNV" in capsys.readouterr().out


def test_what_cannot_be_printed_is_warned_about_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise UnicodeEncodeError("ascii", "↓", 0, 1, "ordinal not in range")

    monkeypatch.setattr(terminal, "print_run", broken)
    monkeypatch.setattr(terminal, "probe_line", broken)
    with pytest.warns(UserWarning, match="TerminalSummary could not print") as told:
        module = fit(tmp_path, [probe(), TerminalSummary()])
    assert len([w for w in told if "TerminalSummary" in str(w.message)]) == 1
    assert len(module.losses) == 5


def test_it_needs_a_probe(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the Trainer has none: add ProbeCallback"):
        fit(tmp_path, [TerminalSummary()])
