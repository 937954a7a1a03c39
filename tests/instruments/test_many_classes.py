"""What a probe of many classes records, and the page that shows it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from dnc_lightning import ProbeCallback, ProbeSet
from dnc_lightning.functional import class_geometry, directional_cdnv
from dnc_lightning.instruments.collapse import INSTRUMENT, MOST_CLASSES
from dnc_lightning.probe.bench import Bench, Settings
from dnc_lightning.probe.labels import Task
from dnc_lightning.reporting import read_run
from dnc_lightning.reporting.html import write_report
from dnc_lightning.reporting.read.views import pair_stack, views
from tests.callbacks.fits import fit


def arrays(classes: int, n: int = 4) -> tuple[dict[str, Tensor], Bench]:
    torch.manual_seed(0)
    labels = torch.arange(classes).repeat(n)
    features = torch.randn(classes, 8)[labels] + torch.rand(classes, 1)[labels] * torch.randn(
        len(labels), 8
    )
    task = Task(labels, tuple(map(str, range(classes))))
    bench = Bench(features, {"label": task}, Settings(shots=(1,)))
    return dict(INSTRUMENT.measure(bench).arrays), bench


def test_few_classes_record_every_pair() -> None:
    found, bench = arrays(MOST_CLASSES)
    assert set(found) == {"cdnv", "directional_cdnv", "class_variance"}
    geometry = class_geometry(bench.features, bench.labels)
    torch.testing.assert_close(
        found["directional_cdnv"], directional_cdnv(geometry), equal_nan=True
    )


@pytest.mark.parametrize(("classes", "most"), [(MOST_CLASSES + 1, 1.0), (1_000, 1.0), (3_000, 2.0)])
def test_many_classes_record_the_worst(classes: int, most: float) -> None:
    found, _ = arrays(classes)
    assert sum(4 * value.numel() for value in found.values()) < most * 2**20
    assert set(found) == {
        "class_variance", "class_worst", "worst_classes", "worst_pairs", "worst_pair_values",
        "cdnv_worst_classes", "directional_cdnv_worst_classes",
    }  # fmt: skip
    kept, pairs = found["worst_classes"].tolist(), found["worst_pairs"].tolist()
    matrix = found["directional_cdnv_worst_classes"]
    for (i, j), (_, value) in list(zip(pairs, found["worst_pair_values"], strict=True))[:80]:
        assert matrix[kept.index(i), kept.index(j)] == value
        assert found["class_worst"][i, 0] >= value


def test_the_page_shows_the_classes_of_the_worst_pairs(tmp_path: Path) -> None:
    """A fit with 260 classes of three images; records hold the worst 160, other ones over time."""
    classes = MOST_CLASSES + 4
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(classes).repeat(3)
    colours = torch.rand(classes, 3, 1, 1, generator=generator)
    images = colours[labels] + torch.rand(len(labels), 3, 8, 8, generator=generator)
    probe = ProbeCallback(
        ProbeSet(TensorDataset(images, labels), per_class=3),
        metrics=["collapse"], examples=False, every_n_train_steps=1,
    )  # fmt: skip
    fit(tmp_path, probe, max_steps=2)
    assert probe.run_dir_ is not None
    run = read_run(probe.run_dir_)
    stack = pair_stack(run, views(run)[0], max_values=10**6, max_classes=160)
    assert stack is not None
    assert len(stack.positions) == len(run.records) == 3
    last = run.matrices(run.records[-1])
    kept = last["backbone/label/worst_classes"].astype(int)
    assert list(stack.chosen) == kept.tolist()
    known = np.isfinite(last["backbone/label/directional_cdnv_worst_classes"])
    assert ((stack.codes["directional_cdnv"][-1] > 0) == known).all()
    first = run.matrices(run.records[0])["backbone/label/worst_classes"].astype(int).tolist()
    missing = [k for k, c in enumerate(stack.chosen) if c not in first]
    assert missing
    assert not stack.codes["cdnv"][0][missing].any()
    write_report(probe.run_dir_, tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size > 10_000
