"""What README and the docs promise, and the tests that they name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(("name", "least"), [("docs/promises.md", 16), ("docs/strategies.md", 15)])
def test_the_tests_that_it_names_exist(name: str, least: int) -> None:
    text = (ROOT / name).read_text()
    code = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    named = set(re.findall(r"`(test_\w+)`", text))
    assert len(named) >= least
    missing = {name for name in named if f"def {name}(" not in code}
    assert not missing
    for path in re.findall(r"`(tests/[\w/.]+)`", text):
        assert (ROOT / path).exists(), path


def test_every_strategy_has_a_test_of_its_own() -> None:
    text = (ROOT / "docs" / "strategies.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ")][2:]
    assert len(rows) >= 10
    for row in rows:
        assert re.search(r"\| `test_\w+` \|$", row), row
        assert re.match(r"\| [^|]+ \| (works|refused|not refused)", row), row
