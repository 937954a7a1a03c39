"""MAE: what is hidden, what is painted, and the picture of both."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import to_tensor

from recipes.augment import Views
from recipes.data import FactorsDataset
from recipes.mae import MAE
from recipes.optim import Optimization
from tests.recipes.runs import fit, make


@pytest.fixture
def images() -> Tensor:
    return FactorsDataset(96, seed=0).images[:6].float() / 255


@pytest.mark.parametrize(("ratio", "hidden"), [(0.75, 48), (0.5, 32)])
def test_the_encoder_sees_the_class_token_and_the_rest(ratio, hidden, images):
    mae = make("mae", mask_ratio=ratio)
    seen = []
    mae.backbone.transformer.vit.blocks[0].register_forward_pre_hook(
        lambda _m, inputs: seen.append(inputs[0].shape)
    )
    painted, positions = mae.paint(images)
    assert seen == [(6, 1 + 64 - hidden, 96)]
    assert painted.shape == (6, hidden, 48)
    assert positions.shape == (6, hidden)
    assert positions.min() >= 1  # the class token is not hidden
    assert positions.max() <= 64
    assert all(len(row.unique()) == hidden for row in positions)
    assert len(positions.sort(1).values.unique(dim=0)) == 6  # every image has its own


def patch(image: Tensor, position: int) -> Tensor:
    """Pixels of the patch of one token, row by row, the channels of a pixel together."""
    row, column = divmod(position - 1, 8)
    square = image[:, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
    return square.permute(1, 2, 0).flatten()


def true_patches(mae: MAE, images: Tensor, positions: Tensor) -> Tensor:
    """What a perfect decoder would paint, [B, M, 48], by a loop."""
    mean = torch.tensor([0.485, 0.456, 0.406]).repeat(16)
    std = torch.tensor([0.229, 0.224, 0.225]).repeat(16)
    rows = []
    for image, hidden in zip(images, positions.tolist(), strict=True):
        patches = torch.stack([(patch(image, p) - mean) / std for p in hidden])
        if mae.hparams.normalize_targets:
            patches -= patches.mean(1, keepdim=True)
            patches /= (patches.square().sum(1, keepdim=True) / 47 + 1e-6).sqrt()
        rows.append(patches)
    return torch.stack(rows)


@pytest.mark.parametrize("normalize", [True, False])
def test_the_loss_is_zero_for_the_hidden_patches_and_only_for_them(normalize, images):
    mae = make("mae", normalize_targets=normalize)
    mae.views = lambda batch: [batch[0]]
    mae.log = lambda *_args, **_kwargs: None
    _, positions = mae.paint(images)
    truth = true_patches(mae, images, positions)

    def loss(painted: Tensor) -> float:
        mae.paint = lambda _images: (painted, positions)
        return float(mae.training_step((images, None), 0))

    assert loss(truth) < 1e-9
    assert loss(truth.roll(1, dims=1)) > 0.1
    assert loss(truth.roll(1, dims=0)) > 0.1
    assert loss(truth.unflatten(2, (16, 3)).transpose(2, 3).flatten(2)) > 0.1
    assert loss(truth + 0.5) == pytest.approx(0.25, rel=1e-4)


def test_a_painted_patch_depends_on_what_is_seen(images):
    """Not on the hidden patches, and on its place."""
    mae = make("mae").eval()
    torch.manual_seed(0)
    painted, positions = mae.paint(images)
    changed = images.clone()
    row, column = divmod(int(positions[0, 0]) - 1, 8)
    changed[0, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = 0
    torch.manual_seed(0)
    again, same = mae.paint(changed)
    assert torch.equal(positions, same)
    torch.testing.assert_close(again, painted)
    torch.manual_seed(0)
    dark, _ = mae.paint(images * 0)
    assert (dark - painted).abs().max() > 1e-3
    assert (painted[0, 0] - painted[0, 1]).abs().max() > 1e-3


@pytest.mark.parametrize("normalize", [True, False])
def test_the_picture_shows_masked_painted_and_original(normalize, images):
    mae = make("mae", normalize_targets=normalize)
    painted, positions = mae.paint(images)
    painted = painted.detach()
    mae.paint = lambda _images: (painted, positions)
    picture = mae.picture(images)
    assert picture.shape == (3, 3 * 32, 6 * 32)
    masked, guess, original = (
        torch.stack(picture[:, 32 * row : 32 * row + 32].split(32, dim=2)) for row in range(3)
    )
    torch.testing.assert_close(original, images, atol=1e-5, rtol=0)
    hidden = torch.zeros(6, 64, dtype=torch.bool)
    hidden[torch.arange(6)[:, None], positions - 1] = True
    blank = hidden.view(6, 1, 8, 8).repeat_interleave(4, 2).repeat_interleave(4, 3)
    blank = blank.expand_as(images)
    for row in (masked, guess):
        torch.testing.assert_close(row[~blank], images[~blank], atol=1e-5, rtol=0)
    grey = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1).expand_as(images)
    torch.testing.assert_close(masked[blank], grey[blank], atol=1e-5, rtol=0)
    assert (guess[blank] - images[blank]).abs().mean() > 0.01
    perfect = true_patches(mae, images, positions)
    mae.paint = lambda _images: (perfect, positions)
    torch.testing.assert_close(
        mae.picture(images)[:, 32:64], mae.picture(images)[:, 64:], atol=2e-3, rtol=0
    )


def test_training_paints_better(tmp_path):
    losses = []
    for steps in (1, 40):
        mae = make(
            "mae",
            normalize_targets=False,
            views=Views(count=1, min_scale=1.0, flip=0.0),
            optimization=Optimization(learning_rate=0.05),
        )
        losses.append(float(fit(mae, tmp_path, max_steps=steps).callback_metrics["train/loss"]))
    assert losses[1] < 0.5 * losses[0]


def steps_of(folder: Path) -> list[int]:
    return sorted(int(path.stem.split("-")[-1]) for path in folder.glob("*.png"))


@pytest.mark.parametrize("augment", ["device", "workers"])
def test_pictures_are_logged_at_log_spaced_steps(augment, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    loggers = [
        TensorBoardLogger(tmp_path, name="board"),
        WandbLogger("mae", save_dir=tmp_path, offline=True),
    ]
    shown = []
    monkeypatch.setattr(
        loggers[0].experiment, "add_image", lambda key, image, step: shown.append((key, step))
    )
    try:
        fit(make("mae", augment=augment), tmp_path, logger=loggers, max_steps=5)
    finally:
        loggers[1].experiment.finish()
    folder = tmp_path / "board" / "version_0" / "pictures"
    assert steps_of(folder) == [1, 2, 4]
    assert shown == [("train/reconstruction", step) for step in (1, 2, 4)]
    picture = to_tensor(Image.open(folder / "train-reconstruction-000004.png"))
    assert picture.shape == (3, 3 * 32, 8 * 32)
    files = [path for path in tmp_path.rglob("*.png") if "wandb" in path.parts]
    assert len(files) == 3


def test_a_trial_run_writes_no_picture(tmp_path):
    fit(make("mae"), tmp_path, fast_dev_run=2)
    assert not list(tmp_path.rglob("*.png"))
