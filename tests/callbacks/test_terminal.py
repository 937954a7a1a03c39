"""TerminalSummary in a fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
from lightning.pytorch.callbacks import TQDMProgressBar

from dnc_lightning import ProbeCallback, ProbeSet, TerminalSummary
from dnc_lightning.callbacks import terminal
from dnc_lightning.reporting import read_run
from tests.callbacks.modules import BackboneModule, Clean, loader


def fit(path: Path, callbacks: list[pl.Callback], module: Any = None, bar: bool = False) -> Any:
    pl.seed_everything(1, verbose=False)
    module = module or BackboneModule()
    trainer = pl.Trainer(
        max_steps=5,
        accelerator="cpu",
        default_root_dir=path,
        logger=False,
        callbacks=[*callbacks, *([TQDMProgressBar()] if bar else [])],
        enable_checkpointing=False,
        enable_progress_bar=bar,
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
    fit(tmp_path, callbacks, bar=True)
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
