"""docs/other_targets.md: regression, ordered and cyclic classes, and a text, as measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from dnc_lightning.records.store import Run
from recipes.tables import fell, table

COLOURS = ("#0072b2", "#d55e00", "#009e73")
GREY = "#7f7f7f"


@dataclass(frozen=True)
class Section:
    """One part of the page: its runs, and what of them is shown."""

    title: str
    text: str
    runs: Mapping[str, str]  # variant -> what it is
    keys: Mapping[str, str]  # key below "probe/" -> what it is
    floors: Mapping[str, str] | None = None  # key -> that of its floor


SECTIONS = {
    "regression": Section(
        "Regression",
        "A small ResNet predicts the place of the object, two numbers, by squared error with "
        "weight decay (`recipes.regression`). Andriopoulos et al. (arXiv:2409.04180) say that "
        "features collapse to the plane of their two main directions (NRC1), which the head's rows "
        "span (NRC2), and that the rows' products follow the covariance of the targets (NRC3). All "
        "of held-out images.",
        {"place": "place, 2 targets"},
        {
            "features/regression/place/r2": "R² of a linear read-out",
            "features/regression/place/nrc1": "NRC1",
            "features/regression/place/nrc2": "NRC2",
            "features/regression/place/nrc3": "NRC3",
        },
    ),
    "ordinal": Section(
        "Ordered classes",
        "The place from left to right as one number, by squared error, and as seven classes, by "
        "cross-entropy. Ma, Obuchi and Tanaka (arXiv:2506.05801) derive for cumulative links that "
        "the means of ordered classes lie on a line, in order. Here both are in order, as images "
        "of neighbouring columns are alike; the regression's are nearer to a line, and bent.",
        {"across": "regression, 1 target", "column": "classification, 7 classes"},
        {
            "column/ordinal/off_line": "off the line",
            "column/ordinal/order": "order on the line",
            "column/ordinal/gap_spread": "spread of the steps",
            "column/cyclic/plane": "share in a plane",
            "column/cyclic/balance": "balance of the plane",
        },
    ),
    "circle": Section(
        "Circles",
        "Sums of two numbers modulo 31, all 961 pairs (`recipes.modular_addition`): embeddings are "
        "added and pass one hidden layer. Tan, Gai and Zhang (arXiv:2606.08985) derive that a "
        "circle beats the simplex for such cyclic classes. A pure one has a share in a plane of 1, "
        "a balance of 1 and one frequency alone; a simplex of 31 classes 0.067, 1 and 0.067. With "
        "wide embeddings the network uses several frequencies at once, each a circle of its own, "
        "so that no plane holds the means; where embeddings have two dimensions, one is left.",
        {"wide": "embeddings of 64 dimensions", "narrow": "of 2 dimensions"},
        {
            "label/nc4/head": "accuracy",
            "label/cyclic/plane": "share in a plane",
            "label/cyclic/balance": "balance of the plane",
            "label/cyclic/fourier": "share of one frequency",
            "label/cyclic/radius_spread": "spread of the radii",
        },
    ),
    "language": Section(
        "Language",
        "A GPT-2 of two blocks and 48 dimensions reads the source code of Python byte by byte "
        "(`recipes.language`); the class of a context is the byte that comes next, as in Wu and "
        "Papyan (arXiv:2405.17767). There are more classes than dimensions, so that no simplex "
        "exists, and contexts do not decide the next byte, so that classes cannot collapse to "
        "points. The dashed line is the least distance to the simplex in so few dimensions.",
        {"bytes": "next byte"},
        {
            "next_token/cdnv_median": "CDNV",
            "next_token/directional_cdnv_median": "directional CDNV",
            "next_token/few_shot_error/5": "error, m = 5",
            "next_token/nc1_share": "NC1, share",
            "next_token/nc2/etf_distance": "distance to the simplex",
            "next_token/gnc2/spread": "GNC2, spread",
        },
        {"next_token/nc2/etf_distance": "next_token/nc2/etf_least"},
    ),
}
LOGARITHMIC = ("cdnv", "nrc")


def write_page(runs: Mapping[str, Run], folder: Path) -> Path:
    """Write `other_targets.md` and its pictures.

    Args:
        runs: By variant, those that are there.
        folder: Where the page goes; pictures go to its subfolder `other_targets`.

    Returns:
        The page.
    """
    pictures = folder / "other_targets"
    pictures.mkdir(parents=True, exist_ok=True)
    seconds = sum(run.records[-1].time for run in runs.values())
    lines = [INTRODUCTION.format(cost=f"{seconds / 60:.0f} minutes")]
    for name, section in SECTIONS.items():
        mine = {variant: runs[variant] for variant in section.runs if variant in runs}
        if not mine:
            continue
        draw(section, mine, pictures / f"{name}.png")
        lines += [f"## {section.title}", "", section.text, ""]
        lines += [f"![{section.title}](other_targets/{name}.png)", ""]
        lines += [*_numbers(section, mine), ""]
        lines += [*_said(section, mine), ""]
    page = folder / "other_targets.md"
    page.write_text("\n".join(lines).rstrip() + "\n")
    return page


INTRODUCTION = """# Other targets: regression, order, circles and language

