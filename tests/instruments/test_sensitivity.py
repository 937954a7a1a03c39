"""Robustness and complexity in real fits: right, harmless, over two processes, nan with reasons."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from dnc_lightning import ProbeCallback, ProbeSet, read_run
from dnc_lightning.functional import class_geometry
from dnc_lightning.functional.sensitivity import attacked
from dnc_lightning.instruments import Complexity, Robustness
from tests.instruments.test_duality import Classifier, images

ROBUST = ("error", "error_noise", "error_clean", "mean_cosine")
COMPLEX = ("relative", "directional", "axis")


def fit(folder: Path, *metrics: Any, module: Any = None, steps: int = 60, **options: Any) -> Any:
    torch.manual_seed(0)
    module = module or Classifier()
    normalize = options.pop("normalize", False)
    transform = options.pop("transform", None)
    probe = ProbeSet(images(), per_class=60, transform=transform)
    watch = [ProbeCallback(probe, metrics=list(metrics), normalize=normalize)] if metrics else []
    watch += [options.pop("keep")] if "keep" in options else []
    trainer = Trainer(
        max_steps=steps, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder,
        callbacks=watch, **options,
    )  # fmt: skip
    x, y = images().tensors
    data = TensorDataset(x if transform is None else transform(x), y)
    torch.manual_seed(1)
    trainer.fit(module, DataLoader(data, 32, shuffle=True))
    run = read_run(folder / "dnc" / "probe") if metrics else None
    return run, module, probe


def test_a_fit_records_what_the_functions_give(tmp_path: Path) -> None:
    run, module, probe = fit(tmp_path, Robustness(eps=0.1, steps=4), Complexity())
    last = run.records[-1].scalars
    x = torch.stack([probe.image(i) for i in range(len(probe))]).float()
    y = probe.tasks["label"].labels
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    encode = module.eval().backbone
    geometry = class_geometry(encode(x), y)
    means = geometry.mean.float()
    size = torch.full((1, 3, 1, 1), 0.1)
    worst = attacked(encode, x, y, means, size=size, steps=4, low=0.0, high=1.0)
    near = torch.cdist(encode(worst), means).argmin(1)
    got = {name: last[f"probe/label/robust/{name}"] for name in ROBUST}
    assert got["error"] == pytest.approx(float((near != y).float().mean()))
    clean = torch.cdist(encode(x), means).argmin(1)
    assert got["error_clean"] == pytest.approx(float((clean != y).float().mean()))
    assert got["error_clean"] <= got["error_noise"] <= got["error"]
    found = run.matrices(run.records[-1])
    leaps = torch.from_numpy(next(v for k, v in found.items() if k.endswith("robust/leaps")))
    torch.testing.assert_close(leaps.sum(1), torch.ones(4))
    assert 1 - float(leaps.diagonal().mean()) == pytest.approx(got["error"], abs=1e-6)
    jacobians = [torch.autograd.functional.jacobian(encode, one[None]).view(8, 48) for one in x]
    total = torch.stack([j.square().sum() for j in jacobians]).mean()
    spread = encode(x).var(0, correction=0).sum()
    measured = last["probe/label/complexity/relative"]
    assert measured == pytest.approx(float(total / spread), rel=0.1)
    apart = geometry.distance2.clone().fill_diagonal_(torch.inf)
    rival = apart.argmin(1)
    axes = nn.functional.normalize(geometry.mean - geometry.mean[rival], dim=1).float()
    along = torch.stack([(axes[k] @ j).square().sum() for k, j in zip(y, jacobians, strict=True)])
    expected = float((along.double() / apart.min(1).values[y]).mean())
    assert last["probe/label/complexity/directional"] == pytest.approx(expected, rel=1e-3)


def test_training_stays_bitwise_what_it_was(tmp_path: Path) -> None:
    _, plain, _ = fit(tmp_path / "plain")
    _, probed, _ = fit(tmp_path / "probed", Robustness(steps=2), Complexity())
    for (name, one), two in zip(plain.named_parameters(), probed.parameters(), strict=True):
        assert torch.equal(one, two), name
        assert one.requires_grad == two.requires_grad
        assert one.grad is None or torch.equal(one.grad, two.grad)


class Keep(Callback):
    """Writes the weights at the end, for those that a child process trained."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        if trainer.is_global_zero:
            torch.save(pl_module.state_dict(), self.path)


