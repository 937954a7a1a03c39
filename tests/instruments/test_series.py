"""What follows from a declaration: its keys, its reference lines, the table of keys."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dnc_lightning.instruments import BUILT_IN, CHANCE, Reference, Series, declared
from dnc_lightning.instruments._table import table

ROOT = Path(__file__).parents[2]
BEGIN, END = "<!-- made by python -m dnc_lightning.instruments -->\n", "<!-- end -->"


def declare(key: str) -> Series:
    return Series(key=key, title="A title", meaning="what it is", group="Own")


def test_a_key_stands_for_every_number_of_shots_and_every_two_tasks() -> None:
    assert declare("cdnv").keys((1, 5), ("a", "b")) == ["cdnv"]
    assert declare("joint/{m}").keys((1, 5)) == ["joint/1", "joint/5"]
    assert declare("joint/{m}").keys(()) == []
    assert declare("{a}-{b}/x").keys((), ("one", "two", "six")) == [
        "one-two/x",
        "one-six/x",
        "two-six/x",
    ]


def test_the_number_of_a_reference() -> None:
    assert Reference("chance", CHANCE).number(classes=4) == 0.75
    assert Reference("chance", CHANCE).number(classes=4, ways=2) == 0.5
    assert Reference("collapsed", 0.1).number(classes=4) == 0.1
    assert Reference("random directions", "floor").number(classes=4) is None


@pytest.mark.parametrize("series", declared(list(BUILT_IN.values())), ids=lambda s: s.key)
def test_every_built_in_series_survives_json(series: Series) -> None:
    assert Series.from_json(json.loads(json.dumps(series.to_json()))) == series
    for reference in series.references:
        assert reference.number(3) is not None or reference.value in {
            s.key for s in declared(list(BUILT_IN.values())) if s.scope == series.scope
        }


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"scale": "cubic"}, "series 'k': scale must be one of .*, got 'cubic'"),
        ({"direction": "up"}, "direction must be one of"),
        ({"scope": "galaxy"}, "scope must be one of"),
        ({"digits": 0}, "digits must be 1 to 12, got 0"),
        ({"high": math.inf}, "low and high must be numbers, got inf"),
        ({"unit": 3}, "texts must be strings"),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(given: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Series("k", "A title", "what it is", "Own", **given)


@pytest.mark.parametrize("value", [math.nan, None, [1]])
def test_a_reference_is_a_number_or_a_key(value: Any) -> None:
    with pytest.raises(ValueError, match="a reference is a name and a number or key, got Ref"):
        Reference("chance", value)


def test_the_table_of_keys_in_the_docs_is_made_from_the_declarations() -> None:
    text = (ROOT / "docs" / "keys.md").read_text()
    made = text.partition(BEGIN)[2].partition(END)[0]
    assert made.strip() == table(), "run python -m dnc_lightning.instruments and paste its output"
    printed = subprocess.run(
        [sys.executable, "-m", "dnc_lightning.instruments"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert printed.strip() == table()
    assert r"| `{name}/orthogonality/{a}-{b}/abs_cos` | Mean \|cos\|" in table()
    assert "| `{p}/resolved_pairs` |" in table()
