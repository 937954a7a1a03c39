"""Packages that only some reports need."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from dnc_lightning.reporting import optional
from dnc_lightning.reporting.optional import OPTIONAL, installed, require

PROJECT = (Path(__file__).parents[2] / "pyproject.toml").read_text()


@pytest.mark.parametrize("module", OPTIONAL)
def test_the_extra_of_a_module_brings_what_is_asked_for(module: str) -> None:
    requirement, _, extra = OPTIONAL[module]
    brought = re.search(rf"^{extra} = \[(.*?)\]", PROJECT, re.MULTILINE | re.DOTALL)
    assert brought
    assert f'"{requirement}"' in brought[1]
    assert installed(module)
    require(module)


def test_what_is_missing_or_too_old_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "rich", None)
        assert not installed("rich")
        with pytest.raises(
            ModuleNotFoundError,
            match=r'^tables in the terminal need rich>=13\.7: .* "dnc_lightning\[report\]"$',
        ):
            require("rich")
    assert installed("rich")
    monkeypatch.setitem(optional.OPTIONAL, "rich", ("rich>=999", "tables need", "report"))
    with pytest.raises(ModuleNotFoundError, match=r"tables need rich>=999: pip install"):
        require("rich")