def test_training_on_two_ranks_stays_bitwise_what_it_was(tmp_path: Path) -> None:
    for name, metrics in (("plain", []), ("probed", [Robustness(steps=2), Complexity()])):
        keep = Keep(tmp_path / f"{name}.pt")
        fit(tmp_path / name, *metrics, steps=12, devices=2, strategy="ddp_fork", keep=keep)
    plain, probed = (torch.load(tmp_path / f"{name}.pt") for name in ("plain", "probed"))
    assert all(torch.equal(plain[key], probed[key]) for key in plain)


def test_two_processes_give_the_numbers_of_one(tmp_path: Path) -> None:
    metrics = [Robustness(eps=0.1, steps=3), Complexity()]
    one, _, _ = fit(tmp_path / "one", *metrics, steps=1)
    two, _, _ = fit(tmp_path / "two", *metrics, steps=1, devices=2, strategy="ddp_fork")
    a, b = (run.records[0].scalars for run in (one, two))
    for name in ("robust/error", "robust/error_clean", "robust/mean_cosine"):
        key = f"probe/label/{name}"
        assert b[key] == pytest.approx(a[key], rel=1e-5)
    key = "probe/label/complexity/directional"
    assert b[key] == pytest.approx(a[key], rel=1e-4)
    for name in ("complexity/relative", "robust/error_noise"):  # signs are drawn per process
        key = f"probe/label/{name}"
        assert b[key] == pytest.approx(a[key], rel=0.2, abs=0.03)


class Normed(Classifier):
    """With BatchNorm, whose statistics are not there at the first probe."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(self.backbone, nn.BatchNorm1d(8))


def shift(image: Tensor) -> Tensor:
    return (image.float() - 0.5) / 0.25


def test_what_cannot_be_measured_is_nan_with_the_reason(tmp_path: Path) -> None:
    run, _, _ = fit(tmp_path / "a", Robustness(steps=1), Complexity(), module=Normed())
    first, last = run.records[0], run.records[-1]
    assert sum("borrow their statistics" in note for note in first.notes) == 2
    assert math.isnan(first.scalars["probe/label/robust/error"])
    assert math.isfinite(last.scalars["probe/label/robust/error"])
    assert math.isfinite(last.scalars["probe/label/complexity/axis"])
    run, _, _ = fit(tmp_path / "b", Robustness(steps=1), Complexity(), steps=1, normalize=True)
    assert any("features are normalised" in note for note in run.records[-1].notes)
    assert math.isfinite(run.records[-1].scalars["probe/label/robust/error"])
    with pytest.warns(UserWarning, match="not between 0 and 1: give Robustness"):
        run, _, _ = fit(tmp_path / "c", Robustness(steps=1), steps=1, transform=shift)
    assert math.isnan(run.records[-1].scalars["probe/label/robust/error"])


def test_eps_is_that_of_the_pixels_before_normalising(tmp_path: Path) -> None:
    scaled = Robustness(eps=0.05, std=[0.25, 0.5, 0.1])._size(torch.zeros(2, 3, 4, 4))
    torch.testing.assert_close(scaled.flatten(), torch.tensor([0.2, 0.1, 0.5]))
    options = {"steps": 1, "transform": shift}
    run, _, _ = fit(tmp_path / "a", Robustness(eps=0.05, steps=3, std=[0.25] * 3), **options)
    assert math.isfinite(run.records[0].scalars["probe/label/robust/error"])
    with pytest.warns(UserWarning, match="std has 1 channels, the images 3"):
        fit(tmp_path / "b", Robustness(std=[0.25]), **options)


@pytest.mark.parametrize("options", [{"eps": 0}, {"eps": -1}, {"steps": 0}, {"steps": 1.5}])
def test_arguments_are_checked(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="eps > 0 and steps >= 1"):
        Robustness(**options)


def test_between_the_ends_nothing_is_run(tmp_path: Path) -> None:
    run, _, _ = fit(tmp_path, Robustness(steps=1), Complexity())
    assert not any("robust" in key or "complexity" in key for key in run.records[1].scalars)


class Offset(Classifier):
    """The same network, its features far from 0."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone.append(Shift())


class Shift(nn.Module):
    def forward(self, features: Tensor) -> Tensor:
        return features + 3000


def test_an_offset_of_the_features_changes_nothing(tmp_path: Path) -> None:
    near, _, _ = fit(tmp_path / "a", Robustness(eps=0.1, steps=3), steps=1)
    torch.manual_seed(0)
    far, _, _ = fit(tmp_path / "b", Robustness(eps=0.1, steps=3), steps=1, module=Offset())
    for name in ROBUST:
        a, b = (run.records[0].scalars[f"probe/label/robust/{name}"] for run in (near, far))
        assert b == pytest.approx(a, abs=0.02)
