"""Draws docs/growth.png from the table in docs/measurements.md.

Run `python -m tests.benchmarks.growth_picture` after the table was made anew.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt

DOCS = Path(__file__).parents[2] / "docs"
PARTS = {
    "an ordinary probe": ("o-", "#1f6f8b"),
    "intervals": ("s--", "#c2571a"),
    "guarantee": ("^--", "#7a4fa3"),
    "**a thorough probe**": ("D-", "#222222"),
}


def rows() -> list[tuple[int, int, int, str, float, float, float]]:
    """The table: classes, samples a class, dimensions, part, seconds, products, GB."""
    found = []
    for line in (DOCS / "measurements.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("| ").split(" | ")]
        if len(cells) == 7 and cells[0].replace(",", "").isdigit():
            c, n, d = (int(cell.replace(",", "")) for cell in cells[:3])
            gb = float(cells[6].split()[0])
            found.append((c, n, d, cells[3], float(cells[4]), float(cells[5]), gb))
    return found


def draw(path: Path) -> None:
    """Seconds and scratch memory against the number of classes, both logarithmic."""
    table = rows()
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for part, (style, colour) in PARTS.items():
        own = [row for row in table if row[3] == part]
        x, seconds = [row[0] for row in own], [row[4] for row in own]
        left.loglog(x, seconds, style, color=colour, label=part.strip("*"))
    whole = [row for row in table if row[3] == "**a thorough probe**"]
    right.loglog([row[0] for row in whole], [row[6] for row in whole], "D-", color="#222222")
    for c, n, d, _, seconds, _, gb in whole:
        left.annotate(f"n = {n}, D = {d:,}", (c, seconds), (-7, 6), textcoords="offset points",
                      fontsize=7, ha="right")  # fmt: skip
        right.annotate(f"{gb:g} GB", (c, gb), (-7, 6), textcoords="offset points",
                       fontsize=8, ha="right")  # fmt: skip
    left.set_ylabel("processor seconds, one thread")
    right.set_ylabel("scratch memory of a thorough probe, GB")
    for axis in (left, right):
        axis.set_xlabel("classes")
        axis.grid(alpha=0.25)
        axis.margins(0.2, 0.18)
        axis.spines[["top", "right"]].set_visible(False)
    left.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    draw(DOCS / "growth.png")
