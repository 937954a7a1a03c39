"""docs/terminal_phase.md: neural collapse of classifiers, as measured, with pictures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from dnc_lightning.records.store import Record, Run
from dnc_lightning.reporting.read.layers import Law, law_of, profiles
from dnc_lightning.reporting.read.minority import minority_collapses
from recipes.tables import fell, table
from recipes.terminal_pictures import draw_layers, draw_lengths, draw_numbers

NAMES = {
    "balanced": "2,000 images, 200 a class",
    "noise": "the same, 20 % of the labels wrong",
    "tail10": "long tail, 400 to 40 images a class",
    "tail100": "long tail, 400 to 4 images a class",
    "step": "5 classes of 1,000 images, 5 of 1",
    "decay": "the same, 10 times the weight decay, of all",
    "layers": "SimCLR, 10,000 images",
}
NUMBERS = {
    "nc1": "NC1",
    "nc2/equinorm": "equinorm",
    "nc2/equiangular": "equiangular",
    "nc2/etf_distance": "distance to the simplex",
    "nc3": "NC3",
    "nc4": "NC4",
}
LAW, BEYOND = 0.9, 1.5
"""Correlation, and factor a layer over that of noise, from which the page speaks of a law."""


def write_page(runs: Mapping[str, Run], folder: Path, counts: Mapping[str, Sequence[int]]) -> Path:
    """Write `terminal_phase.md` and its pictures.

    Args:
        runs: By variant, those of `NAMES` that are there.
        folder: Where the page goes; pictures go to its subfolder `terminal_phase`.
        counts: Training images of each class of the imbalanced runs, by variant.

    Returns:
        The page.
    """
    pictures = folder / "terminal_phase"
    pictures.mkdir(parents=True, exist_ok=True)
    names = NAMES
    whole = {v: runs[v] for v in ("balanced", "noise") if v in runs}
    tails = {v: runs[v] for v in ("tail10", "tail100", "step", "decay") if v in runs}
    layered = {v: runs[v] for v in ("balanced", "noise", "layers") if v in runs}
    seconds = sum(run.records[-1].time for run in runs.values())
    lines = [INTRODUCTION.format(cost=f"{seconds / 60:.0f} minutes")]
    if whole:
        draw_numbers({names[v]: run for v, run in whole.items()}, NUMBERS, pictures / "numbers.png")
        lines += ["## NC1 to NC4", "", "![NC1 to NC4](terminal_phase/numbers.png)", ""]
        lines += [*_numbers(whole, names), "", COLLAPSE, ""]
    if layered:
        draw_layers({names[v]: run for v, run in layered.items()}, pictures / "layers.png")
        lines += ["## Layers", "", "![Layers](terminal_phase/layers.png)", ""]
        lines += [*_layers(layered, names), "", LAYERS, ""]
    if tails:
        shown = {names[v]: (run, counts[v]) for v, run in tails.items()}
        draw_lengths(shown, pictures / "lengths.png")
        lines += ["## Rare classes", "", TAILS, "", "![Lengths](terminal_phase/lengths.png)", ""]
        lines += [*_tails(tails, names), ""]
        lines += [f"- {names[v]}: {_alarm(run)}" for v, run in tails.items()]
    page = folder / "terminal_phase.md"
    page.write_text("\n".join(lines).rstrip() + "\n")
    return page


INTRODUCTION = """# The terminal phase: neural collapse of classifiers

