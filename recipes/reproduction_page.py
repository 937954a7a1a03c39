"""docs/reproduction.md: what the methods did, as measured, with pictures from the records."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, geometric_mean

import matplotlib as mpl
from matplotlib.figure import Figure

from dnc_lightning.reporting.records import Run

METHODS = {
    "simclr": "SimCLR",
    "vicreg": "VICReg",
    "dino": "DINO (student)",
    "dinov2": "DINOv2 (student)",
    "mae": "MAE",
    "supervised": "supervised",
}
SETS = {"factors": "Factors", "fashion": "Fashion-MNIST"}
SHOTS = (5, 50)
TRAINED_ON = {"factors": "shape", "fashion": "label"}
"""The only task whose labels the supervised baseline sees."""

AIM = {"simclr": 4.0, "vicreg": 4.0, "dino": 2.5, "dinov2": 2.5, "mae": 2.5}
"""Ratio of the two falls on Factors from which on the page speaks of the phenomenon."""


@dataclass(frozen=True)
class Outcome:
    """One run, read by task."""

    method: str
    data: str
    run: Run

    @property
    def prefix(self) -> str:
        """Of its keys: the student's where there are two encoders."""
        encoders = self.run.header["encoders"]
        return "probe/student/" if len(encoders) > 1 else "probe/"

    @property
    def tasks(self) -> list[str]:
        """The labelings of its probe."""
        return list(self.run.header["tasks"])

    def ends(self, key: str) -> tuple[float, float]:
        """First and last value under a key below the prefix; nan where it was not recorded."""
        first, last = (
            self.run.records[i].scalars.get(self.prefix + key, math.nan) for i in (0, -1)
        )
        return first, last

    def typical(self, quantity: str) -> tuple[float, float]:
        """First and last median over pairs, geometric mean over tasks."""
        ends = [self.ends(f"{task}/{quantity}_median") for task in self.tasks]
        return geometric_mean(first for first, _ in ends), geometric_mean(last for _, last in ends)

    def mean(self, key: str) -> tuple[float, float]:
        """First and last value of a key below the tasks, mean over tasks."""
        ends = [self.ends(f"{task}/{key}") for task in self.tasks]
        return fmean(first for first, _ in ends), fmean(last for _, last in ends)

    @property
    def cosines(self) -> dict[str, tuple[float, float]]:
        """Mean |cos| of the axes of two tasks, first and last, per pair of tasks."""
        start = f"{self.prefix}orthogonality/"
        keys = [
            key.removeprefix(self.prefix)
            for key in self.run.records[-1].scalars
            if key.startswith(start) and key.endswith("/abs_cos")
        ]
        return {key.split("/")[1]: self.ends(key) for key in keys}


def ratio_of_falls(outcome: Outcome) -> float:
    """How many times further directional CDNV fell than CDNV."""
    (c0, c1), (d0, d1) = (outcome.typical(q) for q in ("cdnv", "directional_cdnv"))
    return (d0 / d1) / (c0 / c1)


def write_page(outcomes: Sequence[Outcome], folder: Path) -> Path:
    """Write `reproduction.md` and its pictures.

    Args:
        outcomes: All finished runs.
        folder: Where the page goes; pictures go to its subfolder `reproduction`.

    Returns:
        The page.
    """
    pictures = folder / "reproduction"
    pictures.mkdir(parents=True, exist_ok=True)
    lines = [INTRODUCTION.format(cost=_cost(outcomes))]
    for data, title in SETS.items():
        mine = [outcome for outcome in outcomes if outcome.data == data]
        if mine:
            _draw(mine, pictures / f"{data}.png")
            lines += [f"## {title}", "", f"![{title}](reproduction/{data}.png)", ""]
            lines += [*_summary(mine), "", *_verdicts(mine), "", *_errors(mine), ""]
            if len(mine[0].tasks) > 1:
                lines += [*_by_task(mine), "", *_orthogonality(mine), ""]
    page = folder / "reproduction.md"
    page.write_text("\n".join(lines).rstrip() + "\n")
    return page


INTRODUCTION = """# The paper's first observation, checked on small runs

During SSL the variance of a class *along the axis to another class* (directional CDNV) collapses,
although the whole variance (CDNV) falls much less (arXiv:2603.03530). This page is written by
`make reproduce` from the records of its runs: one seed, a small backbone, 32-pixel images, labels
used by the probe alone, save for the supervised baseline.

Values are medians over the pairs of classes, plug-in, from the probe before the first step
(BatchNorm calibrated where there is any) to the last one; over several tasks the geometric mean.
The ratio of the falls says how many times further directional CDNV fell than CDNV. {cost}
"""


def _cost(outcomes: Sequence[Outcome]) -> str:
    seconds = sum(outcome.run.records[-1].time for outcome in outcomes)
    return f"All runs together took {seconds / 60:.0f} minutes of one CPU core."


