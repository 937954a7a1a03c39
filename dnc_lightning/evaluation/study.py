"""Which number of one set of images says which encoder errs least on another set."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from dnc_lightning.evaluation.agreement import Agreement, agreement
from dnc_lightning.records.declarations import declarations
from dnc_lightning.records.store import Run, read_run
from dnc_lightning.reporting.optional import require
from dnc_lightning.reporting.read.places import expanded, places
from dnc_lightning.reporting.terminal import Row, console_of, table_of
from dnc_lightning.reporting.words import HYPHEN, number_words

METRICS, OUTCOMES = "train", "test"
"""Names of the probes: one gives the numbers, the other the errors that they are to predict."""

GIVEN = "CDNV"
"""What partial correlations are given."""

KNOWN = 0.9
"""Share of the encoders that a number must know, lest it choose what it is compared on."""

NCTI_PARTS = ("NCTI, features", "NCTI, posterior", "NCTI, spread")

OUTCOME_KEYS: Mapping[str, str] = {
    "error with 5 labels": "few_shot_error/5",
    "error with 50 labels": "few_shot_error/50",
    "error of a linear probe": "logistic/top1",
}
"""What is predicted, and the key that holds it; of an accuracy the rest to 1 is taken."""


@dataclass(frozen=True)
class Unit:
    """One encoder and task: what one half of the images says, and the errors on the other."""

    encoder: str
    task: str
    badness: Mapping[str, float]  # title -> value, its sign turned where higher is better
    errors: Mapping[str, float]  # outcome -> error


@dataclass(frozen=True)
class Line:
    """How one number agrees with one error."""

    number: str
    outcome: str
    found: Agreement


@dataclass(frozen=True)
class Study:
    """All numbers against all errors, the best agreement first."""

    lines: tuple[Line, ...]
    encoders: tuple[str, ...]
    tasks: tuple[str, ...]
    scarce: tuple[str, ...] = ()  # numbers that too few encoders have
    problems: tuple[str, ...] = ()

    def of(self, outcome: str) -> list[Line]:
        """The lines of one error, best agreement first."""
        return [line for line in self.lines if line.outcome == outcome]

    def show(self, file: IO[str] | None = None) -> None:
        """Print a table for each error."""
        require("rich")
        console = console_of(file)
        console.print(f"\n[bold]{self.words}[/]", soft_wrap=True)
        for outcome in dict.fromkeys(line.outcome for line in self.lines):
            console.print(table_of(_rows(outcome, self.of(outcome))))
        if self.scarce:
            told = "; ".join(self.scarce)
            console.print(f"  known for less than {KNOWN:.0%} of the encoders, left out: {told}")

    @property
    def words(self) -> str:
        """What was compared, in words."""
        return f"{len(self.encoders)} encoders, {len(self.tasks)} tasks: {', '.join(self.tasks)}"

    def markdown(self, outcome: str) -> str:
        """One table, for a page of documentation."""
        head = (
            "| number | tau [95 %] | weighted | partial | regret |\n| --- | --- | --- | --- | --- |"
        )
        rows = [" | ".join(cells) for cells in map(_cells, self.of(outcome))]
        return "\n".join([head, *(f"| {row} |" for row in rows)])

    def write(self, folder: Path) -> Path:
        """Write all lines as `study.csv`."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "study.csv"
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            names = list(asdict(self.lines[0].found)) if self.lines else []
            writer.writerow(["number", "outcome", *names])
            for line in self.lines:
                values = asdict(line.found).values()
                writer.writerow([line.number, line.outcome, *values])
        return path


def study(folders: Sequence[str | Path], only: Sequence[str] | None = None) -> Study:
    """Compare every number of the probes "train" with the errors of the probes "test".

    Each folder holds the evaluations of several encoders on one data set, as `evaluate` leaves
    them in "{encoder}/dnc/train" and ".../test" where it was called with these two names and two
    sets of images, such as `ProbeSet.halves`. Correlations are over encoders, for every data set
    and task alone, and then averaged: neither tasks, shots nor steps are pooled.

    Args:
        folders: One for each data set.
        only: Names of encoders to keep.

    Raises:
        ValueError: no folder has an encoder with both probes.
    """
    units: dict[str, dict[str, Unit]] = {}  # data set and task -> encoder -> what it has
    problems: list[str] = []
    for folder in map(Path, folders):
        for unit in _units(folder, problems):
            name = unit.task if len(folders) == 1 else f"{folder.name}, {unit.task}"
            if only is None or unit.encoder in only:
                units.setdefault(name, {})[unit.encoder] = unit
    for of_task in units.values():
        _add_ncti(of_task)
    if not units:
        raise ValueError(
            f"no encoder below {', '.join(map(str, folders))} has a probe named {METRICS!r} and "
            f"one named {OUTCOMES!r}. {' '.join(problems)}"
        )
    encoders = list(dict.fromkeys(encoder for found in units.values() for encoder in found))
    numbers = list(
        dict.fromkeys(t for found in units.values() for u in found.values() for t in u.badness)
    )
    scarce: dict[str, None] = {}
    given = _table(units, encoders, GIVEN, "badness")
    lines = []
    for outcome in OUTCOME_KEYS:
        errors = _table(units, encoders, outcome, "errors")
        if not np.isfinite(errors).any():
            continue
        for number in numbers:
            badness = _table(units, encoders, number, "badness")
            if np.isfinite(badness[np.isfinite(errors)]).mean() < KNOWN:
                scarce.setdefault(number)
                continue
            found = agreement(badness, errors, None if number == GIVEN else given)
            if found.tasks:
                lines.append(Line(number, outcome, found))
    lines.sort(key=lambda line: -line.found.tau if math.isfinite(line.found.tau) else 2.0)
    order = list(OUTCOME_KEYS)
    lines.sort(key=lambda line: order.index(line.outcome))
    return Study(
        tuple(lines), tuple(encoders), tuple(units), tuple(scarce), problems=tuple(problems)
    )


