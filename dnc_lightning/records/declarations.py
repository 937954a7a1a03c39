"""What the header of a run declares of its series, and which of them special charts draw."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from dnc_lightning.records.schema import short
from dnc_lightning.series import FURTHER, PAIR, SHOTS, Scope, Series

MOST_SERIES = 2_000
UNDECLARED = "Recorded without a declaration: its title is made from its key."

# What the sections on collapse, few-shot learning, variance, pairs, tasks and cost show.
DRAWN: Mapping[Scope, tuple[str, ...]] = {
    "task": (
        *(f"{m}{s}" for m in ("cdnv", "directional_cdnv") for s in ("", "_median", "_unbiased")),
        *(f"{m}_{end}" for m in ("cdnv", "directional_cdnv") for end in ("low", "high")),
        "resolved_pairs",
        "class_variance",
        *(f"few_shot_error{s}/{SHOTS}" for s in ("", "_se")),
        *(f"certificate{s}/{SHOTS}" for s in ("", "_low", "_high")),
        *(f"{name}/{SHOTS}" for name in ("joint", "conditional", "guarantee")),
        *(f"{name}/{SHOTS}" for name in ("theorem_4_1", "luthra_2025")),
        "shots_needed",
        *(f"labels_needed/measured{end}" for end in ("", "_low", "_high")),
        *(f"labels_needed/{name}" for name in ("guaranteed", "certified", "more_samples")),
        *(f"axis_share/{pair}" for pair in ("best", "median", "worst")),
        "variance",
        "variance_pairs",
    ),
    "features": (),
    "tasks": (
        *(f"{PAIR}/{part}" for part in ("abs_cos", "abs_cos_max", "bound", "dependence")),
        PAIR,
        "floor",
    ),
    "probe": ("seconds", "overhead"),
}
_DRAWN = {
    scope: re.compile(
        "|".join(
            re.escape(key).replace(r"\{m\}", r"(\d+|\{m\})").replace(r"\{a\}\-\{b\}", "[^/]+")
            for key in keys
        )
    )
    for scope, keys in DRAWN.items()
}


def is_drawn(scope: Scope, key: str) -> bool:
    """Return whether a special chart shows a series; `key` as declared or as recorded."""
    return _DRAWN[scope].fullmatch(key) is not None


def declarations(header: Mapping[str, Any]) -> tuple[list[Series], list[str]]:
    """Read the series that a header declares.

    Args:
        header: Of a run; those of older runs declare none.

    Returns:
        The series in the order of the header, and what is damaged, in words: a declaration that
        makes no sense is left out, as is a second one of a key.
    """
    given = header.get("series") or []
    if not isinstance(given, list) or len(given) > MOST_SERIES:
        got = short(given) if not isinstance(given, list) else f"{len(given):,} of them"
        return [], [f'"series" in run.json is damaged: expected a list, got {got}']
    read: dict[tuple[str, str, bool], Series] = {}
    problems = []
    for place, content in enumerate(given):
        name = content.get("key") if isinstance(content, dict) else None
        try:
            series = Series.from_json(content)
            if read.setdefault(_identity(series), series) is not series:
                other = read[_identity(series)]
                raise ValueError(f"{other.title!r} and {series.title!r} have one key")
        except (TypeError, ValueError, AttributeError, ArithmeticError) as error:
            which = repr(name) if isinstance(name, str) else f"number {place + 1}"
            problems.append(
                f"the declaration of series {which} in run.json is damaged ({error}): left out"
            )
    return list(read.values()), problems


def further_declarations(header: Mapping[str, Any]) -> list[Series]:
    """Return the declared series that no special chart shows, without the floors of others."""
    found = declarations(header)[0]
    floors = {(one.scope, reference.key) for one in found for reference in one.references}
    return [
        one
        for one in found
        if not is_drawn(one.scope, one.key)
        and (one.axes or one.direction or (one.scope, one.key) not in floors)
    ]


def made_from(key: str, scope: Scope) -> Series:
    """Return a declaration for a number that came without one."""
    words = key.replace("_", " ").replace("/", ", ").replace(SHOTS, "").rstrip(", ")
    return Series(
        key=key, title=words[:1].upper() + words[1:], meaning=UNDECLARED, group=FURTHER, scope=scope
    )


def _identity(series: Series) -> tuple[str, str, bool]:
    # An array may have the key of the number that sums it up.
    return series.scope, series.key, bool(series.axes)
