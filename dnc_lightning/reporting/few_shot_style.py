"""How the measured few-shot error and its bounds look: lines, bands and the zone above 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dnc_lightning.reporting.few_shot import BOUNDS, MEASURED, SERIES, FewShot, Series
from dnc_lightning.reporting.plotting import base_layout, nothing_to_draw
from dnc_lightning.reporting.theme import Theme

NAMES: dict[Series, str] = {
    "few_shot_error": "Measured",
    "certificate": "Certificate",
    "theorem_4_1": "Theorem 4.1",
    "luthra_2025": "2025 bound",
}
DASHES: dict[Series, str] = {"theorem_4_1": "dash", "luthra_2025": "dot"}
SYMBOLS: dict[Series, str] = {
    "few_shot_error": "circle",
    "certificate": "square",
    "theorem_4_1": "diamond",
    "luthra_2025": "triangle-up",
}
VACUOUS = "above 1 a bound says nothing"
TOP = 1e9  # far above every axis


def line_traces(theme: Theme, mode: str) -> list[dict[str, Any]]:
    """Return the lines of the bounds, then that of the measured error, without their values."""
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
        for name in (*BOUNDS, MEASURED)
    ]


def band_trace(name: Series, theme: Theme) -> dict[str, Any]:
    """Return a band around a series, without its outline; it hides and shows with its line."""
    red, green, blue = bytes.fromhex(theme.few_shot(name).removeprefix("#"))
    return {
        "type": "scatter",
        "name": f"{NAMES[name]}, band",
        "legendgroup": name,
        "showlegend": False,
        "mode": "lines",
        "line": {"width": 0},
        "fill": "toself",
        "fillcolor": f"rgba({red}, {green}, {blue}, 0.18)",
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
            "y1": TOP,
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
            "bgcolor": theme.sunken,
            "borderpad": 3,
            "font": {"color": theme.muted, "size": 12},
        }
    ]
    if not any(np.isfinite(values).any() for values in few_shot.values.values()):
        layout["annotations"].append(nothing_to_draw(theme))
    return layout
