"""What every picture shares: type, axes, ticks and the way to a plotly figure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape, unescape
from typing import Any

from dnc_lightning.reporting.optional import require
from dnc_lightning.reporting.theme import FONT, Theme

FEW_POINTS = 60  # up to here each probe gets its own dot on a line over training
MOST_TICKS = 24  # names on an axis
LONGEST_TICK = 16  # characters of a name on an axis; hovering shows all of it


def plotly_script() -> str:
    """Return plotly.js for a page to inline, marked so that browsers read it once less.

    A browser skims a function at first and reads it again when it is called, unless a parenthesis
    stands before it; nearly all of the file is one function that is called at once.

    Raises:
        ModuleNotFoundError: If plotly is not installed.
    """
    require("plotly")
    from plotly.offline import get_plotlyjs

    script: str = get_plotlyjs().rstrip()
    head, factory, body = script.partition(": this, () => {")
    if not (factory and body.endswith("}));")):
        return script  # of another build: as it came
    return f"{head}: this, (() => {{{body.removesuffix('));')})));"


def base_layout(theme: Theme) -> dict[str, Any]:
    """Return the layout that every picture starts from, as plain JSON values."""

    def axis() -> dict[str, Any]:
        return {
            "gridcolor": theme.rule,
            "zeroline": False,
            "automargin": True,
            "tickfont": {"color": theme.muted, "size": 12},
            "title": {"font": {"color": theme.muted, "size": 12}, "standoff": 10},
        }

    return {
        "xaxis": axis(),
        "yaxis": axis(),
        "font": {"family": FONT, "color": theme.ink, "size": 13},
        "paper_bgcolor": theme.panel,
        "plot_bgcolor": theme.panel,
        "margin": {"l": 8, "r": 12, "t": 34, "b": 8},
        "hovermode": "x unified",
        "hoverlabel": {
            "bgcolor": theme.panel,
            "bordercolor": theme.rule,
            "font": {"color": theme.ink},
        },
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        "dragmode": False,
        "uirevision": "kept",
    }


def step_axis(steps: Sequence[int], labels: Sequence[str]) -> dict[str, Any]:
    """Return the settings of a logarithmic axis of optimizer steps, and what hovering shows.

    Positions on it are step + 1, so that the probe before the first step has a place; the ticks
    show true steps.
    """
    last = max([10, *steps])
    right = math.log10(last + 1)
    ticks = [0, *(int(tick) for tick in log_ticks(0.0, math.log10(last)))]
    return {
        "type": "log",
        "range": [-0.04 * right, 1.03 * right],
        "tickvals": [tick + 1 for tick in ticks],
        "ticktext": [short(tick) for tick in ticks],
        # The sign keeps these from being taken for the text of a tick.
        "hoverformat": "+d",
        "labelalias": {f"+{step + 1}": label for step, label in zip(steps, labels, strict=True)},
    }


def log_axis(low: float, high: float) -> dict[str, Any]:
    """Return the settings of a logarithmic axis from 10**low to 10**high."""
    ticks = log_ticks(low, high)
    return {
        "type": "log",
        "range": [low, high],
        "tickvals": ticks,
        "ticktext": [plain(tick) for tick in ticks],
    }


def nothing_to_draw(theme: Theme) -> dict[str, Any]:
    """Return the annotation of a picture without a single value."""
    return {
        "text": "No value is defined yet",
        "x": 0.5,
        "y": 0.5,
        "xref": "paper",
        "yref": "paper",
        "showarrow": False,
        "font": {"color": theme.muted, "size": 14},
    }


def name_ticks(names: Sequence[str]) -> dict[str, Any]:
    """Return the ticks of an axis of names that are escaped already, as many as have room."""
    every = math.ceil(max(1, len(names)) / MOST_TICKS)
    ticks = {"tickvals": list(range(0, len(names), every)), "showgrid": False}
    return ticks | {
        "ticktext": [escape(cut(unescape(name)), quote=False) for name in names[::every]]
    }


def log_ticks(low: float, high: float) -> list[float]:
    """Choose about a dozen ticks from 10**low to 10**high: decades, or 1-2-5 in a short span."""
    if high - low <= 0.7:
        mantissas: tuple[float, ...] = (1, 1.5, 2, 3, 4, 5, 7)
    else:
        mantissas = (1, 2, 5) if high - low <= 2.6 else (1,)
    every = max(1, math.ceil((high - low) / 10))
    decades = range(math.floor(low), math.ceil(high) + 1)
    values = (mantissa * 10.0**decade for decade in decades for mantissa in mantissas
              if decade % every == 0)  # fmt: skip
    return [v for v in values if low - 1e-9 <= math.log10(v) <= high + 1e-9]


def apart(places: Sequence[float]) -> list[float]:
    """Choose those rising places of a logarithmic axis whose ticks have room beside each other."""
    kept = list(places[:1])
    for place in places[1:]:
        if math.log10(place / kept[-1]) >= 0.09 * math.log10(places[-1] / places[0]):
            kept.append(place)
    return kept


def digits(values: Iterable[float], count: int = 5) -> list[float | None]:
    """Return so many digits of each value, None where it is undefined."""
    return [float(f"{v:.{count}g}") if math.isfinite(v) else None for v in values]


def padded(values: Sequence[float]) -> tuple[float, float]:
    """Return log10 of the least and greatest of positive values, with some room around them."""
    low, high = math.log10(min(values)), math.log10(max(values))
    pad = max(0.06 * (high - low), 0.15)
    return low - pad, high + pad


def short(step: int) -> str:
    """Return a step as a tick shows it: "500", "10k", "2.5M"."""
    if step >= 1_000_000:
        return f"{step / 1e6:g}M"
    return f"{step / 1000:g}k" if step >= 10_000 else f"{step:,}"


def plain(value: float) -> str:
    """Return a tick value without an exponent, unless it is very small or large."""
    return f"{value:,.6f}".rstrip("0").rstrip(".") if 1e-5 < value < 1e6 else f"{value:.0e}"


def cut(name: str) -> str:
    """Return a name as a tick shows it, at most `LONGEST_TICK` characters."""
    return name if len(name) <= LONGEST_TICK else name[: LONGEST_TICK - 1] + "…"
