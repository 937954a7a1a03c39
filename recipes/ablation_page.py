"""docs/training.md: what directional collapse does as a loss, as measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, geometric_mean

from matplotlib.figure import Figure

from dnc_lightning.records.store import Run
from recipes.tables import table

VARIANTS = {
    "simclr": "SimCLR",
    "labels": "SimCLR + loss, 1 % labels",
    "views": "SimCLR + loss, views as classes",
    "linear": "supervised, linear head",
    "etf": "supervised, fixed simplex head",
}
SETS = {"factors": "Factors", "fashion": "Fashion-MNIST"}
RELATED = {
    "factors": "The tasks are independent by construction: what is learnt of one says nothing of "
    "another.",
    "fashion": "Each kind is a group of the classes of *label*, so that the two are related.",
}
SHOTS = (5, 50)
COLOURS = ("#7f7f7f", "#0072b2", "#56b4e9", "#d55e00", "#e69f00")


@dataclass(frozen=True)
class Trained:
    """One run of the ablation."""

    data: str
    variant: str
    seed: int
    run: Run

    @property
    def tasks(self) -> list[str]:
        """Of its probe."""
        return list(self.run.header["tasks"])

    def last(self, task: str, key: str) -> float:
        """A number of the last probe."""
        return self.run.records[-1].scalars[f"probe/{task}/{key}"]


def write_page(trained: Sequence[Trained], folder: Path, seen: Mapping[str, str]) -> Path:
    """Write `training.md` and its picture.

    Args:
        trained: All finished runs.
        folder: Where the page goes; the picture goes to its subfolder `training`.
        seen: Data set -> the task whose labels are seen where any are.

    Returns:
        The page.
    """
    pictures = folder / "training"
    pictures.mkdir(parents=True, exist_ok=True)
    minutes = sum(one.run.records[-1].time for one in trained) / 60
    lines = [INTRODUCTION.format(minutes=f"{minutes:.0f}")]
    for data, title in SETS.items():
        mine = [one for one in trained if one.data == data]
        if mine:
            draw_errors(mine, seen[data], pictures / f"{data}.png")
            lines += [f"## {title}", "", f"![{title}](training/{data}.png)", ""]
            lines += [
                f"Labels, where any are seen, are those of *{seen[data]}*. {RELATED[data]}",
                "",
            ]
            lines += [*_errors(mine, seen[data]), "", *_collapse(mine, seen[data]), ""]
            lines += [*_verdicts(mine, seen[data]), ""]
    page = folder / "training.md"
    page.write_text("\n".join(lines).rstrip() + "\n")
    return page


INTRODUCTION = """# Collapse as a training signal

If directional collapse explains transfer, why not train for it? `dnc_lightning.losses` has the loss
([API](api.md)), and this page, written by `make ablation`, what it does: SimCLR as it is; with the
loss on 64 images a step of the 1 % of the training images whose labels it may see (a
semi-supervised method, then); with the loss on the views of each image as a class of their own (no
labels); and classifiers on all labels with a trained head and with one that is fixed to a simplex.

In a configuration it is one key: `model.directional: {{weight: 1.0, labels: 0.01, task: shape}}` of
`recipes.simclr`, `model.head: etf` of `recipes.supervised`. Weight 1 was taken and not tuned.

Errors are those of the nearest class centre with m labels per class on held-out images, the two
numbers of a cell the seeds. All runs together took {minutes} minutes of one CPU core.
"""


def draw_errors(trained: Sequence[Trained], seen: str, path: Path) -> None:
    """Draw the error of every task and variant, a dot each seed."""
    tasks = trained[0].tasks
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    panel = figure.subplots()
    width = 0.8 / len(VARIANTS)
    for place, (variant, name) in enumerate(VARIANTS.items()):
        mine = [one for one in trained if one.variant == variant]
        for column, task in enumerate(tasks):
            values = [one.last(task, f"few_shot_error/{SHOTS[0]}") for one in mine]
            x = column - 0.4 + (place + 0.5) * width
            label = name if column == 0 else None
            panel.bar(x, fmean(values), width * 0.85, color=COLOURS[place], alpha=0.5, label=label)
            panel.plot([x] * len(values), values, "o", color=COLOURS[place], markersize=4)
    names = [f"{task}\n(labels seen)" if task == seen else task for task in tasks]
    panel.set_xticks(range(len(tasks)), names)
    panel.set_ylabel(f"error, m = {SHOTS[0]}")
    panel.grid(axis="y", alpha=0.25, linewidth=0.5)
    panel.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=3, frameon=False, fontsize=9)
    figure.savefig(path, dpi=120)


def _errors(trained: Sequence[Trained], seen: str) -> list[str]:
    tasks = trained[0].tasks

    def rows() -> Iterator[list[str]]:
        for variant, mine in _by_variant(trained):
            cells = [
                " / ".join(f"{one.last(task, f'few_shot_error/{m}'):.3f}" for one in mine)
                for task in tasks
                for m in SHOTS
            ]
            yield [VARIANTS[variant], *cells]

    head = [f"{task}{' (seen)' if task == seen else ''}, m = {m}" for task in tasks for m in SHOTS]
    return table(["error", *head], rows())


def _collapse(trained: Sequence[Trained], seen: str) -> list[str]:
    others = [task for task in trained[0].tasks if task != seen]

    def rows() -> Iterator[list[str]]:
        for variant, mine in _by_variant(trained):
            cells = []
            for tasks in ([seen], others):
                for key in ("cdnv_median", "directional_cdnv_median"):
                    values = [geometric_mean(one.last(t, key) for t in tasks) for one in mine]
                    cells.append(" / ".join(f"{value:.3g}" for value in values))
            yield [VARIANTS[variant], *cells]

    head = [f"CDNV, {seen}", f"directional, {seen}", "CDNV, other tasks", "directional, others"]
    return table(["medians over pairs", *head], rows())


def _verdicts(trained: Sequence[Trained], seen: str) -> list[str]:
    """Say of every variant what it did to the tasks that it did not see."""
    runs = dict(_by_variant(trained))
    if "simclr" not in runs:
        return []
    others, m = [task for task in trained[0].tasks if task != seen], SHOTS[0]
    base = {one.seed: one for one in runs["simclr"]}
    lines = []
    for variant, mine in runs.items():
        if variant == "simclr":
            continue
        better, worse = [], []
        for task in others:
            key = f"few_shot_error/{m}"
            changes = [
                one.last(task, key) - base[one.seed].last(task, key)
                for one in mine
                if one.seed in base
            ]
            if changes and (all(c < 0 for c in changes) or all(c > 0 for c in changes)):
                (better if changes[0] < 0 else worse).append(f"{task} by {abs(fmean(changes)):.2f}")
        said = [f"helps {', '.join(better)}"] if better else []
        said += [f"hurts {', '.join(worse)}"] if worse else []
        lines.append(
            f"- {VARIANTS[variant]}, tasks without labels, against SimCLR with the same seed at "
            f"m = {m}: {'; '.join(said) or 'no change of one sign over the seeds'}."
        )
    return lines


def _by_variant(trained: Sequence[Trained]) -> list[tuple[str, list[Trained]]]:
    return [
        (variant, mine)
        for variant in VARIANTS
        if (mine := [one for one in trained if one.variant == variant])
    ]