def _table(
    units: Mapping[str, Mapping[str, Unit]], encoders: Sequence[str], key: str, kind: str
) -> Any:
    return np.array(
        [
            [
                getattr(found[e], kind).get(key, math.nan) if e in found else math.nan
                for e in encoders
            ]
            for found in units.values()
        ]
    )


def _units(folder: Path, problems: list[str]) -> Iterator[Unit]:
    """Read every encoder below a folder that has both probes."""
    for there in sorted(folder.glob(f"**/dnc/{METRICS}")):
        other = there.with_name(OUTCOMES)
        name = str(there.parents[1].relative_to(folder))
        try:
            numbers, errors = read_run(there), read_run(other)
        except (OSError, ValueError) as error:
            problems.append(f"{name} is left out: {error}")
            continue
        if not numbers.records or not errors.records:
            problems.append(f"{name} is left out: a probe has no record")
            continue
        yield from _of(name, numbers, errors)


def _of(name: str, numbers: Run, errors: Run) -> Iterator[Unit]:
    several = len(numbers.header.get("prefixes") or {}) > 1
    prefixes = errors.header.get("prefixes") or {}
    for place in places(numbers.header):
        if place.scope == "task" and place.task in prefixes.get(place.encoder, ()):
            there = prefixes[place.encoder][place.task]
            beside = [p for p in places(numbers.header) if p.encoder == place.encoder]
            features = [p for p in beside if p.scope == "features"]
            badness: dict[str, float] = {}
            for here in (place, *features):
                badness |= _badness(numbers, here)
            scalars = errors.records[-1].scalars
            found = {
                outcome: _error(scalars, f"{there}/{key}") for outcome, key in OUTCOME_KEYS.items()
            }
            encoder = f"{name} · {place.encoder}" if several else name
            yield Unit(encoder, str(place.task), badness, found)


def _badness(run: Run, place: Any) -> dict[str, float]:
    found: dict[str, float] = {}
    scalars = run.records[-1].scalars
    for series in declarations(run.header)[0]:
        if series.scope != place.scope or series.axes or series.direction is None:
            continue
        sign = 1.0 if series.direction == "lower" else -1.0
        for key, told in expanded(series.key, place, run.header).items():
            value = scalars.get(place.prefix + key, math.nan)
            if math.isfinite(value):
                found[series.title.replace("{m}", told)] = sign * value
    return found


def _add_ncti(units: dict[str, Unit]) -> None:
    """Sum the parts of NCTI as its authors do, after scaling each over the encoders of a task."""
    having = {e: u for e, u in units.items() if all(part in u.badness for part in NCTI_PARTS)}
    if len(having) < 2:
        return
    table = np.array([[u.badness[part] for part in NCTI_PARTS] for u in having.values()])
    span = table.max(0) - table.min(0)
    scaled = (table - table.min(0)) / np.where(span > 0, span, 1.0)
    for (encoder, unit), total in zip(having.items(), scaled.sum(1), strict=True):
        units[encoder] = replace(unit, badness={**unit.badness, "NCTI": float(total)})


def _error(scalars: Mapping[str, float], key: str) -> float:
    value = scalars.get(key, math.nan)
    return 1 - value if key.endswith("top1") else value


def _cells(line: Line) -> list[str]:
    found = line.found
    return [
        line.number,
        f"{found.tau:.2f} [{found.low:.2f}, {found.high:.2f}]",
        _short(found.weighted),
        _short(found.partial),
        number_words(found.regret) if math.isfinite(found.regret) else HYPHEN,
    ]


def _short(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else HYPHEN


def _rows(outcome: str, lines: Sequence[Line]) -> Iterator[Row]:
    heads = ("tau [95 %]", "weighted", "partial", "regret")
    for line in lines:
        name, *cells = _cells(line)
        yield [(f"Predicts {outcome}", name), *zip(heads, cells, strict=True)]
