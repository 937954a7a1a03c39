"""docs/validation.md: which number predicts what, as measured, with a picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np

from dnc_lightning.evaluation.study import OUTCOME_KEYS, Line, Study

SETS = {"factors": "Factors", "fashion": "Fashion-MNIST"}
SHOWN = (
    "Directional CDNV",
    "Directional CDNV, median",
    "Directional CDNV, unbiased",
    "CDNV",
    "CDNV, median",
    "Certificate, m=5",
    "Conditional certificate, m=5",
    "Guaranteed error, m=5",
    "Measured error, m=5",
    "Measured error, m=50",
    "kNN, top-1",
    "Ridge probe, top-1",
    "Logistic probe, top-1",
    "H-score",
    "LogME",
    "NCTI",
    "RankMe",
    "RankMe, centred",
    "Effective rank",
    "Uniformity",
)
"""Numbers of the tables; `study.csv` has all."""

UNLABELLED = ("RankMe", "RankMe, centred", "Effective rank", "Uniformity")
"""Those that no label goes into."""


@dataclass(frozen=True)
class Validation:
    """Everything that the page tells."""

    runs: Mapping[str, Sequence[Study]]  # data set -> a study over the checkpoints of each run
    zoo: Mapping[str, Study]  # data set -> over encoders
    both: Study  # over encoders, all tasks of all data sets
    steps: int
    seeds: tuple[int, ...]


def write_page(found: Validation, folder: Path) -> Path:
    """Write `validation.md`, its picture and all numbers; return the page."""
    folder.mkdir(parents=True, exist_ok=True)
    draw(found, folder / "validation.png")
    found.both.write(folder / "validation")
    path = folder / "validation.md"
    path.write_text("\n".join(_lines(found)))
    return path


def _lines(found: Validation) -> Iterator[str]:
    count, seeds = len(next(iter(found.runs.values()))), ", ".join(map(str, found.seeds))
    yield f"""# Which number predicts what

Made by `make validate`, on 2 CPU cores. Six methods are trained for {found.steps} steps with
seeds {seeds}; held-out images are split into two halves. Every number is of the one half, every
error of the other: that of nearest class centres with 5 and with 50 labels a class, and that of a
logistic probe. Kendall's tau is 1 where the number orders all encoders as the error does, 0 where
it knows nothing. It is taken for every task alone and then averaged: tasks, data sets and steps
are never pooled.

![Kendall's tau of every number with the error of 5 labels](validation.png)

## Over encoders

{len(found.both.encoders)} encoders on each data set: the last and an early checkpoint of every run,
the untrained ones, and EfficientNet-lite0 with ImageNet weights; {len(found.both.tasks)} tasks
({"; ".join(found.both.tasks)}). In brackets the 95 % interval of a bootstrap over encoders;
weighted tau counts the best encoders most; partial tau is given the plain CDNV; regret is the error
of the encoder that the number calls the best, less the least error, mean over tasks. All numbers
that were measured: [validation/study.csv](validation/study.csv).
"""
    for outcome in filter(found.both.of, OUTCOME_KEYS):
        yield f"### {outcome[:1].upper()}{outcome[1:]}\n"
        yield _markdown(found.both, outcome)
        yield f"\n{_reading(found.both, outcome)}\n"
    heads = " | ".join(f"{SETS[data]}, {o}" for data in found.runs for o in OUTCOME_KEYS)
    yield f"""## Over the checkpoints of a run

Mean over the {count} runs of each data set of the tau over up to a dozen checkpoints of the run,
with the least and the greatest of the runs in brackets. Along a run nearly everything moves with
time, so that a large tau is easily had: what counts here is which numbers fail, and whose sign
turns.

| number | {heads} |
| --- | {" | ".join("---" for _ in found.runs for _ in OUTCOME_KEYS)} |"""
    for number in SHOWN:
        cells = [
            _along(studies, number, o) for studies in found.runs.values() for o in OUTCOME_KEYS
        ]
        if any(cells):
            yield f"| {number} | {' | '.join(cells)} |"
    yield ""


def _markdown(study: Study, outcome: str) -> str:
    lines = tuple(line for line in study.lines if line.number in SHOWN)
    return Study(lines, study.encoders, study.tasks).markdown(outcome)


def _reading(study: Study, outcome: str) -> str:
    """Say, from the numbers, where directional CDNV stands."""
    lines = [line for line in study.of(outcome) if line.number in SHOWN]
    place = [line.number for line in lines].index("Directional CDNV")
    own, best = lines[place].found, lines[0]
    inside = best.found.low <= own.tau
    return (
        f"Directional CDNV is number {place + 1} of {len(lines)} (tau {own.tau:.2f}); the first is "
        f"{best.number} ({best.found.tau:.2f}, interval {best.found.low:.2f} to "
        f"{best.found.high:.2f}), which {'includes' if inside else 'does not include'} it. "
        f"Given the plain CDNV, its tau is {own.partial:.2f}. "
    ) + _without_labels(lines)


def _without_labels(lines: Sequence[Line]) -> str:
    found = [line for line in lines if line.number in UNLABELLED]
    if not found:
        return ""
    best = found[0]
    return f"Of the numbers without labels {best.number} is the first, with {best.found.tau:.2f}."


def _along(studies: Sequence[Study], number: str, outcome: str) -> str:
    taus = [
        line.found.tau
        for study in studies
        for line in study.of(outcome)
        if line.number == number and np.isfinite(line.found.tau)
    ]
    return f"{np.mean(taus):.2f} [{min(taus):.2f}, {max(taus):.2f}]" if taus else ""


def draw(found: Validation, path: Path) -> None:
    """Draw the taus with the error of 5 labels: over encoders, and over checkpoints."""
    outcome = next(iter(OUTCOME_KEYS))
    over = {line.number: line.found for line in found.both.of(outcome) if line.number in SHOWN}
    numbers = list(over)[::-1]
    places = np.arange(len(numbers))
    with mpl.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure, axes = plt.subplots(1, 2, figsize=(9, 0.27 * len(numbers) + 1.2), sharey=True)
        for at, number in zip(places, numbers, strict=True):
            colour = "#bf4a12" if number.startswith("Directional") else "#24639f"
            one = over[number]
            axes[0].plot([one.low, one.high], [at, at], color=colour, lw=1.2)
            axes[0].plot(one.tau, at, "o", color=colour, ms=5)
            for studies, marker in zip(found.runs.values(), "os", strict=False):
                taus = [
                    line.found.tau
                    for study in studies
                    for line in study.of(outcome)
                    if line.number == number
                ]
                axes[1].plot(taus, np.full(len(taus), at), marker, color=colour, ms=3, alpha=0.5)
        axes[0].set(
            yticks=places, yticklabels=numbers, title=f"over {len(found.both.encoders)} encoders"
        )
        axes[1].set(title="over the checkpoints of each run")
        for data, marker in zip(found.runs, "os", strict=False):
            axes[1].plot([], [], marker, color="#59636e", ms=4, label=SETS[data])
        axes[1].legend(loc="lower left", fontsize=8)
        for axis in axes:
            axis.axvline(0, color="#59636e", lw=0.6)
            axis.set(
                xlim=(-1.03, 1.03),
                xticks=[-1, -0.5, 0, 0.5, 1],
                xlabel=f"Kendall's tau with the {outcome}",
            )
            axis.grid(axis="y", lw=0.3)
        figure.tight_layout()
        figure.savefig(path, dpi=150)
        plt.close(figure)
