"""What a page shows of the series that no special chart draws, as plain JSON values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from dnc_lightning.records.archives import ReadMatrix
from dnc_lightning.records.store import Run
from dnc_lightning.reporting.charts.general import chart_of
from dnc_lightning.reporting.charts.layers import layer_charts, words_of
from dnc_lightning.reporting.charts.values import Matrix
from dnc_lightning.reporting.draw.plotly import plotly_spec
from dnc_lightning.reporting.read.layers import profiles
from dnc_lightning.reporting.read.series import Further, further, grouped
from dnc_lightning.reporting.words import change, in_digits, sentence

LAYERS_MEANING = (
    "At the last probe, from the first layer that runs to what the encoder returns. Noise in as "
    "many dimensions is what a layer shows that knows nothing."
)

VALUES = 200_000  # of all series together: about 2 MB


def further_data(run: Run, read_matrix: ReadMatrix) -> list[dict[str, Any]]:
    """Return one entry for each series at each place, those of a group together."""
    rows = max(1, sum(len(record.scalars) for record in run.records[-1:]))
    found = further(run, max_probes=VALUES // rows, read_matrix=read_matrix)
    entries = [_entry(entry) for group in grouped(found).values() for entry in group]
    return [*_layers(run), *entries]


def _layers(run: Run) -> Iterator[dict[str, Any]]:
    """Yield charts of what every layer shows, of encoders whose layers were all probed."""
    for found in profiles(run):
        for chart in layer_charts(found):
            yield {
                "encoder": None,  # of all encoders that are its layers
                "task": found.task,
                "group": " of ".join(filter(None, ["Through the layers", found.encoder])),
                "title": chart.title,
                "meaning": LAYERS_MEANING,
                "square": False,
                "when": words_of(chart, found),
                "figure": plotly_spec(chart),
                "now": None,
                "detail": [],
            }


def _entry(found: Further) -> dict[str, Any]:
    series, tracks, chart = found.series, found.tracks(), chart_of(found)
    entry: dict[str, Any] = {
        "encoder": found.place.encoder,
        "task": found.place.task,
        "group": series.group,
        "title": series.title,
        "meaning": sentence(series.meaning),
        "square": found.kind == "matrix",
        "when": chart.shown if isinstance(chart, Matrix) else "",
        "figure": plotly_spec(chart),
        "now": None,
        "detail": [],
    }
    if len(tracks) != 1:
        return entry
    (track,) = tracks
    moved = change(track.first, track.last, series)
    text = moved.text if len(track.steps) > 1 else ""
    hint = None if moved.better is None else "better" if moved.better else "worse"
    return entry | {
        "title": track.title,
        "now": in_digits(track.last, series.digits, series.unit),
        "detail": [[text, "down" if moved.better else ""], f" {_since(found)}"],
        "hint": hint and f"{hint} than at the first probe",
    }


def _since(found: Further) -> str:
    """Where a number started, what was best of it and what it compares with, in words."""
    series, (track,) = found.series, found.tracks()
    parts: list[str] = []
    if len(track.steps) > 1:
        parts.append(f"from {in_digits(track.first, series.digits)} at step {track.steps[0]:,}")
    if track.best is not None and track.best[1] != track.last:
        step, value = track.best
        parts.append(f"best {in_digits(value, series.digits)} at step {step:,}")
    return "; ".join([*parts, *reference_words(found)])


def reference_words(found: Further) -> Sequence[str]:
    """Return each reference and its value, at the last probe where it changes."""
    digits = found.series.digits
    return [
        f"{name} {in_digits(value if isinstance(value, float) else float(value[-1]), digits)}"
        for name, value in found.references
    ]
