"""`show`: a table in the terminal; in a notebook table and figures."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import dnc_lightning
from dnc_lightning.reporting.notebook import in_notebook


def test_a_terminal_gets_the_table_alone(
    make_run: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_run(records=4)
    dnc_lightning.show(folder)
    by_folder = capsys.readouterr().out
    dnc_lightning.show(dnc_lightning.read_run(folder))
    assert capsys.readouterr().out == by_folder
    assert "SimCLR" in by_folder
    assert "label" in by_folder


def test_a_notebook_gets_pictures_too(
    make_run: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[bytes] = []
    monkeypatch.setattr("dnc_lightning.reporting.notebook.in_notebook", lambda: True)
    monkeypatch.setattr("IPython.display.display", lambda image: shown.append(image.data))
    a, b = (shutil.copytree(make_run(records=4), tmp_path / "two" / n) for n in ("a", "b"))
    dnc_lightning.show(a)
    alone = len(shown)
    assert alone >= 2
    dnc_lightning.show(a, b)
    assert len(shown) > alone
    assert all(content.startswith(b"\x89PNG") for content in shown)


def test_this_is_no_notebook() -> None:
    assert not in_notebook()


@pytest.mark.parametrize("runs", [[], ["empty"]])
def test_no_run_is_told(runs: list[Any], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="expected"):
        dnc_lightning.show(*(tmp_path / name for name in runs))
