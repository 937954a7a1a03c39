"""Packages that only some reports need: whether they are here, and which extra brings them."""

from __future__ import annotations

from importlib.util import find_spec

from lightning_utilities.core.imports import RequirementCache

OPTIONAL = {
    "PIL": ("pillow>=10.0", "example images need", "report"),
    "matplotlib": ("matplotlib>=3.8", "figures for a paper need", "figures"),
    "plotly": ("plotly>=6.3", "figures and HTML reports need", "report"),
    "rich": ("rich>=13.7", "tables in the terminal need", "report"),
    "wandb_workspaces": ("wandb-workspaces>=0.1.14", "a W&B workspace needs", "wandb"),
}
"""Module -> its requirement as in pyproject.toml, what needs it, and the extra."""


def installed(module: str) -> bool:
    """Return whether a module of `OPTIONAL` can be imported, of a version that suffices."""
    # The module itself is looked at too: its version outlives a removal by hand.
    return bool(RequirementCache(OPTIONAL[module][0])) and find_spec(module) is not None


def require(module: str) -> None:
    """Check that a module of `OPTIONAL` is installed.

    Raises:
        ModuleNotFoundError: If it is not, or is too old; the message names the extra.
    """
    requirement, needed_by, extra = OPTIONAL[module]
    if not installed(module):
        raise ModuleNotFoundError(
            f'{needed_by} {requirement}: pip install "dnc_lightning[{extra}]"', name=module
        )
