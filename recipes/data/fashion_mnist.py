"""Fashion-MNIST: 70,000 real photographs of clothes, found on this machine or downloaded."""

from __future__ import annotations

import gzip
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import torch.nn.functional as F
from torch import Tensor
from torchvision import datasets
from torchvision.datasets.mnist import read_image_file, read_label_file

from recipes.data.in_memory import InMemoryImages
from recipes.data.module import ProbedImages

# Where the Debian and Ubuntu package dataset-fashion-mnist installs its files.
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")

_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


class FashionMNIST(ProbedImages):
    """Real Fashion-MNIST, padded to 32 x 32 pixels and repeated to three channels.

    Three channels let every backbone and augmentation of the recipes take it as it is: images are
    ``[B, 3, 32, 32]`` uint8, targets ``[B]``. The probe set comes from the 10,000 test images.

    Cost:
        A download of 30 MB, 184 MB of memory, less than a second to read.

    Args:
        data_dir: Folder with the four idx files (plain or ``.gz``), searched first; a download
            goes below it.
        batch_size: Images per batch and process.
        num_images: Number of training images, the first ones of the file (their order is random
            already); at most 60,000.
        probe_per_class: Probe images per class.
        num_workers: Loader processes per training process; 0 is fastest unless they make views.
        seed: Of the order and of the views that workers make.
    """

    def __init__(
        self,
        data_dir: str = "data",
        batch_size: int = 256,
        num_images: int = 60_000,
        probe_per_class: int = 100,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, probe_per_class, num_workers, seed)
        self.data_dir = data_dir
        self.num_images = num_images

    def prepare_data(self) -> None:
        """Find or download the files, once per node."""
        find_files(self.data_dir)

    def train_images(self) -> InMemoryImages:
        """Read the training images.

        Raises:
            ValueError: If more images are asked for than there are.
        """
        train = self._read("train")
        if not 1 <= self.num_images <= len(train):
            raise ValueError(
                f"num_images must lie between 1 and {len(train)}, the number of training images "
                f"found; got {self.num_images}. Change data.num_images."
            )
        kept = slice(self.num_images)
        return InMemoryImages(train.images[kept], train.targets[kept], train.classes)

    def probe_images(self) -> InMemoryImages:
        """Read the test images."""
        return self._read("t10k")

    def _read(self, split: str) -> InMemoryImages:
        return read_split(find_files(self.data_dir), split)


def find_files(data_dir: str | Path, debian_folder: Path = DEBIAN_FOLDER) -> Path:
    """Return a folder with the four idx files, downloading them only when there is none.

    Args:
        data_dir: Folder to search first, and to download into.
        debian_folder: Folder of the system package.

    Returns:
        The first folder that holds all four files.

    Raises:
        ValueError: If the files are in no folder and the download fails.
    """
    downloaded = Path(data_dir) / "FashionMNIST" / "raw"
    for folder in (Path(data_dir), downloaded, debian_folder):
        if all(_locate(folder, name) for name in _FILES):
            return folder
    try:
        datasets.FashionMNIST(str(data_dir), download=True)
    except (RuntimeError, URLError, OSError) as error:
        raise ValueError(
            "Fashion-MNIST needs its four idx files, and none of three ways gave them: "
            f"(1) no {', '.join(_FILES)} (plain or .gz) in {data_dir}: copy them there or set "
            f"data.data_dir; (2) none in {debian_folder}: on Debian or Ubuntu run "
            "'apt-get install dataset-fashion-mnist'; (3) torchvision's download failed "
            f"({error}): connect to the network and start again."
        ) from error
    return downloaded


def read_split(folder: Path, split: str) -> InMemoryImages:
    """Read one split with torchvision's idx reader.

    Args:
        folder: Folder with the idx files, plain or ``.gz``.
        split: ``"train"`` or ``"t10k"``.

    Returns:
        Images ``[N, 3, 32, 32]`` uint8 and labels ``[N]``.
    """
    images = _read_idx(folder, f"{split}-images-idx3-ubyte", read_image_file)
    labels = _read_idx(folder, f"{split}-labels-idx1-ubyte", read_label_file)
    padded = F.pad(images, (2, 2, 2, 2))
    return InMemoryImages(
        padded.unsqueeze(1).repeat(1, 3, 1, 1), labels, datasets.FashionMNIST.classes
    )


def _locate(folder: Path, name: str) -> Path | None:
    candidates = (folder / name, folder / f"{name}.gz")
    return next((path for path in candidates if path.is_file()), None)


def _read_idx(folder: Path, name: str, reader: Callable[[str], Tensor]) -> Tensor:
    path = _locate(folder, name)
    if path.suffix != ".gz":
        return reader(str(path))
    # torchvision's reader takes uncompressed files only.
    with tempfile.NamedTemporaryFile() as plain, gzip.open(path) as packed:
        shutil.copyfileobj(packed, plain)
        plain.flush()
        return reader(plain.name)
