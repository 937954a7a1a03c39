"""CDNV, directional CDNV and measured error through the layers of an encoder."""

from __future__ import annotations

import numpy as np

from dnc_lightning.reporting.charts.values import Axis, Chart, Line, decades
from dnc_lightning.reporting.read.layers import SLACK, Profile, effective_depth, law_of
from dnc_lightning.reporting.read.views import METRICS
from dnc_lightning.reporting.theme import LOOKS
from dnc_lightning.reporting.words import in_digits

LAYERS = Axis("Layer", "names")
SEPARATION = "NC1 by layer"
ERRORS = "Measured error by layer"
HEADROOM = 0.06  # of an axis' height


def layer_charts(found: Profile) -> list[Chart]:
    """Return one chart of CDNV and directional CDNV, and one of the error if it was measured."""
    x = tuple(map(float, range(len(found.layers))))
    lines = [_line(metric, x, found.values[metric]) for metric in METRICS]
    noise = [
        Line(f"{LOOKS[metric].title} of noise", x, found.noise[metric], "reference", k, dash="dot")
        for k, metric in enumerate(METRICS)
        if np.isfinite(found.noise[metric]).any()
    ]
    every = np.concatenate([np.array(line.y) for line in (*lines, *noise)])
    charts = [
        Chart(
            "CDNV by layer",
            LAYERS,
            Axis("Within-class variance / squared distance", "log"),
            (*lines, *noise),
            labels=found.layers,
            range=decades(every),
        )
    ]
    if found.shots is not None and np.isfinite(found.error).any():
        top = float(np.nanmax(found.error))
        charts.append(
            Chart(
                ERRORS,
                LAYERS,
                Axis(f"Error with {found.shots} labels", "linear"),
                (_line("few_shot_error", x, found.error),),
                labels=found.layers,
                range=(0.0, top * (1 + HEADROOM) if top > 0 else 1.0),
            )
        )
    if np.isfinite(found.nc1).any():
        charts.append(_separation(found, x))
    return charts


def _separation(found: Profile, x: tuple[float, ...]) -> Chart:
    lines = [Line("NC1", x, found.nc1, "plain")]
    if np.isfinite(found.nc1_noise).any():
        lines.append(Line("NC1 of noise", x, found.nc1_noise, "reference", dash="dot"))
    return Chart(
        SEPARATION,
        LAYERS,
        Axis("tr(S_W S_B^+) / K", "log"),
        tuple(lines),
        labels=found.layers,
        range=decades(np.concatenate([np.array(line.y) for line in lines])),
    )


def words_of(chart: Chart, found: Profile) -> str:
    """What is said below a chart of layers; empty for nothing."""
    said = {SEPARATION: law_words, ERRORS: depth_words}.get(chart.title)
    return said(found) if said else ""


def law_words(found: Profile) -> str:
    """How evenly NC1 falls through the layers; empty where too few have it."""
    law = law_of(found.nc1)
    if law is None:
        return ""
    return (
        f"A layer divides it by {in_digits(law.factor)} on average; its logarithm and depth "
        f"correlate by {law.correlation:.2f}, -1 where every layer divides it alike."
    )


def depth_words(found: Profile) -> str:
    """From which layer on the error is that of the best one; empty where it was not measured."""
    place = effective_depth(found.error)
    if place is None:
        return ""
    return (
        f"Effective depth: {place + 1} of {len(found.layers)} layers. {found.layers[place]} is the "
        f"first that errs at most {SLACK:g} more than the best."
    )


def _line(name: str, x: tuple[float, ...], y: tuple[float, ...]) -> Line:
    look = LOOKS[name]
    return Line(look.title, x, y, look.role, dash=look.dash, marker=look.marker)
