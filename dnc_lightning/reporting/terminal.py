"""A run's numbers as a table in the terminal, and a probe's in one line."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from dnc_lightning.records.schema import plain
from dnc_lightning.records.store import Record, Run
from dnc_lightning.reporting.compare.numbers import (
    Fall,
    Numbers,
    geometric_mean,
    numbers,
    orthogonality,
    overhead,
)
from dnc_lightning.reporting.optional import require
from dnc_lightning.reporting.page.further import reference_words
from dnc_lightning.reporting.page.tiles import labels_words
from dnc_lightning.reporting.read.alarm import ALARM, alarm_words
from dnc_lightning.reporting.read.facts import remarks
from dnc_lightning.reporting.read.findings import findings
from dnc_lightning.reporting.read.layers import layers_within
from dnc_lightning.reporting.read.series import Further, further
from dnc_lightning.reporting.read.views import duration, views
from dnc_lightning.reporting.words import (
    HYPHEN,
    Change,
    bound_words,
    change,
    factor_words,
    measured_words,
    number_words,
)

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

PLAIN_WIDTH = 110  # where the output is a file
FURTHER = ("Further", "task", "first → last", "change", "best", "compare")  # heads
ONCE = ("Further", "task", "value", "compare")

Row = list[tuple[str, str | Change]]  # head and words of each column


def print_run(run: Run, name: str | None = None, file: IO[str] | None = None) -> None:
    """Print what a run has come to: one line for each encoder and task, then warnings.

    Args:
        run: The run.
        name: What to call it; default its folder.
        file: Where to print; default the standard output.

    Raises:
        ModuleNotFoundError: If rich is not installed; the message names the extra.
    """
    require("rich")
    from rich.markup import escape

    console = console_of(file)
    console.print(title_of(run, name), soft_wrap=True)
    for words in alarm_words(run):
        console.print(f"  [bold red]Alarm[/] {escape(words)}")
    if run.records:
        rows = [numbers(run, view) for view in views(run)]
        once = len(run.records) == 1
        console.print(table_of(_rows(rows, once)))
        for line in (*_labels_needed(rows), *_across(run)):
            console.print(f"  {escape(line)}")
        within = layers_within(run)
        if others := [one for one in further(run) if one.place.encoder not in within]:
            console.print(table_of(_further_rows(others, once)))
        if within:
            console.print(f"  {len(within)} layers are measured too: the page draws them.")
    found = remarks(run.records, "warnings")
    cautions = [f"{r.text} ({r.when})" for r in found if not r.text.startswith(ALARM)]
    for text in [*findings(run), *cautions, *run.problems]:
        console.print(f"  [yellow]![/] {escape(text)}")


def console_of(file: IO[str] | None) -> Console:
    """Where to print: as wide as a terminal is, or wide enough where there is none."""
    from rich.console import Console

    console = Console(file=file, highlight=False)
    if not console.is_terminal and console.width < PLAIN_WIDTH:
        console = Console(file=file, highlight=False, width=PLAIN_WIDTH)
    return console


def title_of(run: Run, name: str | None) -> str:
    """A run's name, and what it is, in rich's markup."""
    from rich.markup import escape

    return f"\n[bold]{escape(plain(name or str(run.folder)))}[/]  [dim]{escape(_about(run))}[/]"


def table_of(rows: Iterator[Row]) -> Table:
    """Lay out rows, names to the left and numbers to the right; what became better is green."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim", collapse_padding=True)
    for row in rows:
        heads, cells = zip(*row, strict=True)
        if not table.columns:
            table.add_column(heads[0], style="bold", overflow="fold", min_width=6)
            for head in heads[1:]:
                table.add_column(head, justify="left" if head == "task" else "right")
        moves = (Change(cell, None) if isinstance(cell, str) else cell for cell in cells)
        table.add_row(*(Text(move.text, style="green" if move.better else "") for move in moves))
    return table


def _rows(rows: Sequence[Numbers], once: bool) -> Iterator[Row]:
    """Yield a line for each encoder and task; of one probe without what became of it."""
    several = len({row.view.encoder for row in rows}) > 1
    shots = _middle_shots(rows)
    alike = len(shots) == 1
    at = f"@{next(iter(shots))}" if alike else " @m"
    targets = {row.target for row in rows if math.isfinite(row.target)}
    target = f"{targets.pop():.0%}" if len(targets) == 1 else "target"
    for row in rows:
        error, certificate, m = HYPHEN, HYPHEN, row.middle
        if m >= 0:
            end = "" if alike else f" @{row.shots[m]}"
            error = _words(row.error[m], measured_words(row.error[m], row.error_se[m]) + end)
            certificate = _words(row.certificate[m], bound_words(row.certificate[m]) + end)
        ratio = [] if once else [("ratio", _words(row.ratio, f"{number_words(row.ratio)}x"))]
        yield [
            ("Task", f"{row.view.encoder} · {row.view.task}" if several else row.view.task),
            *_moved("dir. CDNV", row.directional_cdnv, once),
            *_moved("CDNV", row.cdnv, once),
            *ratio,
            (f"error{at}", error),
            (f"cert{at}", certificate),
            (f"shots for {target}", _words(row.needed, f"{row.needed:,.0f}")),
        ]


def _middle_shots(rows: Sequence[Numbers]) -> set[int]:
    return {row.shots[row.middle] for row in rows if row.middle >= 0}


def _words(value: float, words: str) -> str:
    return words if math.isfinite(value) else HYPHEN


def _span(first: float, last: float, digits: int = 3, between: str = " → ") -> str:
    return f"{number_words(first, digits)}{between}{number_words(last, digits)}"


