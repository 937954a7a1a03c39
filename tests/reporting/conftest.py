"""Run folders made up on the spot, with the shapes and the trends of real ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dnc_lightning.reporting.records import Record, RecordWriter

FASHION = ["T-shirt/top", "trouser", "pullover", "dress", "coat"]
FASHION += ["sandal", "shirt", "sneaker", "bag", "ankle boot"]


def log_spaced(count: int, last: int = 1585) -> list[int]:
    """Return `count` distinct rising steps from 0 to about `last`, dense at the start."""
    steps = [0][:count]
    for k in range(1, count):
        steps.append(max(steps[-1] + 1, round((last + 1) ** (k / max(count - 1, 1))) - 1))
    return steps


def write_run(
    folder: Path,
    *,
    records: int = 24,
    tasks: dict[str, list[str]] | None = None,
    encoders: tuple[str, ...] = ("backbone",),
    undefined: bool = False,
    matrices: bool = True,
    warnings: tuple[str, ...] = (),
    header: dict[str, Any] | None = None,
) -> Path:
    """Write a run folder; directional CDNV falls faster than CDNV, unresolved pairs come first."""
    tasks = tasks or {"label": FASHION}
    rng = np.random.default_rng(7)
    many = len(encoders) > 1
    prefixes = {e: {t: f"probe/{e}/{t}" if many else f"probe/{t}" for t in tasks} for e in encoders}
    writer = RecordWriter(folder)
    writer.open(
        {
            "name": "probe",
            "model": "SimCLR",
            "encoders": list(encoders),
            "tasks": tasks,
            "prefixes": prefixes,
            "probe": {
                "size": 1000,
                "per_class": {task: [100] * len(names) for task, names in tasks.items()},
                "seed": 0,
                "image_shape": [3, 32, 32],
                "dtype": "uint8",
            },
            "pooling": "auto",
            "normalize": False,
            "precision": "32-true",
            "shots": [1, 5, 10],
            "device": "cpu",
            "world_size": 1,
            "versions": {"dnc_lightning": "0.1.0", "torch": "2.14.1", "lightning": "2.6.6"},
            "started": "2026-11-22T02:30:00",
            **(header or {}),
        }
    )
    levels = {
        (e, t): np.exp(rng.normal(0, 0.7, (len(names), len(names))))
        for e in encoders
        for t, names in tasks.items()
    }
    for step in log_spaced(records):
        progress = math.log1p(step) / math.log1p(1585)
        scalars: dict[str, float] = {}
        uncalibrated: dict[str, float] = {}
        stored: dict[str, np.ndarray] = {}
        for (encoder, task), level in levels.items():
            wiggle = 1 + 0.08 * rng.normal()
            directional = 1.4 * level * ((0.06 / level**0.3) ** (progress**1.3)) * wiggle
            cdnv = 21.0 * (level + level.T) / 2 * (0.3**progress) * wiggle
            for matrix in (directional, cdnv):
                np.fill_diagonal(matrix, np.nan)
                if undefined:
                    matrix[:] = np.nan
            prefix = prefixes[encoder][task]
            for name, matrix in (("cdnv", cdnv), ("directional_cdnv", directional)):
                known = matrix[np.isfinite(matrix)]
                mean = float(known.mean()) if known.size else math.nan
                scalars[f"{prefix}/{name}"] = mean
                scalars[f"{prefix}/{name}_median"] = float(np.median(known)) if known.size else mean
                scalars[f"{prefix}/{name}_unbiased"] = mean * 1.15 if step else math.nan
                stored[f"{encoder}/{task}/{name}"] = matrix
                if step == 0:
                    uncalibrated[f"{prefix}/{name}"] = mean * (0.6 if name == "cdnv" else 2.4)
            scalars[f"{prefix}/resolved_pairs"] = 0.0 if undefined else min(1.0, 0.7 + progress / 3)
        scalars |= {"probe/seconds": 0.41, "probe/overhead": 0.0083}
        note = "BatchNorm statistics calibrated on 4 probe batches; both values are kept"
        writer.append(
            Record(
                step=step,
                epoch=step // 40,
                time=0.2 * step,
                scalars=scalars,
                uncalibrated=uncalibrated,
                notes=(note,) if step == 0 else (),
                warnings=warnings,
            ),
            stored if matrices else {},
        )
    return folder


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Return `write_run` with a folder of its own for each call."""
    made = iter(range(1000))

    def make(**options: Any) -> Path:
        return write_run(tmp_path / f"run-{next(made)}", **options)

    return make
