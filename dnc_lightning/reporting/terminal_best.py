"""Which probe each number calls the best, in the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

from dnc_lightning.records.schema import plain
from dnc_lightning.records.store import Run
from dnc_lightning.reporting.optional import require
from dnc_lightning.reporting.read.best import BEST_LEGEND, Choices, checkpoint_of, choices
from dnc_lightning.reporting.terminal import Row, console_of, table_of, title_of
from dnc_lightning.reporting.words import Change


def print_best(run: Run, name: str | None = None, file: IO[str] | None = None) -> None:
    """Print which probe each number calls the best, its measured error, and its checkpoint.

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
    found = choices(run)
    if not found:
        console.print("  no number with a better direction was recorded three times or more")
        return
    for one in found:
        console.print(table_of(_best_rows(one, len(found) > 1)))
    console.print(f"  {BEST_LEGEND}")
    for step in sorted(
        {e.step for one in found for row in one.rows.values() for e in row.values()}
    ):
        if (kept := checkpoint_of(run.folder, step)) is not None:
            console.print(f"  step {step:,}: {escape(plain(str(kept)))}", soft_wrap=True)


def _best_rows(found: Choices, several: bool) -> Iterator[Row]:
    head = f"Best by ({found.encoder})" if several else "Best by"
    for title, row in found.rows.items():
        cells = [
            (task, Change(found.words(title, task), task in row and not row[task].worse))
            for task in found.tasks
        ]
        yield [(head, title), *cells]