def _table(head: Sequence[str], rows: Iterator[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(cells) + " |" for cells in lines]


def _fell(ends: tuple[float, float]) -> str:
    return f"{ends[0]:.3g} → {ends[1]:.3g}"


def _factor(ends: tuple[float, float]) -> str:
    return f"{ends[0] / ends[1]:.1f}x"


def _summary(outcomes: Sequence[Outcome]) -> list[str]:
    def row(outcome: Outcome) -> list[str]:
        cdnv, directional = outcome.typical("cdnv"), outcome.typical("directional_cdnv")
        last = outcome.run.records[-1]
        return [
            METHODS[outcome.method],
            f"{last.step} ({last.time:.0f} s)",
            *(_fell(cdnv), _factor(cdnv), _fell(directional), _factor(directional)),
            f"**{ratio_of_falls(outcome):.1f}**",
        ]

    head = ["method", "steps", "CDNV", "fell", "directional CDNV", "fell", "ratio of falls"]
    return _table(head, map(row, outcomes))


def _verdicts(outcomes: Sequence[Outcome]) -> list[str]:
    """Say of every method whether it shows the phenomenon here."""
    lines = []
    for outcome in outcomes:
        if outcome.method not in AIM:
            lines.append(_baseline(outcome))
            continue
        ratio, wanted = ratio_of_falls(outcome), AIM[outcome.method]
        name = METHODS[outcome.method]
        if ratio >= wanted:
            text = f"shows it: directional CDNV fell {ratio:.1f} times further."
        elif ratio > 1:
            text = (
                f"shows it weakly: directional CDNV fell {ratio:.1f} times further, where "
                f"{wanted:g} was the aim for Factors."
            )
        else:
            text = f"does not show it at this scale: CDNV fell {1 / ratio:.1f} times further."
        lines.append(f"- {name} {text}")
    return lines


def _baseline(outcome: Outcome) -> str:
    """Say what the supervised baseline did to the task it saw and to the others."""
    own = TRAINED_ON[outcome.data]
    cdnv, directional = (outcome.ends(f"{own}/{q}_median") for q in ("cdnv", "directional_cdnv"))
    text = (
        f"- The supervised baseline saw the labels of {own!r}: there CDNV fell {_factor(cdnv)} and "
        f"directional CDNV {_factor(directional)}."
    )
    others = [task for task in outcome.tasks if task != own]
    lost = [
        f"{task} {_fell(outcome.ends(f'{task}/few_shot_error/{SHOTS[-1]}'))}" for task in others
    ]
    if lost:
        text += f" What it did not see: error at m = {SHOTS[-1]} of {', '.join(lost)}."
    return text


def _errors(outcomes: Sequence[Outcome]) -> list[str]:
    def row(outcome: Outcome) -> list[str]:
        cells = [
            _fell(outcome.mean(f"{key}/{m}"))
            for m in SHOTS
            for key in ("few_shot_error", "certificate")
        ]
        return [METHODS[outcome.method], *cells]

    head = ["method"]
    for m in SHOTS:
        head += [f"measured error, m = {m}", f"certificate, m = {m}"]
    return _table(head, map(row, outcomes))


def _by_task(outcomes: Sequence[Outcome]) -> list[str]:
    def rows() -> Iterator[list[str]]:
        for outcome in outcomes:
            for task in outcome.tasks:
                cdnv = outcome.ends(f"{task}/cdnv_median")
                directional = outcome.ends(f"{task}/directional_cdnv_median")
                ratio = (directional[0] / directional[1]) / (cdnv[0] / cdnv[1])
                yield [
                    METHODS[outcome.method],
                    task,
                    *(_fell(cdnv), _fell(directional), f"{ratio:.1f}"),
                    *(_fell(outcome.ends(f"{task}/few_shot_error/{m}")) for m in SHOTS),
                ]

    head = ["method", "task", "CDNV", "directional CDNV", "ratio of falls"]
    return _table(head + [f"error, m = {m}" for m in SHOTS], rows())


def _orthogonality(outcomes: Sequence[Outcome]) -> list[str]:
    def row(outcome: Outcome) -> list[str]:
        cosines = outcome.cosines
        mean = tuple(fmean(ends[i] for ends in cosines.values()) for i in (0, 1))
        floor = outcome.ends("orthogonality/floor")[1]
        return [
            METHODS[outcome.method],
            _fell(mean),
            f"{floor:.3f}",
            f"{mean[1] / floor:.2f}",
            *(_fell(ends) for ends in cosines.values()),
        ]

    shown = [outcome for outcome in outcomes if outcome.cosines]
    if not shown:
        return []
    head = ["method", "mean \\|cos\\|", "floor", "end / floor", *shown[0].cosines]
    text = (
        "Mean |cos| between the decision axes of two tasks; the floor is that of random directions."
    )
    return [text, "", *_table(head, map(row, shown))]


def _draw(outcomes: Sequence[Outcome], path: Path) -> None:
    """Draw CDNV and directional CDNV over training, one panel per method."""
    mpl.rcParams["font.size"] = 9
    figure = Figure(figsize=(2.6 * len(outcomes), 2.9), layout="constrained")
    panels = figure.subplots(1, len(outcomes), sharey=True, squeeze=False)[0]
    for panel, outcome in zip(panels, outcomes, strict=True):
        for quantity, colour, name in (
            ("cdnv", "#7f7f7f", "CDNV"),
            ("directional_cdnv", "#0072b2", "directional CDNV"),
        ):
            curves = [
                outcome.run.series(f"{outcome.prefix}{task}/{quantity}_median")
                for task in outcome.tasks
            ]
            for steps, values in curves if len(curves) > 1 else []:
                panel.plot(steps, values, color=colour, alpha=0.3, linewidth=0.8)
            middle = [
                geometric_mean(map(float, values))
                for values in zip(*(v for _, v in curves), strict=True)
            ]
            panel.plot(curves[0][0], middle, color=colour, linewidth=2, label=name)
        panel.set_xscale("symlog", linthresh=1)
        panel.set_yscale("log")
        panel.set_title(METHODS[outcome.method])
        panel.set_xlabel("step")
        panel.grid(alpha=0.25, linewidth=0.5)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("median over pairs")
    panels[0].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=130)
