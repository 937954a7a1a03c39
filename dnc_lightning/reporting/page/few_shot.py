"""Measured few-shot error against its bounds: by shots at one probe, and over training.

Each picture comes in two parts, so that a page of hundreds of probes stays small: a frame that does
not change (`*_spec`), and what the chosen probe or number of shots puts into it (`*_traces`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnc_lightning.reporting.draw.axes import (
    FEW_POINTS,
    apart,
    step_axis,
)
from dnc_lightning.reporting.page.few_shot_style import (
    ErrorScale,
    band_trace,
    chance_traces,
    frame,
    line_traces,
)
from dnc_lightning.reporting.read.few_shot import BOUNDS, JOINT, MEASURED, TRACKED, FewShot, Series
from dnc_lightning.reporting.theme import Theme
from dnc_lightning.reporting.words import bound_words, measured_words

STANDARD_ERRORS = 2  # either way, of an error bar or band
# What is measured lies in front.
AT_PROBE: tuple[Series, ...] = (*BOUNDS, MEASURED)
OVER_TRAINING: tuple[Series, ...] = (*(name for name in TRACKED if name != MEASURED), MEASURED)

Matrix = NDArray[np.float64]


def shots_spec(few_shot: FewShot, theme: Theme) -> dict[str, Any]:
    """Return the frame of error and bounds against shots at one probe, both axes logarithmic.

    The vertical axis is the same for every probe, so that pictures compare; above 1, where bounds
    say nothing, it is compressed (see `ErrorScale`). A zero lies on its lower end.
    """
    low, high = (math.log10(few_shot.shots[end]) for end in (0, -1))
    pad = max(0.05 * (high - low), 0.04)
    layout = frame(few_shot, theme)
    layout["xaxis"] |= {
        "type": "log",
        "range": [low - pad, high + pad],
        "tickvals": (ticks := apart(few_shot.shots)),
        "ticktext": [f"{m:,}" for m in ticks],
        "unifiedhovertitle": {"text": "%{x:,} labelled samples per class"},
    }
    layout["xaxis"]["title"]["text"] = "Labelled samples per class, m"
    layout["yaxis"] |= ErrorScale.of(few_shot).axis()
    traces = [band_trace("certificate", theme), *line_traces(theme, "lines+markers", AT_PROBE)]
    traces[-1]["error_y"] = {"type": "data", "array": [], "thickness": 1.5, "width": 5}
    return {"data": [*traces, *chance_traces(few_shot, theme, few_shot.shots)], "layout": layout}


def shots_traces(few_shot: FewShot) -> list[list[dict[str, Any]]]:
    """Return what each probe puts into the traces of `shots_spec`, in their order, K lists."""
    scale = ErrorScale.of(few_shot)
    bars = STANDARD_ERRORS * np.nan_to_num(few_shot.error_se)
    shots = list(few_shot.shots)
    probes = []
    for at in range(len(few_shot.steps)):
        lines = [
            {"x": shots, **_heights(few_shot, name, (at, slice(None)), scale)} for name in AT_PROBE
        ]
        held = bool(np.isfinite(few_shot.values[JOINT][at]).any())
        lines[AT_PROBE.index(JOINT)]["showlegend"] = held
        lines[-1]["error_y"] = {"array": [_rounded(bar) for bar in bars[at]]}
        probes.append([outline(shots, few_shot.low[at], few_shot.high[at], scale), *lines])
    return probes


def tightness_spec(few_shot: FewShot, theme: Theme) -> dict[str, Any]:
    """Return the frame of error and bounds for one number of shots over training.

    As `shots_spec`, without the joint certificate and the vertical axis, the bars drawn as a band.
    """
    layout = frame(few_shot, theme)
    last = int(few_shot.steps.max(initial=0))
    layout["xaxis"] |= step_axis(few_shot.steps.tolist(), few_shot.labels)
    layout["xaxis"]["title"]["text"] = "Optimizer steps"
    mode = "lines+markers" if len(few_shot.steps) <= FEW_POINTS else "lines"
    bands = [band_trace("certificate", theme), band_trace(MEASURED, theme)]
    traces = [*bands, *line_traces(theme, mode, OVER_TRAINING)]
    return {
        "data": [*traces, *chance_traces(few_shot, theme, [1, max(last, 10) + 1])],
        "layout": layout,
    }


def tightness_traces(few_shot: FewShot, column: int) -> list[dict[str, Any]]:
    """Return what one number of shots puts into the traces of `tightness_spec`, in their order."""
    scale = ErrorScale.of(few_shot, slice(column, column + 1))
    x = (few_shot.steps + 1).tolist()
    error = few_shot.values[MEASURED][:, column]
    bar = STANDARD_ERRORS * few_shot.error_se[:, column]
    return [
        outline(x, few_shot.low[:, column], few_shot.high[:, column], scale),
        outline(x, error - bar, error + bar, scale),
        *(
            {"x": x, **_heights(few_shot, name, (slice(None), column), scale)}
            for name in OVER_TRAINING
        ),
    ]


def tightness_axis(few_shot: FewShot, column: int) -> dict[str, Any]:
    """Return the vertical axis of `tightness_spec` for one number of shots."""
    return ErrorScale.of(few_shot, slice(column, column + 1)).axis()


def outline(x: Sequence[int], low: Matrix, high: Matrix, scale: ErrorScale) -> dict[str, Any]:
    """Return the outline of a band: one closed polygon per stretch without a gap.

    Args:
        x: Positions, [N].
        low: Lower edge [N], nan at a gap.
        high: Upper edge [N].
        scale: Where values are drawn.

    Returns:
        "x" and "y" of the polygons, None between two of them; a lone point has no area.
    """
    defined = np.isfinite(low) & np.isfinite(high) & (high > 0)
    ends = [-1, *np.flatnonzero(~defined).tolist(), len(x)]
    xs: list[int | None] = []
    ys: list[float | None] = []
    for before, after in pairwise(ends):
        stretch = range(before + 1, after)
        if len(stretch) < 2:
            continue
        xs += [*([None] if xs else []), *(x[i] for i in stretch), *(x[i] for i in stretch[::-1])]
        edge = [(high, i) for i in stretch] + [(low, i) for i in stretch[::-1]]
        ys += [*([None] if ys else []), *(_rounded(scale.place(side[i])) for side, i in edge)]
    return {"x": xs, "y": ys}


def _heights(few_shot: FewShot, name: Series, where: Any, scale: ErrorScale) -> dict[str, Any]:
    values = few_shot.values[name][where]
    defined = np.isfinite(values) & (values >= 0)
    if name == MEASURED:
        words = list(map(measured_words, values, few_shot.error_se[where]))
    else:
        words = list(map(bound_words, values))
    return {
        "y": [
            _rounded(scale.place(v)) if d else None for v, d in zip(values, defined, strict=True)
        ],
        "text": [word if d else "" for word, d in zip(words, defined, strict=True)],
    }


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