Classes are one kind of target. This page, written by `make targets`, has one small run of each of
the others, with the instruments that measure them: `Regression`, `Ordinal`, `cyclic`, and
`TokenProbe` for language models ([how to](your_run.md)). Seed 0; {cost} of one CPU core together.
"""


def draw(section: Section, runs: Mapping[str, Run], path: Path) -> None:
    """Draw every number of a section over training, a panel each."""
    columns = 3 if len(section.keys) != 4 else 4
    rows = math.ceil(len(section.keys) / columns)
    figure = Figure(figsize=(10, 0.5 + 2.5 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, squeeze=False).flatten()
    for panel, (key, title) in zip(panels, section.keys.items(), strict=False):
        for (variant, run), colour in zip(runs.items(), COLOURS, strict=False):
            steps, values = run.series(f"probe/{key}")
            label = section.runs[variant]
            panel.plot(np.maximum(steps, 0.5), values, color=colour, linewidth=1.8, label=label)
        if floor := (section.floors or {}).get(key):
            least = next(iter(runs.values())).series(f"probe/{floor}")[1][-1]
            panel.axhline(least, color=GREY, linestyle="--", linewidth=1)
        panel.set_title(title, fontsize=10)
        panel.set_xscale("log")
        if any(name in key for name in LOGARITHMIC):
            panel.set_yscale("log")
        panel.grid(alpha=0.25, linewidth=0.5)
        panel.spines[["top", "right"]].set_visible(False)
    for empty in panels[len(section.keys) :]:
        empty.set_visible(False)
    figure.supxlabel("optimizer steps", fontsize=10)
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=len(names), frameon=False)
    figure.savefig(path, dpi=120)


def _numbers(section: Section, runs: Mapping[str, Run]) -> list[str]:
    rows: list[Sequence[str]] = []
    for variant, run in runs.items():
        first, last = run.records[0].scalars, run.records[-1].scalars
        cells = [
            fell(first.get(f"probe/{key}", math.nan), last.get(f"probe/{key}", math.nan))
            for key in section.keys
        ]
        rows.append([section.runs[variant], *cells])
    return table(["run", *section.keys.values()], rows)


def _said(section: Section, runs: Mapping[str, Run]) -> list[str]:
    """What the last probe says of the shape of the means."""
    found = []
    for variant, run in runs.items():
        said = [note for note in run.records[-1].notes if "are drawn up as" in note]
        if any("cyclic" in key for key in section.keys):
            shape = " ".join(note.partition(": ")[2] for note in said)
            found.append(f"- {section.runs[variant]}: {shape or 'no shape is told.'}")
    return found
