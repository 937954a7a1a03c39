"""What a page shows of every pair of classes: its matrices, and the worst pairs in words."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from dnc_lightning.records.store import Run
from dnc_lightning.reporting.charts.collapse import pair_matrix
from dnc_lightning.reporting.draw.plotly import plotly_spec
from dnc_lightning.reporting.page.book import frame
from dnc_lightning.reporting.page.tiles import FALLING
from dnc_lightning.reporting.read.views import METRICS, PairStack, View, moment
from dnc_lightning.reporting.theme import LOOKS
from dnc_lightning.reporting.words import NONE, change, in_digits


def pairs_data(run: Run, view: View, stack: PairStack) -> dict[str, Any]:
    """Return the quantised matrices of the probes that are kept, and the table of each."""
    classes = [view.classes[index] for index in stack.chosen]
    records = [run.records[position] for position in stack.positions]
    notes = []
    if len(records) < len(run.records):
        notes.append(f"{len(records)} of {len(run.records)} probes are kept here.")
    if len(classes) < len(view.classes):
        notes.append(
            f"Of {len(view.classes):,} classes, the {len(classes)} with the worst pairs at the "
            "last probe are shown."
        )
    metrics: dict[str, Any] = {
        metric: {
            "title": LOOKS[metric].title,
            "bounds": stack.bounds[metric],
            "codes": base64.b64encode(stack.codes[metric].astype("<u2").tobytes()).decode(),
            "figure": frame(
                plotly_spec(
                    pair_matrix(metric, classes, stack.values(metric, -1), stack.bounds[metric])
                )
            ),
        }
        for metric in METRICS
    }
    return {
        "classes": classes,
        "chosen": stack.chosen,
        "steps": [record.step for record in records],
        "labels": [moment(record) for record in records],
        "note": " ".join(notes),
        "worst": _worst_rows(stack),
        **metrics,
    }


def _worst_rows(stack: PairStack) -> list[list[list[Any]]]:
    """Of each probe the worst pairs: both classes, both metrics, and the change since the start."""
    tables = []
    for at in range(len(stack.positions)):
        i, j = np.array(stack.worst(at), dtype=np.int64).reshape(-1, 2).T
        start, now = (stack.values("directional_cdnv", (k, i, j)).tolist() for k in (0, at))
        since = [
            change(a, b, FALLING).text if at else NONE for a, b in zip(start, now, strict=True)
        ]
        both = stack.values("cdnv", (at, i, j)).tolist()
        rows = (i.tolist(), j.tolist(), map(in_digits, now), map(in_digits, both), since)
        tables.append(list(map(list, zip(*rows, strict=True))))
    return tables
