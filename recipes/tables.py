"""Tables of the pages that the studies write."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(cells) + " |" for cells in lines]


def fell(first: float, last: float) -> str:
    """From the first probe to the last."""
    return f"{first:.3g} → {last:.3g}"
