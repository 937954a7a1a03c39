"""Measured few-shot error against its bounds: by shots at one probe, and over training.

Each picture comes in two parts, so that a page of hundreds of probes stays small: a frame that does
not change (`*_spec`), and what the chosen probe or number of shots puts into it (`*_traces`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dnc_lightning.reporting.few_shot import BOUNDS, MEASURED, SERIES, FewShot, Series
from dnc_lightning.reporting.few_shot_style import band_trace, chance_traces, frame, line_traces
from dnc_lightning.reporting.plotting import (
    FEW_POINTS,
    figure_from,
    log_axis,
    log_ticks,
    padded,
    plain,
    step_axis,
)
from dnc_lightning.reporting.theme import LIGHT, Theme

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

LEAST, MOST = 1e-5, 1e3  # an axis reaches no further: above it every bound is as empty
STANDARD_ERRORS = 2  # either way, of an error bar or band

Matrix = NDArray[np.float64]


def shots_figure(few_shot: FewShot, at: int = -1, theme: Theme = LIGHT) -> Figure:
    """Draw error and bounds against shots at one probe, both axes logarithmic.

    The vertical axis is the same for every probe, so that pictures compare. A zero lies on its
    lower end, and values above 1,000 lie outside.

    Args:
        few_shot: What to draw.
        at: Which probe, an index into `few_shot.steps`.
        theme: Colours.

    Returns:
        A figure of the interval of the certificate, the bounds, the measured error with bars of
        two standard errors either way, and the error of guessing.

    Raises:
        ModuleNotFoundError: If plotly is not installed.
    """
    return _filled(shots_spec(few_shot, theme), shots_traces(few_shot)[at])


def tightness_figure(few_shot: FewShot, shots: int, theme: Theme = LIGHT) -> Figure:
    """Draw error and bounds for one number of shots over training, both axes logarithmic.

    Args:
        few_shot: What to draw.
        shots: One of `few_shot.shots`.
        theme: Colours.

    Returns:
        A figure like `shots_figure`, the bars drawn as a band.

    Raises:
        ModuleNotFoundError: If plotly is not installed.
        ValueError: If nothing was recorded for `shots`.
    """
    if shots not in few_shot.shots:
        raise ValueError(f"expected shots among {few_shot.shots}, got {shots}: choose one of those")
    column = few_shot.shots.index(shots)
    spec = tightness_spec(few_shot, theme)
    spec["layout"]["yaxis"] |= tightness_axis(few_shot, column)
    return _filled(spec, tightness_traces(few_shot, column))


def shots_spec(few_shot: FewShot, theme: Theme) -> dict[str, Any]:
    """Return the frame of `shots_figure` as plain JSON values."""
    low, high = (math.log10(few_shot.shots[end]) for end in (0, -1))
    pad = max(0.05 * (high - low), 0.04)
    layout = frame(few_shot, theme)
    layout["xaxis"] |= {
        "type": "log",
        "range": [low - pad, high + pad],
        "tickvals": (ticks := _apart(few_shot.shots)),
        "ticktext": [f"{m:,}" for m in ticks],
        "unifiedhovertitle": {"text": "%{x:,} labelled samples per class"},
    }
    layout["xaxis"]["title"]["text"] = "Labelled samples per class, m"
    layout["yaxis"] |= _axis(few_shot, slice(None))
    traces = [band_trace("certificate", theme), *line_traces(theme, "lines+markers")]
    traces[-1]["error_y"] = {"type": "data", "array": [], "thickness": 1.5, "width": 5}
    return {"data": [*traces, *chance_traces(few_shot, theme, few_shot.shots)], "layout": layout}


def shots_traces(few_shot: FewShot) -> list[list[dict[str, Any]]]:
    """Return what each probe puts into the traces of `shots_spec`, in their order, K lists."""
    floor = 10 ** _limits(few_shot, slice(None))[0]
    bars = STANDARD_ERRORS * np.nan_to_num(few_shot.error_se)
    shots = list(few_shot.shots)
    probes = []
    for at in range(len(few_shot.steps)):
        lines = [
            {"x": shots, **_heights(few_shot, name, (at, slice(None)), floor)}
            for name in (*BOUNDS, MEASURED)
        ]
        lines[-1]["error_y"] = {"array": [_rounded(bar) for bar in bars[at]]}
        probes.append([outline(shots, few_shot.low[at], few_shot.high[at], floor), *lines])
    return probes


def tightness_spec(few_shot: FewShot, theme: Theme) -> dict[str, Any]:
    """Return the frame of `tightness_figure` as plain JSON values, without its vertical axis."""
    layout = frame(few_shot, theme)
    last = int(few_shot.steps.max(initial=0))
    layout["xaxis"] |= step_axis(last)
    layout["xaxis"]["title"]["text"] = "Optimizer steps"
    mode = "lines+markers" if len(few_shot.steps) <= FEW_POINTS else "lines"
    lines = line_traces(theme, mode)
    for trace in lines:
        trace["customdata"] = list(few_shot.labels)
    traces = [band_trace("certificate", theme), band_trace(MEASURED, theme), *lines]
    return {
        "data": [*traces, *chance_traces(few_shot, theme, [1, max(last, 10) + 1])],
        "layout": layout,
    }


def tightness_traces(few_shot: FewShot, column: int) -> list[dict[str, Any]]:
    """Return what one number of shots puts into the traces of `tightness_spec`, in their order."""
    floor = 10 ** _limits(few_shot, slice(column, column + 1))[0]
    x = (few_shot.steps + 1).tolist()
    error = few_shot.values[MEASURED][:, column]
    bar = STANDARD_ERRORS * few_shot.error_se[:, column]
    return [
        outline(x, few_shot.low[:, column], few_shot.high[:, column], floor),
        outline(x, error - bar, error + bar, floor),
        *(
            {"x": x, **_heights(few_shot, name, (slice(None), column), floor)}
            for name in (*BOUNDS, MEASURED)
        ),
    ]


def tightness_axis(few_shot: FewShot, column: int) -> dict[str, Any]:
    """Return the vertical axis of `tightness_figure` for one number of shots."""
    return _axis(few_shot, slice(column, column + 1))


def outline(x: Sequence[int], low: Matrix, high: Matrix, floor: float) -> dict[str, Any]:
    """Return the outline of a band: one closed polygon per stretch without a gap.

    Args:
        x: Positions, [N].
        low: Lower edge [N], nan at a gap; drawn at `floor` at the least.
        high: Upper edge [N].
        floor: Lower end of the axis.

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
        ys += [*([None] if ys else []), *(_rounded(max(side[i], floor)) for side, i in edge)]
    return {"x": xs, "y": ys}


