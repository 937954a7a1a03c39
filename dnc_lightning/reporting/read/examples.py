"""Example images of classes: where a run folder holds them, and which of them a page shows."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from urllib.parse import quote

import numpy as np

from dnc_lightning.records.files import member_of, open_archive
from dnc_lightning.records.store import EXAMPLES_FILE
from dnc_lightning.reporting.read.views import UNDEFINED, PairStack

WORST_PAIRS = 10  # rows of a page's table
JPEG = b"\xff\xd8\xff"  # what such an image begins with
PAGE_CHARACTERS = 1_000_000  # of all examples of a page in base64


def member(task: str, index: int) -> str:
    """Return where the archive of examples holds those of one class of a task."""
    return f"{quote(task, safe='')}/{index:05d}.jpg"


def named_classes(stacks: Iterable[PairStack], rows: int = WORST_PAIRS) -> list[int]:
    """Return the classes in the tables of the worst pairs.

    Args:
        stacks: Pair matrices of one task, as several encoders see it.
        rows: Of each table.

    Returns:
        Distinct indices of classes: those of the latest probe, which a page opens with, from the
        worst pair on; then those of all other probes, the most frequent first.
    """
    latest: list[int] = []
    counts: Counter[int] = Counter()
    for stack in stacks:
        tables = [_table(stack, at, rows) for at in range(len(stack.positions))]
        counts.update(chain.from_iterable(tables))
        latest += tables[-1]
    return list(dict.fromkeys([*latest, *(index for index, _ in counts.most_common())]))


def _table(stack: PairStack, at: int, rows: int) -> list[int]:
    """Classes of the worst pairs at one probe, ties in the order of the page's script."""
    codes = stack.codes["directional_cdnv"][at].astype(np.int64)
    np.fill_diagonal(codes, UNDEFINED)
    flat = codes.ravel()
    worst = np.argsort(-flat, kind="stable")[:rows]
    pairs = np.stack(np.unravel_index(worst[flat[worst] != UNDEFINED], codes.shape), axis=1)
    return [stack.chosen[place] for place in pairs.ravel()]


def read_examples(
    folder: Path, wanted: Mapping[str, Sequence[int]], *, most: int = PAGE_CHARACTERS
) -> dict[str, dict[int, str]]:
    """Read examples of classes from a run folder, while they fit.

    Args:
        folder: The run folder.
        wanted: Task -> classes, the most important first; the tasks take turns.
        most: Characters that all of them together may have.

    Returns:
        Task -> class -> a JPEG in base64, of those that are there and undamaged.
    """
    found: dict[str, dict[int, str]] = {task: {} for task in wanted}
    turns = [(turn, task, index) for task in wanted for turn, index in enumerate(wanted[task])]
    # A page does without what is damaged.
    with suppress(ValueError), open_archive(folder, EXAMPLES_FILE) as archive:
        for _, task, index in sorted(turns, key=lambda each: each[0]):
            with suppress(ValueError):
                image = member_of(archive, member(task, index), most)
                if not image.startswith(JPEG):
                    continue
                strip = base64.b64encode(image).decode()
                most -= len(strip)
                if most < 0:
                    break
                found[task][index] = strip
    return found
