"""Small labelled data sets in the styles that people write."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image

from dnc_lightning import ProbeSet

IMAGE = torch.zeros(3, 4, 4, dtype=torch.uint8)


class Items(list):
    """A map-style data set with attributes."""

    def __init__(self, items: list[Any], **attributes: Any) -> None:
        super().__init__(items)
        self.__dict__.update(attributes)


def labelled(items: Any, /, **attributes: Any) -> Items:
    return Items([(IMAGE, label) for label in items], **attributes)


def rows(**columns: list[Any]) -> Items:
    n = len(next(iter(columns.values())))
    return Items([{"image": IMAGE} | {k: v[i] for k, v in columns.items()} for i in range(n)])


def found(dataset: Any, labels: Any = None) -> dict[str, list[str]]:
    """Task -> class name of every sample of the whole data set."""
    probe = ProbeSet(dataset, per_class=1, labels=labels)
    return {
        name: [task.classes[label] for label in task.labels.tolist()]
        for name, task in probe._all_tasks.items()
    }


def folder(root: Path, n: int = 40, classes: int = 4) -> Path:
    """PNG files root/c{k}/{i}.png, whose gray level is 5 i."""
    for i in range(n):
        path = root / f"c{i % classes}" / f"{i:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((6, 6, 3), 5 * i, np.uint8)).save(path)
    return root


def follow(advice: str, dataset: Any, labels: Any = None) -> ProbeSet:
    """Do what a message says: its code, with the names that ProbeSet has for its arguments."""
    code = re.search(r"(?:rows = |keep = |labels=).*\.$", advice, re.DOTALL)
    assert code is not None, advice
    *before, last = code[0].removesuffix(".").split("; ")
    names = {
        "dataset": dataset,
        "labels": labels,
        "np": np,
        "torch": torch,
        "ProbeSet": ProbeSet,
        "pandas": pd,
    }
    exec("\n".join(before), names)
    if not last.startswith("ProbeSet"):
        last = f"ProbeSet(dataset, {last})"
    probe = eval(last, names)
    assert isinstance(probe, ProbeSet)
    probe.per_class = 1
    return probe
