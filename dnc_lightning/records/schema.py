"""What a run folder may hold: one declaration of every field that is read, and its checks.

Run folders are passed around, so nothing in them is trusted. A check takes a JSON value and returns
what the package goes on with, or raises a ValueError that says where what was expected. Texts lose
control characters, which a terminal would obey.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any

Check = Callable[[object], Any]

LARGEST = 2**53
"""Of a count: what a float64 holds exactly."""

FAR = 1e100
"""Of a number: its square and its inverse are numbers too. Nothing that is measured comes near."""

# Control characters, direction marks, half surrogates; not a tab and a new line.
_UNSEEN = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def plain(words: str) -> str:
    """Return a text without control characters, direction marks and half surrogates."""
    return words if words.isprintable() else _UNSEEN.sub("\ufffd", words)


def parse(content: bytes) -> object:
    """Read JSON as strictly as it was written: without NaN and Infinity.

    Raises:
        ValueError: not JSON, or nested too deeply.
    """
    try:
        return json.loads(content, parse_constant=_refuse)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def text(value: object) -> str:
    """A text."""
    if not isinstance(value, str):
        raise _unexpected("a text", value)
    return plain(value)


def label(value: object) -> str:
    """The name of a class: a text, or a number as one."""
    return plain(str(value)) if isinstance(value, int | float) else text(value)


def flag(value: object) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise _unexpected("true or false", value)
    return value


def number(value: object) -> float:
    """A number of at most `FAR` in size, null is nan; 0 where it is closer to 0 than 1 / `FAR`."""
    if value is None:
        return math.nan
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= FAR:
        return float(value) if abs(value) >= 1 / FAR else 0.0
    raise _unexpected("a number or null", value)


def whole(low: int, high: int = LARGEST) -> Check:
    """A whole number in a range."""

    def check(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise _unexpected(f"a whole number from {low} to {high}", value)
        return value

    return check


def maybe(check: Check) -> Check:
    """The same, or null."""
    return lambda value: None if value is None else check(value)


def listed(check: Check, most: int) -> Check:
    """A list of at most so many."""

    def check_all(value: object) -> list[Any]:
        if not isinstance(value, list) or len(value) > most:
            raise _unexpected(f"a list of at most {most:,}", value)
        return [_at(f"[{place}]", check, item) for place, item in enumerate(value)]

    return check_all


def named(check: Check, most: int) -> Check:
    """An object of at most so many names."""

    def check_all(value: object) -> dict[str, Any]:
        if not isinstance(value, dict) or len(value) > most:
            raise _unexpected(f"an object of at most {most:,} names", value)
        # Names that come again in every record are kept once.
        names = {name: sys.intern(plain(name)) for name in value}
        return {names[name]: _at(f".{names[name]}", check, item) for name, item in value.items()}

    return check_all


def fields(known: Mapping[str, Check], needed: bool = False) -> Check:
    """An object in which the known names, if there, are what they should be; all of them if needed.

    What a later version may have added is kept, its texts without control characters.
    """

    def check_all(value: object) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _unexpected("an object", value)
        if needed and (missing := [name for name in known if name not in value]):
            raise ValueError(f"{missing[0]} is missing")
        return {
            plain(name): _at(f".{plain(name)}", known.get(name, anything), item)
            for name, item in value.items()
        }

    return check_all


def anything(value: object) -> object:
    """Any value, its texts without control characters."""
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, list):
        return [anything(item) for item in value]
    if isinstance(value, dict):
        return {plain(name): anything(item) for name, item in value.items()}
    return value


def checked(check: Check, value: object) -> Any:
    """Return what a check makes of a value.

    Raises:
        ValueError: where what was expected.
    """
    try:
        return check(value)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    except ValueError as error:
        raise ValueError(str(error).removeprefix(".")) from error


def _at(place: str, check: Check, value: object) -> Any:
    try:
        return check(value)
    except ValueError as error:
        inner = str(error)
        between = "" if inner[:1] in (".", "[", ":") else ": "
        raise ValueError(f"{place}{between}{inner}") from error


def _unexpected(what: str, value: object) -> ValueError:
    size = f" of {len(value):,}" if isinstance(value, list | dict) else ""
    got = f"{type(value).__name__}{size}" if size else plain(short(value))
    return ValueError(f": expected {what}, got {got}")


def short(value: object) -> str:
    """Return a value of JSON in at most some forty characters."""
    if isinstance(value, int) and not -LARGEST <= value <= LARGEST:
        return "a huge number"
    words = repr(value[:40]) if isinstance(value, str) else repr(value)
    return words if len(words) <= 44 else f"{words[:40]}..."


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")


_count = whole(0)
_classes = 200_000
_tasks = 256
_encoders = 256

RECORD = fields(
    {
        "version": whole(1),
        "step": _count,
        "epoch": _count,
        "time": number,
        "scalars": named(number, 100_000),
        "uncalibrated": named(number, 100_000),
        "notes": listed(text, 1_000),
        "warnings": listed(text, 1_000),
        "matrices": maybe(text),
    },
    needed=True,
)
"""A line of records.jsonl."""

HEADER = fields(
    {
        "name": text,
        "model": maybe(text),
        "encoders": listed(text, _encoders),
        "profiles": named(listed(text, _encoders), _encoders),
        "dimensions": named(_count, _encoders),
        "tasks": named(maybe(listed(label, _classes)), _tasks),
        "prefixes": named(named(text, _tasks), _encoders),
        "probe": fields(
            {
                "size": _count,
                "per_class": named(listed(_count, _classes), _tasks),
                "image_shape": listed(_count, 8),
                "dtype": text,
            }
        ),
        "pooling": maybe(text),
        "normalize": maybe(flag),
        "precision": maybe(text),
        "shots": maybe(listed(whole(1), 256)),
        "ways": maybe(whole(2)),
        "target_error": maybe(number),
        "steps": text,
        "device": maybe(text),
        "world_size": whole(1),
        "versions": named(text, 64),
        "started": maybe(text),
    }
)
"""run.json; "version" and "series" have checks of their own."""
