"""Example images of classes: where a run folder holds them, and which of them a page shows."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from urllib.parse import quote

from dnc_lightning.records.files import member_of, open_archive
from dnc_lightning.records.store import EXAMPLES_FILE
from dnc_lightning.reporting.read.views import WORST_PAIRS, PairStack

JPEG = b"\xff\xd8\xff"  # what such an image begins with
PAGE_CHARACTERS = 1_000_000  # of all examples of a page in base64


def member(task: str, index: int) -> str:
    """Return where the archive of examples holds those of one class of a task."""
    return f"{quote(task, safe='')}/{index:05d}.jpg"


def named_classes(stacks: Iterable[PairStack], rows: int = WORST_PAIRS) -> list[int]:
    """Return the classes in the tables of the worst pairs, as several encoders see one task.

    First those of the latest probe, which a page opens with, from the worst pair on; then those of
    all other probes, the most frequent first.
    """
    latest: list[int] = []
    counts: Counter[int] = Counter()
    for stack in stacks:
        tables = [
            [stack.chosen[place] for pair in stack.worst(at, rows) for place in pair]
            for at in range(len(stack.positions))
        ]
        counts.update(chain.from_iterable(tables))
        latest += tables[-1]
    return list(dict.fromkeys([*latest, *(index for index, _ in counts.most_common())]))


def read_examples(
    folder: Path, wanted: Mapping[str, Sequence[int]], *, most: int = PAGE_CHARACTERS
) -> dict[str, dict[int, str]]:
    """Read examples of classes from a run folder, as far as they fit into `most` characters.

    `wanted` names the classes of each task, the most important first; the tasks take turns.

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
