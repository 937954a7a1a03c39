"""What a probe of several tasks adds to a run folder."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np

from dnc_lightning.records.store import RecordWriter, read_run

DIM = 64
FLOOR = math.sqrt(2 / (math.pi * DIM))


def add_tasks(folder: Path) -> Path:
    """Add angles between tasks, which fall over training, and parts of variance to a run."""
    rng = np.random.default_rng(11)
    run = read_run(folder)
    stored = [run.matrices(record) for record in run.records]
    header = {key: value for key, value in run.header.items() if key != "version"}
    tasks = header["tasks"]
    writer = RecordWriter(folder)
    writer.open(header)
    writer.truncate_after(-1)
    last = max((record.step for record in run.records), default=1)
    for record, matrices in zip(run.records, stored, strict=True):
        progress = math.log1p(record.step) / math.log1p(max(last, 1))
        scalars = dict(record.scalars)
        for encoder, prefixes in header["prefixes"].items():
            first = next(iter(prefixes))
            base = prefixes[first].removesuffix(first) + "orthogonality"
            for k, (a, b) in enumerate(combinations(tasks, 2)):
                cosine = (0.25 + 0.02 * (k % 7)) * 0.25**progress * rng.uniform(0.9, 1.1)
                scalars |= {
                    f"{base}/{a}-{b}/abs_cos": cosine,
                    f"{base}/{a}-{b}/abs_cos_max": min(1.0, 2.3 * cosine),
                    f"{base}/{a}-{b}/bound": min(1.0, (2.1 + 0.1 * (k % 5)) * 0.3**progress),
                    f"{base}/{a}-{b}/dependence": 0.01 * (k % 11),
                }
            if len(tasks) > 1:
                scalars[f"{base}/floor"] = FLOOR
            for task, names in tasks.items():
                count = math.comb(len(names), 2)
                rows = min(3, count)
                pairs = list(combinations(range(len(names)), 2))
                chosen = [pairs[i] for i in rng.choice(count, rows, replace=False)]
                total = np.array([3.0, 6.0, 11.0])[:rows] * (0.3**progress) * rng.uniform(0.9, 1.1)
                share = np.array([0.004, 0.02, 0.09])[:rows] * (0.2**progress)
                rest = (1 - share) * total
                sums = [share * total, 0.2 * rest, 0.6 * rest, 0.95 * rest, rest]
                if matrices:
                    matrices[f"{encoder}/{task}/variance"] = np.column_stack(sums)
                    matrices[f"{encoder}/{task}/variance_pairs"] = np.array(chosen, dtype=float)
                for name, row in zip(
                    ("best", "median", "worst"), (0, (rows - 1) // 2, -1), strict=True
                ):
                    scalars[f"{prefixes[task]}/axis_share/{name}"] = float(share[row])
        writer.append(replace(record, scalars=scalars, matrices=None), matrices)
    return folder