def _moved(name: str, fall: Fall, once: bool) -> Row:
    if once:
        return [(name, number_words(fall.last))]
    words = Change(fall_words(fall), fall.factor > 1)
    return [(name, _span(fall.first, fall.last)), ("fall", words)]


def _further_rows(found: Sequence[Further], once: bool) -> Iterator[Row]:
    """Yield the cells of the series that the other table does not show.

    Of a number a shot the middle one stands for all, of an array its extremes at the last probe.
    """
    several = len({entry.place.encoder for entry in found} - {None}) > 1
    for entry in found:
        series, place = entry.series, entry.place
        where = " · ".join(filter(None, (place.encoder if several else None, place.task)))
        for track in entry.tracks():
            title = f"{track.title} ({series.unit})" if series.unit else track.title
            compare = ", ".join(reference_words(entry))
            if once:
                yield _row(ONCE, title, where, number_words(track.last, series.digits), compare)
                continue
            yield _row(
                FURTHER,
                title,
                where,
                _span(track.first, track.last, series.digits),
                change(track.first, track.last, series),
                "" if track.best is None else number_words(track.best[1], series.digits),
                compare,
            )
        if entry.recorded:
            size = " x ".join(str(len(names)) for names in entry.names)
            last = entry.values[-1][np.isfinite(entry.values[-1])]
            ends = _span(last.min(), last.max(), series.digits, " to ") if last.size else HYPHEN
            yield _row(ONCE if once else FURTHER, f"{series.title}, {size}", where, ends)


def _row(heads: Sequence[str], *cells: str | Change) -> Row:
    return list(zip_longest(heads, cells, fillvalue=""))


def _labels_needed(rows: Sequence[Numbers]) -> Iterator[str]:
    """Yield the labels that the target error takes, a line for each encoder and task."""
    several = len({row.view.encoder for row in rows}) > 1
    for row in rows:
        if row.labels_needed is not None:
            where = f"{row.view.encoder} · {row.view.task}" if several else row.view.task
            measured, *others = labels_words(row.labels_needed)
            yield f"labels per class for {row.target:.0%} error, {where}: {measured} " + "; ".join(
                others
            )


def _across(run: Run) -> Iterator[str]:
    """Yield how orthogonal the axes of all tasks are, a line for each encoder that has several."""
    for encoder in run.header.get("prefixes", {}):
        steps, means, floor = orthogonality(run, encoder)
        if len(steps):
            chance = f", {number_words(floor)} by chance" if math.isfinite(floor) else ""
            now = number_words(means[0]) if len(steps) == 1 else _span(means[0], means[-1])
            yield f"mean |cos| between tasks, {encoder}: {now}{chance}"


def probe_line(
    scalars: Mapping[str, float], first: Mapping[str, float], header: Mapping[str, Any]
) -> str:
    """Return a probe in one line: "dir 0.134 ↓4.2x | cert@5 0.41".

    Over several tasks or encoders these are the geometric mean of directional CDNV and the worst
    certificate, and the line says how many there are.

    Args:
        scalars: Those of this probe.
        first: Those of the first one.
        header: The run's; names the tasks and shots.
    """
    parts = [f"{name} {words}" for name, words in live_values(scalars, header).items()]
    now, then = (_directional(_numbers(row, header)) for row in (scalars, first))
    if len(now) == len(then) > 0 and first is not scalars:
        parts[0] += f" {factor_words(geometric_mean(then) / geometric_mean(now))}"
    found = header.get("prefixes", {})
    for number, name in (
        (len(found), "encoders"),
        (max(map(len, found.values()), default=0), "tasks"),
    ):
        parts += [f"{number} {name}"] if parts and number > 1 else []
    return " | ".join(parts)


def live_values(scalars: Mapping[str, float], header: Mapping[str, Any]) -> dict[str, str]:
    """Return a probe in two values, {"dir": "0.134", "cert@5": "0.41"}; see `probe_line`.

    Args:
        scalars: Those of the probe.
        header: The run's; names the tasks and shots.
    """
    rows, found = _numbers(scalars, header), {}
    if directional := _directional(rows):
        found["dir"] = number_words(geometric_mean(directional))
    for m in sorted(_middle_shots(rows))[-1:]:
        bounds = [row.certificate[row.shots.index(m)] for row in rows if m in row.shots]
        if defined := [bound for bound in bounds if math.isfinite(bound)]:
            found[f"cert@{m}"] = bound_words(max(defined))
    return found


def _numbers(scalars: Mapping[str, float], header: Mapping[str, Any]) -> list[Numbers]:
    run = Run(Path(), header, (Record(0, 0, math.nan, scalars),), ())
    return [numbers(run, view) for view in views(run)]


def _directional(rows: Sequence[Numbers]) -> list[float]:
    return [row.directional_cdnv.last for row in rows if row.directional_cdnv.last > 0]


def fall_words(fall: Fall) -> str:
    """Return how many times smaller or larger a quantity became, "↓4.2x"."""
    return factor_words(fall.factor)


def _about(run: Run) -> str:
    header = run.header
    parts = [str(header.get("model") or ""), ", ".join(header.get("encoders") or ())]
    if not run.records:
        return " · ".join(filter(None, [*parts, "no probe recorded yet"]))
    last = run.records[-1]
    count = len(run.records)
    parts += [f"{count:,} {'probe' if count == 1 else 'probes'}", f"step {last.step:,}"]
    if math.isfinite(last.time):
        parts.append(duration(last.time))
    if math.isfinite(share := overhead(run)):
        parts.append(f"overhead {share:.2%}")
    return " · ".join(filter(None, parts))