Papyan, Han and Donoho (PNAS 2020) trained classifiers far beyond the first epoch without a mistake
and saw four things: samples fall on their class means (NC1), the means on a simplex (NC2), the
head's rows on the means (NC3), and the head decides as the nearest mean does (NC4). This page is
written by `make terminal`: a small ResNet, cross-entropy, SGD, 2,000 steps of 100 images of
Fashion-MNIST without augmentation; balanced runs are probed on their training images, imbalanced
ones on test images, of which there are as many of every class. One run each, seed 0; {cost} of one
CPU core together.
"""

COLLAPSE = """*Noise* is what as many samples of white noise would give: NC2 numbers at their
floor mean nothing. The wrong labels are the control: the network learns them by heart, and its
training images collapse on *wrong* means. Neural collapse of training images is no evidence of a
useful representation."""

LAYERS = """The law of data separation (He and Su, arXiv:2210.17020) says that every layer divides
NC1 by about the same factor; correlation is that of its logarithm with depth. *Over noise*
divides NC1 by what white noise would give in as many dimensions, which differ from layer to
layer: a factor that the dimensions alone could make is none."""

TAILS = """Long tails: classes shrink by one factor from the first to the last. Steps: five are
large and five small. Theory of squared errors (general orthogonal frame, arXiv:2301.00437) has
rows that grow as the fourth root of the count and means that shrink as it, not lengths
proportional to the count; for cross-entropy the rows of rare classes fall together (cosine 1)
from a ratio on that depends on the weight decay (Fang et al., arXiv:2101.12699). Weight decay is
0.0005 of matrices and kernels if nothing else is said; that of norms too bounds the features, as
the theory supposes. The line is the frame that fits the rows best. The alarm looks at the
evidence and at no ratio."""


def _numbers(runs: Mapping[str, Run], names: Mapping[str, str]) -> list[str]:
    def rows() -> Iterator[list[str]]:
        for variant, run in runs.items():
            first, last = run.records[0], run.records[-1]
            prefix = prefix_of(run)
            cells = [
                fell(_value(first, f"{prefix}/{key}"), _value(last, f"{prefix}/{key}"))
                for key in NUMBERS
            ]
            right = f"{prefix}/nc4/head"
            yield [names[variant], fell(_value(first, right), _value(last, right)), *cells]
        some = next(iter(runs.values()))
        noise = [_value(some.records[-1], f"{prefix_of(some)}/{key}_noise") for key in NUMBERS]
        chance = ["2" if k == "nc3" else "0.9" if k == "nc4" else "" for k in NUMBERS]
        cells = [f"{n:.3g}" if math.isfinite(n) else c for n, c in zip(noise, chance, strict=True)]
        yield ["noise", "", *cells]

    return table(["run", "accuracy of the head", *NUMBERS.values()], rows())


def _layers(runs: Mapping[str, Run], names: Mapping[str, str]) -> list[str]:
    def rows() -> Iterator[list[str]]:
        for variant, run in runs.items():
            for found in profiles(run):
                over = [a / b for a, b in zip(found.nc1, found.nc1_noise, strict=True)]
                cells = []
                for values in (found.nc1, over):
                    law = law_of(values)
                    cells += [f"{law.factor:.2f}", f"{law.correlation:.2f}"] if law else ["-", "-"]
                yield [names[variant], *cells, _verdict(law_of(found.nc1), law_of(over))]

    head = ["run", "NC1 falls a layer by", "correlation", "over noise", "correlation", "the law"]
    return table(head, rows())


def _verdict(law: Law | None, over_noise: Law | None) -> str:
    if law is None or over_noise is None or law.correlation > -LAW:
        return "does not hold"
    return "holds" if over_noise.factor >= BEYOND else "no more than the dimensions give"


def _tails(runs: Mapping[str, Run], names: Mapping[str, str]) -> list[str]:
    keys = {
        "nc4/head": "accuracy on test images",
        "imbalance/minority_distance": "distance of rare classes",
        "imbalance/head_cosine": "least cosine of their rows",
        "imbalance/head_length": "shortest row",
        "imbalance/head_growth": "growth of the rows",
        "imbalance/mean_growth": "growth of the means",
    }

    def rows() -> Iterator[list[str]]:
        for variant, run in runs.items():
            last, prefix = run.records[-1], prefix_of(run)
            yield [names[variant], *(f"{_value(last, f'{prefix}/{key}'):.3g}" for key in keys)]
        yield ["orthogonal frame", "", "", "", "", "0.25", "-0.25"]

    return table(["run", *keys.values()], rows())


def _alarm(run: Run) -> str:
    found = minority_collapses(run)
    return f"alarm, since step {found[0].since:,}: {found[0].evidence}." if found else "no alarm."


def prefix_of(run: Run) -> str:
    """Of the keys of the encoder's output."""
    prefixes = run.header["prefixes"]
    return (prefixes.get("backbone") or next(iter(prefixes.values())))["label"]


def _value(record: Record, key: str) -> float:
    return record.scalars.get(key, math.nan)
