"""Runs with series that no special chart draws: of every kind, declared and undeclared."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dnc_lightning.records.store import RecordWriter, read_run
from dnc_lightning.series import Reference, Series
from tests.reporting.conftest import write_run

TASKS = {"colour": ["red", "yellow", "green", "blue"], "shape": ["circle", "square"]}
KNN = Series(
    key="knn_accuracy",
    title="Nearest-neighbour accuracy",
    meaning="How often the class of an image is that of most of its 20 nearest neighbours.",
    group="Neighbours",
    low=0.0,
    high=1.0,
    direction="higher",
    references=(Reference("chance", 0.25),),
    role="measured",
)
RANK = Series(
    key="rank",
    title="Effective rank",
    meaning="How many directions the features use.",
    group="Spread",
    unit="dims",
    direction="higher",
    scale="log",
    references=(Reference("of random features", "rank_floor"),),
)
FLOOR = Series(key="rank_floor", title="Floor of the rank", meaning="Random.", group="Spread")
PROBE = Series(
    key="linear_error/{m}",
    title="Linear error",
    meaning="Error of a linear classifier of m labelled samples per class.",
    group="Neighbours",
    direction="lower",
    scale="log",
)
SHARED = Series(
    key="{a}-{b}/cka",
    title="CKA of two tasks",
    meaning="How alike the two are.",
    group="Spread",
    scope="tasks",
)
CONFUSION = Series(
    key="confusion",
    title="Confusion",
    meaning="How often one class is taken for the other.",
    group="Neighbours",
    axes=("class", "class"),
)
SPECTRUM = Series(
    key="spectrum",
    title="Spectrum",
    meaning="Variance of each direction.",
    group="Spread",
    scale="log",
    axes=("direction",),
)
DECLARED = (KNN, RANK, FLOOR, PROBE, SHARED, CONFUSION, SPECTRUM)


def further_run(
    folder: Path,
    declared: Sequence[Series] | None = DECLARED,
    header: dict[str, Any] | None = None,
    **options: Any,
) -> Path:
    """Write a run with all of `DECLARED`, and two numbers that no header declares."""
    given = {"tasks": TASKS, "records": 8, **options}
    source = read_run(write_run(folder.with_name(f"{folder.name}-source"), **given))
    told = {} if declared is None else {"series": [series.to_json() for series in declared]}
    kept = {key: value for key, value in source.header.items() if key != "version"}
    writer = RecordWriter(folder)
    writer.open({**kept, **told, **(header or {})})
    for k, record in enumerate(source.records):
        scalars, stored = dict(record.scalars), dict(source.matrices(record))
        for encoder, prefixes in source.header["prefixes"].items():
            for task, prefix in prefixes.items():
                scalars |= {
                    f"{prefix}/knn_accuracy": 0.3 + 0.08 * min(k, 6),
                    f"{prefix}/rank": 4.0 * 1.5**k,
                    f"{prefix}/rank_floor": 3.0 + 0.1 * k,
                    f"{prefix}/apart/near": 1.0 + k,
                    f"{prefix}/apart/far": 2.0 - k,
                    f"{prefix}/odd_one": math.nan if k == 2 else 0.5 * k,
                }
                scalars |= {
                    f"{prefix}/linear_error/{m}": 0.7 / (1 + k) / m**0.3
                    for m in source.header["shots"]
                }
                classes = len(source.header["tasks"][task])
                confusion = np.arange(classes**2, dtype=float).reshape(classes, classes) / (1 + k)
                stored[f"{encoder}/{task}/confusion"] = confusion
                stored[f"{encoder}/{task}/spectrum"] = 0.5 ** np.arange(12.0) * (1 + k)
            if len(prefixes) > 1:
                base = next(iter(prefixes.values())).rsplit("/", 1)[0]
                scalars[f"{base}/orthogonality/colour-shape/cka"] = 0.6 - 0.02 * k
        writer.append(dataclasses.replace(record, scalars=scalars), stored)
    return folder
