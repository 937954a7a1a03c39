"""Images as the libraries of models take them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class OfRGB:
    """A transform of RGB images of Pillow, for images of any kind that a data set gives."""

    transform: Callable[[Any], Tensor]

    def __call__(self, image: Any) -> Tensor:
        """Convert one image and transform it."""
        from torchvision.transforms.functional import to_pil_image

        if not hasattr(image, "convert"):
            image = to_pil_image(image)
        return self.transform(image.convert("RGB"))


def near(name: str, names: list[str]) -> str:
    """Words on the names that are most like one."""
    import difflib

    found = difflib.get_close_matches(name, names, n=5, cutoff=0.5)
    return f"Near names: {', '.join(found)}." if found else f"There are {len(names):,}."
