"""A run's numbers as a table in the terminal, and a probe's in one line."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from dnc_lightning.records.store import Run
from dnc_lightning.reporting.compare.numbers import (
    Fall,
    Numbers,
    geometric_mean,
    numbers,
    orthogonality,
    overhead,
)
from dnc_lightning.reporting.page.further import reference_words
from dnc_lightning.reporting.read.facts import remarks
from dnc_lightning.reporting.read.series import Further, further
from dnc_lightning.reporting.read.views import duration, views
from dnc_lightning.reporting.words import bound_words, change, in_digits, measured_words

if TYPE_CHECKING:
    from rich.table import Table

NONE = "-"
PLAIN_WIDTH = 110  # where the output is a file


def print_run(run: Run, name: str | None = None, file: IO[str] | None = None) -> None:
    """Print what a run has come to: one line for each encoder and task, then warnings.

    Args:
        run: The run.
        name: What to call it; default its folder.
        file: Where to print; default the standard output.

    Raises:
        ModuleNotFoundError: If rich is not installed; the message names the extra.
    """
    require_rich()
    from rich.console import Console
    from rich.markup import escape

    console = Console(file=file, highlight=False)
    if not console.is_terminal and console.width < PLAIN_WIDTH:
        console = Console(file=file, highlight=False, width=PLAIN_WIDTH)
    title = f"\n[bold]{escape(name or str(run.folder))}[/]  [dim]{escape(_about(run))}[/]"
    console.print(title, soft_wrap=True)
    if run.records:
        console.print(run_table(run))
        for line in across_lines(run):
            console.print(f"  {escape(line)}")
        if found := further(run):
            console.print(further_table(found))
    cautions = [f"{r.text} ({r.when})" for r in remarks(run.records, "warnings")]
    for text in [*cautions, *run.problems]:
        console.print(f"  [yellow]![/] {escape(text)}")


def run_table(run: Run) -> Table:
    """Return the table of a run with at least one record; see `print_run`."""
    from rich import box
    from rich.table import Table

    rows = [numbers(run, view) for view in views(run)]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim", collapse_padding=True)
    table.add_column("Task", style="bold", overflow="fold", min_width=6)
    for title in titles(rows):
        table.add_column(title, justify="right")
    for row, words in zip(rows, table_rows(run, rows), strict=True):
        falls = row.directional_cdnv.factor > 1
        cells = [f"[green]{w}[/]" if i == 2 and falls else w for i, w in enumerate(words)]
        table.add_row(*cells)
    return table


def further_table(found: Sequence[Further]) -> Table:
    """Return the table of the series that the other one does not show.

    Of a number a shot the middle one stands for all, of an array its extremes at the last probe.
    """
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim", collapse_padding=True)
    table.add_column("Further", overflow="fold")
    for title in ("task", "first → last", "change", "best", "compare"):
        table.add_column(title, justify="left" if title == "task" else "right")
    several = len({entry.place.encoder for entry in found} - {None}) > 1
    for entry in found:
        series, place = entry.series, entry.place
        parts = (place.encoder if several else None, place.task)
        where = " · ".join(part for part in parts if part)
        beside = ", ".join(reference_words(entry))
        for track in entry.tracks():
            moved = change(track.first, track.last, series)
            first, last = (in_digits(v, series.digits) for v in (track.first, track.last))
            best = "" if track.best is None else in_digits(track.best[1], series.digits)
            text = f"[green]{moved.text}[/]" if moved.better else moved.text
            unit = f" ({series.unit})" if series.unit else ""
            words = [f"{track.title}{unit}", where, f"{first} → {last}", text, best, beside]
            table.add_row(*(w if w is text else escape(w) for w in words))
        if entry.recorded:
            low, high = extremes(entry)
            size = " x ".join(str(len(names)) for names in entry.names)
            values = f"{in_digits(low, series.digits)} to {in_digits(high, series.digits)}"
            table.add_row(escape(f"{series.title}, {size}"), escape(where), values)
    return table


def extremes(found: Further) -> tuple[float, float]:
    """Return the least and the greatest value of an array at its last probe, nan without any."""
    values = found.values[-1][np.isfinite(found.values[-1])]
    return (float(values.min()), float(values.max())) if values.size else (math.nan, math.nan)


def titles(rows: Sequence[Numbers]) -> list[str]:
    """Return the heads of all columns but the first."""
    shots = {row.shots[row.middle] for row in rows if row.middle >= 0}
    at = f"@{shots.pop()}" if len(shots) == 1 else " @m"
    targets = {row.target for row in rows if math.isfinite(row.target)}
    target = f"{targets.pop():.0%}" if len(targets) == 1 else "target"
    return [
        "dir. CDNV",
        "fall",
        "CDNV",
        "fall",
        "ratio",
        f"error{at}",
        f"cert{at}",
        f"shots for {target}",
    ]


def table_rows(run: Run, rows: Sequence[Numbers]) -> list[list[str]]:
    """Return the cells of each encoder and task."""
    many = len({row.view.encoder for row in rows}) > 1
    alike = len({row.shots[row.middle] for row in rows if row.middle >= 0}) < 2
    lines = []
    for row in rows:
        m = "" if row.middle < 0 or alike else f" @{row.shots[row.middle]}"
        error, certificate = NONE, NONE
        if row.middle >= 0:
            if math.isfinite(row.error[row.middle]):
                error = measured_words(row.error[row.middle], row.error_se[row.middle]) + m
            if math.isfinite(row.certificate[row.middle]):
                certificate = bound_words(row.certificate[row.middle]) + m
        lines.append(
            [
                f"{row.view.encoder} · {row.view.task}" if many else row.view.task,
                span_words(row.directional_cdnv),
                fall_words(row.directional_cdnv),
                span_words(row.cdnv),
                fall_words(row.cdnv),
                f"{number_words(row.ratio)}x" if math.isfinite(row.ratio) else NONE,
                error,
                certificate,
                f"{row.needed:,.0f}" if math.isfinite(row.needed) else NONE,
            ]
        )
    return lines


def across_lines(run: Run) -> list[str]:
    """Return how orthogonal the axes of all tasks are, a line for each encoder that has several."""
    lines = []
    for encoder in run.header.get("prefixes", {}):
        steps, means, floor = orthogonality(run, encoder)
        if len(steps):
            chance = f", {number_words(floor)} by chance" if math.isfinite(floor) else ""
            fall = span_words(Fall(float(means[0]), float(means[-1])))
            lines.append(f"mean |cos| between tasks, {encoder}: {fall}{chance}")
    return lines


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
    values = live_values(scalars, header)
    parts = [f"{name} {words}" for name, words in values.items()]
    now, then = (_directional(row, header) for row in (scalars, first))
    if len(now) == len(then) > 0 and first is not scalars:
        parts[0] += f" {fall_words(Fall(geometric_mean(then), geometric_mean(now)))}"
    tasks = len(_prefixes(header))
    if tasks > 1 and parts:
        parts.append(f"{tasks} tasks")
    return " | ".join(parts)


def live_values(scalars: Mapping[str, float], header: Mapping[str, Any]) -> dict[str, str]:
    """Return a probe in two values, {"dir": "0.134", "cert@5": "0.41"}; see `probe_line`.

    Args:
        scalars: Those of the probe.
        header: The run's; names the tasks and shots.
    """
    found, prefixes = {}, _prefixes(header)
    if directional := _directional(scalars, header):
        found["dir"] = number_words(geometric_mean(directional))
    shots = [int(m) for m in header.get("shots") or ()]
    measured = [m for m in shots if any(f"{p}/few_shot_error/{m}" in scalars for p in prefixes)]
    for m in sorted(measured or shots)[len(measured or shots) // 2 :][:1]:
        bounds = [scalars.get(f"{p}/certificate/{m}", math.nan) for p in prefixes]
        bounds = [bound for bound in bounds if math.isfinite(bound)]
        if bounds:
            found[f"cert@{m}"] = bound_words(max(bounds))
    return found


def _prefixes(header: Mapping[str, Any]) -> list[str]:
    return [p for tasks in header.get("prefixes", {}).values() for p in tasks.values()]


def _directional(scalars: Mapping[str, float], header: Mapping[str, Any]) -> list[float]:
    values = (scalars.get(f"{p}/directional_cdnv", 0.0) for p in _prefixes(header))
    return [value for value in values if value > 0]


def number_words(value: float) -> str:
    """Return a value with about three digits; a dash where it is undefined."""
    if not math.isfinite(value):
        return NONE
    size = abs(value)
    if size and (size < 1e-4 or size >= 1e6):
        return f"{value:.1e}"
    return f"{value:,.0f}" if size >= 100 else f"{value:#.3g}".rstrip(".")


def span_words(fall: Fall) -> str:
    """Return first and last value, "1.42 → 0.0610"."""
    return f"{number_words(fall.first)} → {number_words(fall.last)}"


def fall_words(fall: Fall) -> str:
    """Return how many times smaller or larger a quantity became, "↓4.2x"."""
    factor = fall.factor
    if not math.isfinite(factor):
        return NONE
    larger, arrow = (factor, "↓") if factor >= 1 else (1 / factor, "↑")
    if larger < 1.005:
        return "same"
    digits = 0 if larger >= 100 else 1 if larger >= 2 else 2
    return f"{arrow}{larger:,.{digits}f}x"


def require_rich() -> None:
    """Check that tables can be printed.

    Raises:
        ModuleNotFoundError: If rich is not installed; the message names the extra.
    """
    try:
        import rich  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'tables in the terminal need rich: pip install "dnc_lightning[report]"'
        ) from error


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
