"""The pictures of docs/terminal_phase.md."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from dnc_lightning.functional.imbalance import fitted_frame
from dnc_lightning.records.store import Run
from dnc_lightning.reporting.read.layers import profiles

COLOURS = ("#0072b2", "#d55e00", "#009e73")
GREY = "#7f7f7f"


def draw_numbers(runs: Mapping[str, Run], keys: Mapping[str, str], path: Path) -> None:
    """Draw numbers of the encoder's output over training, a panel each, with those of noise."""
    figure = Figure(figsize=(10, 5.6), layout="constrained")
    panels = figure.subplots(2, 3, sharex=True).flatten()
    for panel, (key, title) in zip(panels, keys.items(), strict=True):
        for (name, run), colour in zip(runs.items(), COLOURS, strict=False):
            prefix = "probe/backbone/label"
            steps, values = run.series(f"{prefix}/{key}")
            panel.plot(np.maximum(steps, 0.5), values, color=colour, linewidth=1.8, label=name)
        noise = next(iter(runs.values())).series(f"{prefix}/{key}_noise")[1]
        if len(noise) and math.isfinite(noise[-1]):
            panel.axhline(noise[-1], color=GREY, linestyle="--", linewidth=1, label="noise")
        panel.set_title(title, fontsize=11)
        panel.set_xscale("log")
        if key == "nc1":
            panel.set_yscale("log")
        else:
            panel.set_ylim(bottom=0)
    figure.supxlabel("optimizer steps", fontsize=10)
    _finish(figure, panels, path)


def draw_layers(runs: Mapping[str, Run], path: Path) -> None:
    """Draw NC1 through the layers before training and at its end, a panel each run."""
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    panels = figure.subplots(1, len(runs), sharey=True, squeeze=False).flatten()
    for panel, (name, run) in zip(panels, runs.items(), strict=True):
        ends = (Run(run.folder, run.header, run.records[:1], ()), run)
        for end, colour, label in zip(ends, (GREY, COLOURS[0]), ("before", "after"), strict=True):
            found = next(profiles(end))
            place = np.arange(len(found.layers))
            panel.plot(place, found.nc1, "o-", color=colour, label=f"{label} training")
            panel.plot(place, found.nc1_noise, ":", color=GREY, label="noise")
        panel.set_xticks(place, found.layers, rotation=30, ha="right", fontsize=8)
        panel.set_yscale("log")
        panel.set_title(name, fontsize=10)
    panels[0].set_ylabel("NC1")
    _finish(figure, panels, path)


def draw_lengths(runs: Mapping[str, tuple[Run, Sequence[int]]], path: Path) -> None:
    """Draw the lengths of rows and means over the counts of training, a panel each run."""
    figure = Figure(figsize=(10, 6.2), layout="constrained")
    panels = figure.subplots(math.ceil(len(runs) / 2), 2, squeeze=False).flatten()
    for panel, (name, (run, given)) in zip(panels, runs.items(), strict=True):
        counts = np.array(given)
        found = run.matrices(run.records[-1])
        rows, means = (
            next(value for key, value in found.items() if key.endswith(f"imbalance/{kind}"))
            for kind in ("row_lengths", "mean_lengths")
        )
        frame, explained = fitted_frame(torch.from_numpy(rows), torch.from_numpy(counts))
        panel.plot(counts, rows / rows.max(), "o", color=COLOURS[0], label="rows of the head")
        panel.plot(counts, means / means.max(), "s", color=COLOURS[1], label="class means")
        label = "orthogonal frame that fits the rows"
        panel.plot(counts, frame.numpy() / rows.max(), color=COLOURS[0], linewidth=1, label=label)
        panel.set_xscale("log")
        ticks = [t for t in (1, 4, 10, 40, 100, 400, 1000) if counts.min() <= t <= counts.max()]
        panel.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        panel.minorticks_off()
        panel.set_ylim(0, 1.2)
        panel.set_title(f"{name}\n(frame explains {max(0.0, explained):.0%})", fontsize=10)
    figure.supylabel("length over the longest", fontsize=10)
    figure.supxlabel("training images of the class", fontsize=10)
    _finish(figure, panels, path)


def _finish(figure: Figure, panels: Any, path: Path) -> None:
    for panel in panels:
        panel.grid(alpha=0.25, linewidth=0.5)
        panel.spines[["top", "right"]].set_visible(False)
    handles, names = panels[0].get_legend_handles_labels()
    unique = dict(zip(names, handles, strict=True))
    figure.legend(
        unique.values(), unique.keys(), loc="outside upper center", ncols=len(unique),
        frameon=False, fontsize=9,
    )  # fmt: skip
    figure.savefig(path, dpi=120)
