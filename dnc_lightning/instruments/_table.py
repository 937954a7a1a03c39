"""The table of metric keys in docs/keys.md, made from the declarations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from dnc_lightning.instruments._catalogue import BUILT_IN, declared
from dnc_lightning.probe.labels import ACROSS, FEATURES
from dnc_lightning.series import Series

PREFIXES = {
    "task": "{p}",
    "features": f"{{name}}/{FEATURES}",
    "tasks": f"{{name}}/{ACROSS}",
    "probe": "{name}",
}
"""Scope -> what stands before its keys."""

FOLDERS = {
    "task": "{encoder}/{task}",
    "features": f"{{encoder}}/{FEATURES}",
    "tasks": f"{{encoder}}/{ACROSS}",
}
"""Scope -> what stands before the names of its arrays in the records."""

ESCAPED = r"\|"


def table(series: Iterable[Series] | None = None) -> str:
    """Render Markdown: one line a key, then one an array; default all that is built in."""
    found = declared(list(BUILT_IN.values())) if series is None else list(series)
    numbers = [
        [_key(s, PREFIXES), s.title, _meaning(s), _range(s), s.direction or ""]
        for s in found
        if not s.axes
    ]
    arrays = [[_key(s, FOLDERS), s.title, _meaning(s), " x ".join(s.axes)] for s in found if s.axes]
    return "\n\n".join(
        _rendered(head, rows)
        for head, rows in (
            (["key", "title", "meaning", "range or unit", "better"], numbers),
            (["array of the records", "title", "meaning", "axes"], arrays),
        )
        if rows
    )


def _rendered(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        f"| {' | '.join(cell.replace('|', ESCAPED) for cell in cells)} |" for cells in lines
    )


def _key(series: Series, places: Mapping[str, str]) -> str:
    return f"`{places[series.scope]}/{series.key}`"


def _meaning(series: Series) -> str:
    when = "at the first and last probe" if series.thorough else ""
    few = "" if series.most_classes is None else f"up to {series.most_classes} classes"
    left = "m below the samples of every class" if series.queries else ""
    return "; ".join(part for part in (series.meaning, when, few, left) if part)


def _range(series: Series) -> str:
    if series.unit:
        return series.unit
    low, high = ("" if end is None else f"{end:g}" for end in (series.low, series.high))
    return f"{low} to {high}" if low and high else f"from {low}" if low else ""
