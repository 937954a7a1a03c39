"""The declaration of a series: all that logs, records, pages and documentation say of a number."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import combinations
from typing import Any, Literal, get_args

Direction = Literal["lower", "higher"]
Scale = Literal["log", "linear"]
Scope = Literal["task", "features", "tasks", "probe"]
_ALLOWED = {
    "direction": (None, *get_args(Direction)),
    "scale": get_args(Scale),
    "scope": get_args(Scope),
}
SHOTS = "{m}"
"""Stands in a key for each number of labelled samples per class."""

PAIR = "{a}-{b}"
"""Stands in a key for every two tasks."""

FURTHER = "Further numbers"
"""The group of what names none."""

CHANCE = "{chance}"
"""Value of a reference: the error of guessing among the classes of an episode."""


@dataclass(frozen=True)
class Reference:
    """A line to compare a series with."""

    name: str  # "chance", "random directions"
    value: float | str  # a number, the key of a series of the same scope, or `CHANCE`

    def __post_init__(self) -> None:
        if not (isinstance(self.name, str) and (isinstance(self.value, str) or _real(self.value))):
            raise ValueError(f"a reference is a name and a number or key, got {self}.")

    def number(self, classes: int, ways: int | None = None) -> float | None:
        """The value for a task of C classes and episodes of `ways`; None where a key stands."""
        if self.value == CHANCE:
            return chance(ways, classes)
        return None if isinstance(self.value, str) else float(self.value)

    @property
    def key(self) -> str | None:
        """The key of a series that is drawn as the line; None for a number."""
        return self.value if isinstance(self.value, str) and self.value != CHANCE else None


def chance(ways: int | None, classes: int) -> float | None:
    """Return the error of guessing among the classes of an episode; None where they are unknown."""
    told_apart = min(int(ways), classes) if ways and classes else int(ways or classes)
    return 1 - 1 / told_apart if told_apart > 1 else None


@dataclass(frozen=True)
class Series:
    """One number over training, or one array with named axes.

    Args:
        key: Below the prefix of its scope: "cdnv", "few_shot_error/{m}" for a number a shot,
            "{a}-{b}/abs_cos" for a number a pair of tasks.
        title: For charts and tables, a few words in sentence case.
        meaning: One line, for people who see it the first time.
        group: The section that it is shown in.
        unit: Of the values; empty for none.
        low: Least possible value; None without one.
        high: Greatest possible value; None without one.
        direction: What is better; None where neither is.
        scale: Of its axis.
        references: Lines to draw beside it.
        role: Of its line in a chart, such as "standard", "directional", "measured", "bound" or
            "plain"; colours and dashes follow from it.
        digits: Significant digits that it is shown with.
        thorough: Measured at the first and last probe alone.
        axes: Names of the axes of an array, such as ("class", "class") or ("shots",); empty for a
            number.
        scope: "task": of one encoder and task; "features": of one encoder, whatever the labels;
            "tasks": of one encoder and all its tasks; "probe": of the probe itself.
        queries: Needs a sample beyond the m labelled ones: given for the m below the number of
            samples of every class.
        most_classes: Of a task that it is given for; None for any number.

    Raises:
        ValueError: a key or title that is missing, a key that begins or ends with "/", a range
            that is empty, an array with an axis that has no name, or what is of no such kind.
    """

    key: str
    title: str
    meaning: str
    group: str
    unit: str = ""
    low: float | None = None
    high: float | None = None
    direction: Direction | None = None
    scale: Scale = "linear"
    references: tuple[Reference, ...] = ()
    role: str = "plain"
    digits: int = 3
    thorough: bool = False
    axes: tuple[str, ...] = ()
    scope: Scope = "task"
    queries: bool = False
    most_classes: int | None = None

    def __post_init__(self) -> None:
        if not self.key or self.key.strip("/") != self.key:
            raise ValueError(
                f"a series' key must be given and not begin or end with '/', got {self.key!r}."
            )
        for name in ("title", "meaning", "group"):
            if not str(getattr(self, name)).strip():
                raise ValueError(f"series {self.key!r} has no {name}. Give it a few words.")
        for bound in (self.low, self.high):
            if bound is not None and not _real(bound):
                raise ValueError(
                    f"series {self.key!r}: low and high must be numbers, got {bound!r}."
                )
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise ValueError(
                f"series {self.key!r} must have low < high, got {self.low} and {self.high}."
            )
        if isinstance(self.axes, str) or not all(str(axis).strip() for axis in self.axes):
            raise ValueError(
                f"every axis of the array {self.key!r} must have a name, got axes={self.axes!r}. "
                'Write axes=("class", "class"), or () for a number.'
            )
        for name, allowed in _ALLOWED.items():
            if (value := getattr(self, name)) not in allowed:
                raise ValueError(
                    f"series {self.key!r}: {name} must be one of {allowed}, got {value!r}."
                )
        texts = (self.title, self.meaning, self.group, self.unit, self.role, *self.axes)
        if not all(isinstance(text, str) for text in texts):
            raise ValueError(f"series {self.key!r}: texts must be strings.")
        if not isinstance(self.digits, int) or not 1 <= self.digits <= 12:
            raise ValueError(f"series {self.key!r}: digits must be 1 to 12, got {self.digits!r}.")

    def keys(self, shots: Sequence[int] = (), tasks: Collection[str] = ()) -> list[str]:
        """The keys that this declaration stands for, below the prefix of its scope.

        Args:
            shots: In place of `SHOTS`.
            tasks: Every two of them in place of `PAIR`.
        """
        pairs = [f"{a}-{b}" for a, b in combinations(tasks, 2)] if PAIR in self.key else [PAIR]
        numbers = [str(m) for m in shots] if SHOTS in self.key else [SHOTS]
        return [self.key.replace(PAIR, p).replace(SHOTS, m) for p in pairs for m in numbers]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, without what is left at its default."""
        default = {f.name: f.default for f in fields(self)}
        return {name: value for name, value in asdict(self).items() if value != default[name]}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Series:
        """Read what `to_json` wrote; unknown names, of a later version, are left out.

        Raises:
            ValueError: as the class.
            TypeError: a name that is needed is missing.
        """
        known = {f.name for f in fields(cls)}
        given = {name: value for name, value in content.items() if name in known}
        references = tuple(Reference(**r) for r in given.pop("references", ()))
        axes = tuple(given.pop("axes", ()))
        return cls(**given, references=references, axes=axes)


def _real(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
