"""What setting up a probe costs: decoding by workers, and bytes after Normalize."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision.transforms as T
from torchvision.datasets import ImageFolder

from dnc_lightning import ProbeSet
from dnc_lightning.probe.bank import ImageBank
from dnc_lightning.probe.reading import Loading
from tests.probe.pictures import photographs

pytestmark = pytest.mark.bench

RESIZE = [T.Resize(256), T.CenterCrop(224)]
NORMALIZE = [T.ToTensor(), T.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photographs(tmp_path_factory.mktemp("photographs"), 10, 200, (300, 400))


def read(folder: Path, transform: Callable[..., object], workers: int = 0) -> ImageBank:
    probe = ProbeSet(ImageFolder(str(folder)), per_class=200, transform=transform)
    device, loading = torch.device("cpu"), Loading(workers)
    return ImageBank.build(probe.image, range(len(probe)), device, progress=False, loading=loading)


def test_one_process_against_two_workers(folder: Path, ratio: Callable[..., float]) -> None:
    transform = T.Compose([*RESIZE, *NORMALIZE])
    value = ratio(
        lambda: read(folder, transform),
        lambda: read(folder, transform, workers=2),
        rounds=3,
    )
    assert value >= 1.6


def test_bytes_of_normalized_images_against_uint8(folder: Path) -> None:
    pixels = read(folder, T.Compose([*RESIZE, T.PILToTensor()]), workers=2)
    normalized = read(folder, T.Compose([*RESIZE, *NORMALIZE]), workers=2)
    assert pixels.images is not None
    assert normalized.images is not None
    assert normalized.table is not None
    assert normalized.images.nbytes + normalized.table.nbytes <= 1.05 * pixels.images.nbytes