def _heights(few_shot: FewShot, name: Series, where: Any, floor: float) -> dict[str, Any]:
    values = few_shot.values[name][where]
    defined = np.isfinite(values) & (values >= 0)
    words = [f"{value:.3g}" for value in values]
    if name == MEASURED:
        errors = few_shot.error_se[where]
        words = [
            f"{word} ± {error:.2g}" if error >= 0 else word
            for word, error in zip(words, errors, strict=True)
        ]
    return {
        "y": [_rounded(max(v, floor)) if d else None for v, d in zip(values, defined, strict=True)],
        "text": [word if d else "" for word, d in zip(words, defined, strict=True)],
    }


def _axis(few_shot: FewShot, columns: slice) -> dict[str, Any]:
    low, high = _limits(few_shot, columns)
    decades = [10.0**decade for decade in range(1, math.floor(high) + 1)]
    ticks = [*log_ticks(low, 0.0), *decades]  # finest where the bounds say something
    return log_axis(low, high) | {"tickvals": ticks, "ticktext": [plain(tick) for tick in ticks]}


def _limits(few_shot: FewShot, columns: slice) -> tuple[float, float]:
    drawn = np.concatenate([few_shot.values[name][:, columns].ravel() for name in SERIES])
    drawn = drawn[np.isfinite(drawn) & (drawn > 0)]
    return padded(np.clip([*drawn, 1.0, few_shot.chance or 0.5], LEAST, MOST).tolist())


def _apart(shots: Sequence[int]) -> list[int]:
    span = math.log10(shots[-1] / shots[0])
    kept = [shots[0]]
    for m in shots[1:]:
        if math.log10(m / kept[-1]) >= 0.09 * span:
            kept.append(m)
    return kept


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def _filled(spec: dict[str, Any], traces: Sequence[dict[str, Any]]) -> Figure:
    figure = figure_from(spec)
    for trace, values in zip(figure.data, traces, strict=False):
        trace.update(values)
    return figure
