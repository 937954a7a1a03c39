"""How the measured few-shot error and its bounds look: lines, bands and the zone above 1."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dnc_lightning.reporting.draw.axes import base_layout, log_ticks, nothing_to_draw, plain
from dnc_lightning.reporting.read.few_shot import MEASURED, SERIES, FewShot, Series
from dnc_lightning.reporting.theme import Theme, faint

NAMES: dict[Series, str] = {
    "few_shot_error": "Measured",
    "certificate": "Certificate",
    "joint": "Joint",
    "theorem_4_1": "Theorem 4.1",
    "luthra_2025": "2025 bound",
}
DASHES: dict[Series, str] = {"joint": "dashdot", "theorem_4_1": "dash", "luthra_2025": "dot"}
SYMBOLS: dict[Series, str] = {
    "few_shot_error": "circle",
    "certificate": "square",
    "joint": "cross",
    "theorem_4_1": "diamond",
    "luthra_2025": "triangle-up",
}
VACUOUS = "above 1 a bound says nothing<br>(compressed scale)"
LARGEST_VACUOUS = 0.45  # of an axis' height, for bounds above 1
LARGEST_SQUEEZE = 0.5
LEAST, MOST = 1e-5, 1e9  # an axis reaches no further
LEAST_HELD = 0.5  # every axis reaches down to here
FOOT, HEAD = 0.06, 0.1  # of an axis' height, left free; the note on the vacuous zone needs the head


@dataclass(frozen=True)
class ErrorScale:
    """A logarithmic axis of error rates on which the bounds above 1 take less room.

    A value up to 1 is drawn where it is, a larger one at value ** `squeeze`: bounds that say
    nothing may span many decades, and would push those that say something to the edge.
    """

    low: float  # log10 of the lower end
    high: float  # log10 of the upper end, as drawn
    squeeze: float  # at most a half

    @classmethod
    def of(cls, few_shot: FewShot, columns: slice = slice(None)) -> ErrorScale:
        """Return the scale for all probes and some of the shots, so that pictures compare."""
        drawn = np.concatenate([few_shot.values[name][:, columns].ravel() for name in SERIES])
        drawn = drawn[np.isfinite(drawn) & (drawn > 0)]
        smallest, largest = (drawn.min(), drawn.max()) if drawn.size else (0.1, 1.0)
        below = -math.log10(np.clip(smallest, LEAST, LEAST_HELD))
        above = math.log10(np.clip(largest, 1.0, MOST))
        room = LARGEST_VACUOUS / (1 - LARGEST_VACUOUS) * below
        squeeze = min(LARGEST_SQUEEZE, room / above) if above else LARGEST_SQUEEZE
        height = below + squeeze * above
        return cls(-below - FOOT * height, squeeze * above + HEAD * height, squeeze)

    @property
    def floor(self) -> float:
        """The value at the lower end, where a zero is drawn."""
        return float(10**self.low)

    def place(self, value: float) -> float:
        """Return where a value is drawn, on a plain logarithmic axis."""
        return max(value, self.floor) if value <= 1 else float(value**self.squeeze)

    def axis(self) -> dict[str, Any]:
        """Return the settings of the axis; its ticks show true values."""
        reach = self.high / self.squeeze
        every = max(1, math.ceil(reach / 4))
        decades = [10.0**decade for decade in range(every, math.floor(reach) + 1, every)]
        ticks = [*log_ticks(self.low, 0.0), *decades]
        return {
            "type": "log",
            "range": [self.low, self.high],
            "tickvals": [self.place(tick) for tick in ticks],
            "ticktext": [
                plain(t) if t < 1e5 else f"10<sup>{round(math.log10(t))}</sup>" for t in ticks
            ],
        }


def line_traces(theme: Theme, mode: str, names: Sequence[Series]) -> list[dict[str, Any]]:
    """Return the lines of bounds or the measured error, in this order, without their values."""
    return [
        {
            "type": "scatter",
            "name": NAMES[name],
            "legendgroup": name,
            "legendrank": SERIES.index(name),
            "mode": mode,
            "line": {
                "color": theme.few_shot(name),
                "width": 2 if name in DASHES else 2.5,
                "dash": DASHES.get(name, "solid"),
            },
            "marker": {"size": 7 if name != MEASURED else 8, "symbol": SYMBOLS[name]},
            "hovertemplate": "%{text}",
        }
        for name in names
    ]


def band_trace(name: Series, theme: Theme) -> dict[str, Any]:
    """Return a band around a series, without its outline; it hides and shows with its line."""
    return {
        "type": "scatter",
        "name": f"{NAMES[name]}, band",
        "legendgroup": name,
        "showlegend": False,
        "mode": "lines",
        "line": {"width": 0},
        "fill": "toself",
        "fillcolor": faint(theme.few_shot(name)),
        "hoverinfo": "skip",
    }


def chance_traces(few_shot: FewShot, theme: Theme, x: Sequence[int]) -> list[dict[str, Any]]:
    """Return the line of guessing across an axis that shows the positions `x`, if it is known."""
    if few_shot.chance is None:
        return []
    return [
        {
            "type": "scatter",
            "name": f"Chance {few_shot.chance:.3g}",
            "legendrank": len(SERIES),
            "mode": "lines",
            "x": [x[0] / 10, x[-1] * 10],  # past both ends of the axis
            "y": [few_shot.chance] * 2,
            "line": {"color": theme.muted, "width": 1.5, "dash": "6px 4px"},
            "hoverinfo": "skip",
        }
    ]


def frame(few_shot: FewShot, theme: Theme) -> dict[str, Any]:
    """Return the layout of both pictures: what lies above 1 is shaded, as it says nothing."""
    layout = base_layout(theme)
    layout["yaxis"]["title"]["text"] = "Error rate"
    layout["shapes"] = [
        {
            "type": "rect",
            "xref": "paper",
            "x0": 0,
            "x1": 1,
            "y0": 1,
            "y1": MOST,
            "layer": "below",
            "fillcolor": theme.sunken,
            "line": {"color": theme.rule, "width": 1},
        }
    ]
    layout["annotations"] = [
        {
            "text": VACUOUS,
            "xref": "paper",
            "yref": "paper",
            "x": 1,
            "xanchor": "right",
            "y": 1,
            "yanchor": "top",
            "showarrow": False,
            "align": "right",
            "bgcolor": theme.sunken,
            "font": {"color": theme.muted, "size": 12},
        }
    ]
    if not any(np.isfinite(values).any() for values in few_shot.values.values()):
        layout["annotations"].append(nothing_to_draw(theme))
    return layout
