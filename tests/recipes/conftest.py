"""Small files and data for the recipe tests."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import pytest
import torch
from torch import Tensor


def write_idx(path: Path, values: Tensor) -> None:
    """Write a uint8 tensor in the idx format, compressed if the name ends in ``.gz``."""
    header = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    content = header + bytes(values.flatten().tolist())
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


@pytest.fixture
def fashion_folder(tmp_path: Path) -> Path:
    """Fashion-MNIST in small: 60 training and 40 test images, four compressed idx files."""
    folder = tmp_path / "fashion"
    folder.mkdir()
    generator = torch.Generator().manual_seed(0)
    for split, count in (("train", 60), ("t10k", 40)):
        pixels = torch.randint(0, 256, (count, 28, 28), dtype=torch.uint8, generator=generator)
        labels = (torch.arange(count) % 10).to(torch.uint8)
        write_idx(folder / f"{split}-images-idx3-ubyte.gz", pixels)
        write_idx(folder / f"{split}-labels-idx1-ubyte.gz", labels)
    return folder
