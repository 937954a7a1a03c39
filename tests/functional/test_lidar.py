"""LiDAR and alignment against slow references, and views as a probe set."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from dnc_lightning import ProbeCallback, image_views
from dnc_lightning.functional import alignment, lidar
from tests.callbacks.fits import fit, records
from tests.callbacks.modules import Clean


def data(images: int = 9, dim: int = 5, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """From 2 to 5 views of each image, skewed, in an order of their own."""
    random = np.random.default_rng(seed)
    of = np.repeat(np.arange(images), 2 + np.arange(images) % 4)
    random.shuffle(of)
    x = random.normal(size=(images, dim))[of] * 2 + random.exponential(size=(len(of), dim))
    return torch.tensor(x), torch.tensor(of)


@pytest.mark.parametrize(("images", "dim"), [(9, 5), (6, 20)])
def test_lidar_is_the_rank_of_the_whitened_between_covariance(images: int, dim: int) -> None:
    x, of = data(images, dim)
    means = np.stack([x.numpy()[of.numpy() == k].mean(0) for k in range(images)])
    within = x.numpy() - means[of.numpy()]
    spread = within.T @ within / (len(x) - images) + 1e-4 * np.eye(dim)
    root = np.linalg.inv(np.real(sqrtm(spread)))
    between = root @ np.cov(means, rowvar=False) @ root
    values = np.linalg.eigvalsh(between).clip(0)
    share = values[values > 0] / values.sum()
    expected = math.exp(-(share * np.log(share)).sum())
    assert float(lidar(x, of)) == pytest.approx(expected, rel=1e-6)
    assert float(lidar(x.float(), of)) == pytest.approx(expected, rel=1e-3)
    assert 1 < expected <= min(dim, images - 1)


def test_alignment_is_the_mean_over_pairs_of_views() -> None:
    x, of = data()
    unit = (x / x.norm(dim=1, keepdim=True)).numpy()
    found = []
    for k in range(9):
        views = unit[of.numpy() == k]
        pairs = [(a, b) for a in range(len(views)) for b in range(len(views)) if a != b]
        found.append(np.mean([((views[a] - views[b]) ** 2).sum() for a, b in pairs]))
    assert float(alignment(x, of)) == pytest.approx(np.mean(found), rel=1e-9)
    assert float(alignment(x[of] * 0 + 1, of)) == pytest.approx(0, abs=1e-12)


def test_what_has_no_second_view_is_named_and_constant_features_are_nan() -> None:
    x = data()[0]
    with pytest.raises(ValueError, match="image 1 has 1"):
        lidar(x[:5], torch.tensor([0, 0, 2, 1, 2]))
    assert math.isnan(float(lidar(torch.ones(6, 3), torch.arange(6) // 2)))


def test_views_are_a_probe_set_whose_classes_are_images(tmp_path: Path) -> None:
    def shifted(image: torch.Tensor) -> torch.Tensor:
        return image.roll(int(torch.randint(12, ())), 1)

    probe = image_views(Clean(), shifted, images=6, views=4, seed=1)
    assert (len(probe), list(probe.tasks)) == (24, ["image"])
    of = probe.tasks["image"].labels
    assert torch.bincount(of).tolist() == [4] * 6
    views = torch.stack([probe.image(k) for k in range(24)])
    again = torch.stack([probe.image(k) for k in range(24)])
    assert torch.equal(views, again)  # the same at every probe
    rows = views.double().sum((1, 3)).sort(1).values  # what a shift of rows leaves alone
    for k in range(6):
        mine = of == k
        assert (rows[mine] == rows[mine][0]).all()
        assert len({bytes(view.numpy().tobytes()) for view in views[mine]}) > 1
    callback = ProbeCallback(probe, name="views", metrics=["views"], examples=False)
    fit(tmp_path, callback, max_steps=2)
    last = records(callback)[-1].scalars
    assert 1 <= last["views/image/lidar"] <= 5
    assert 0 <= last["views/image/alignment"] <= 4
    with pytest.raises(ValueError, match="fewer than images=100"):
        image_views(Clean(), shifted)
    with pytest.raises(ValueError, match="are the least"):
        image_views(Clean(), shifted, images=5, views=1)
