"""CIFAR-10 and CIFAR-100: 60,000 small photographs, found on this machine or downloaded."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any, ClassVar
from urllib.error import URLError

import numpy as np
import torch
from torchvision import datasets

from recipes.data.in_memory import InMemoryImages
from recipes.data.labelled import Classes, Targets
from recipes.data.module import ProbedImages

# What the documentation of pickle lists for a file that is none, and what our reading adds.
_BROKEN = (
    pickle.UnpicklingError,
    EOFError,
    AttributeError,
    ImportError,
    LookupError,
    TypeError,
    ValueError,
)


class CIFAR10(ProbedImages):
    """CIFAR-10: 50,000 training images of ten classes; the probe set is of the 10,000 test images.

    Images are ``[B, 3, 32, 32]`` uint8, targets ``[B]``.

    Cost:
        A download of 170 MB, 184 MB of memory, about a second to read.

    Args:
        data_dir: Folder with ``cifar-10-batches-py/`` (or its files); a download goes there.
        batch_size: Images per batch and process.
        probe_per_class: Probe images per class, at most 1,000.
        num_workers: Loader processes per training process; 0 is fastest unless they make views.
        seed: Of the order and of the views that workers make.

    Raises:
        ValueError: When the files are opened, before training: they are not there and the download
            fails, or one of them is broken.
    """

    source = datasets.CIFAR10
    folder = "cifar-10-batches-py"
    files: ClassVar[dict[str, list[str]]] = {
        "train": [f"data_batch_{n}" for n in range(1, 6)],
        "test": ["test_batch"],
    }
    meta = "batches.meta"

    def __init__(
        self,
        data_dir: str = "data",
        batch_size: int = 256,
        probe_per_class: int = 100,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, probe_per_class, num_workers, seed)
        self.data_dir = data_dir

    def prepare_data(self) -> None:
        """Find or download the files, once per node."""
        self.find_files()

    def train_images(self) -> InMemoryImages:
        """Read the training images."""
        return self._read("train")

    def probe_images(self) -> InMemoryImages:
        """Read the test images."""
        return self._read("test")

    def find_files(self) -> Path:
        """Return the folder with the pickle files, downloading them only when there is none.

        Raises:
            ValueError: If the files are in no folder and the download fails.
        """
        names = [name for part in self.files.values() for name in part] + [self.meta]
        below = Path(self.data_dir) / self.folder
        for folder in (below, Path(self.data_dir)):
            if all((folder / name).is_file() for name in names):
                return folder
        try:
            self.source(self.data_dir, download=True)
        except (RuntimeError, URLError, OSError) as error:
            raise ValueError(
                f"{type(self).__name__} needs its python files {', '.join(names)}, and neither of "
                f"two ways gave them: (1) they are not in {below} nor in {self.data_dir}: unpack "
                f"{self.source.filename} from {self.source.url} there, or set data.data_dir; (2) "
                f"torchvision's download failed ({error}): connect to the network and start again."
            ) from error
        return below

    def _read(self, split: str) -> InMemoryImages:
        folder = self.find_files()
        parts = [read_pickle(folder / name, ["data"]) for name in self.files[split]]
        pixels = np.concatenate([part["data"] for part in parts])
        images = torch.from_numpy(pixels).view(-1, 3, 32, 32)
        return InMemoryImages(images, *self._labels(folder, parts))

    def _labels(self, folder: Path, parts: list[dict]) -> tuple[Targets, Classes]:
        names = read_pickle(folder / self.meta, ["label_names"])
        return _column(parts, "labels"), list(names["label_names"])


class CIFAR100(CIFAR10):
    """CIFAR-100: two labelings, 100 ``fine`` classes and the 20 ``coarse`` ones they belong to.

    As `CIFAR10`, but targets are a mapping of the two tasks to ``[B]``, and there are 100 test
    images per fine class. The tasks are not independent: fine determines coarse.
    """

    source = datasets.CIFAR100
    folder = "cifar-100-python"
    files: ClassVar[dict[str, list[str]]] = {"train": ["train"], "test": ["test"]}
    meta = "meta"

    def _labels(self, folder: Path, parts: list[dict]) -> tuple[Targets, Classes]:
        tasks = ("fine", "coarse")
        names = read_pickle(folder / self.meta, [f"{task}_label_names" for task in tasks])
        targets = {task: _column(parts, f"{task}_labels") for task in tasks}
        return targets, {task: list(names[f"{task}_label_names"]) for task in tasks}


def read_pickle(path: Path, keys: list[str]) -> dict[str, Any]:
    """Read one of the python files.

    Raises:
        ValueError: If it is broken or lacks one of `keys`.
    """
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            # Written by python 2, whose strings are bytes and whose numpy wrote flags as integers.
            warnings.filterwarnings("ignore", message=r"dtype\(\): align should be passed")
            content = pickle.load(file, encoding="latin1")
        missing = [key for key in keys if key not in content]
    except _BROKEN as error:
        content, missing = None, [str(error)]
    if missing:
        raise ValueError(
            f"{path} must be a CIFAR python file with {', '.join(keys)}; could not read "
            f"{', '.join(missing)}. Delete the folder and unpack or download it again."
        )
    return content


def _column(parts: list[dict], key: str) -> torch.Tensor:
    return torch.tensor([label for part in parts for label in part[key]])
