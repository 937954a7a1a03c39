"""A folder of JPEG photographs, as many people have them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def photographs(
    root: Path, classes: int = 2, each: int = 10, size: tuple[int, int] = (48, 64)
) -> Path:
    """Write smooth noise of height and width `size` as `root/c{class}/{number}.jpg`."""
    draw = np.random.default_rng(0)
    height, width = size
    for index in range(classes):
        (root / f"c{index}").mkdir(parents=True)
        for number in range(each):
            coarse = draw.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
            picture = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
            fine = draw.integers(-9, 10, (height, width, 3))
            pixels = np.clip(np.asarray(picture) + fine, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / f"c{index}" / f"{number:03d}.jpg", quality=90)
    return root
