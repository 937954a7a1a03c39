"""What a whole run says beside its numbers: cautions that no single probe could give."""

from __future__ import annotations

from dnc_lightning.records.store import Run
from dnc_lightning.reporting.read.minority import minority_collapses
from dnc_lightning.reporting.read.narrowing import narrowings


def findings(run: Run) -> list[str]:
    """One sentence each; empty where there is nothing to say."""
    narrow = [one.words for one in narrowings(run)]
    return [*narrow, *(one.words for one in minority_collapses(run))]
