"""The pictures of a page as plotly figures, which check what they are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from dnc_lightning.reporting.page.few_shot import (
    shots_spec,
    shots_traces,
    tightness_axis,
    tightness_spec,
    tightness_traces,
)
from dnc_lightning.reporting.read.few_shot import FewShot
from dnc_lightning.reporting.theme import LIGHT, Theme


def as_figure(spec: dict[str, Any], traces: Sequence[dict[str, Any]] = ()) -> go.Figure:
    """Return a frame and what goes into its first traces as a figure, as the page's script does."""
    figure = go.Figure(spec).update_layout(template="none")
    for trace, values in zip(figure.data, traces, strict=False):
        trace.update(values)
    return figure


def shots_figure(numbers: FewShot, at: int = -1, theme: Theme = LIGHT) -> go.Figure:
    return as_figure(shots_spec(numbers, theme), shots_traces(numbers)[at])


def tightness_figure(numbers: FewShot, shots: int) -> go.Figure:
    spec, column = tightness_spec(numbers, LIGHT), numbers.shots.index(shots)
    spec["layout"]["yaxis"] |= tightness_axis(numbers, column)
    return as_figure(spec, tightness_traces(numbers, column))
