"""Imports only point down, and the package stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "dnc_lightning"
MAY_IMPORT = {
    "version": set(),
    "series": set(),
    "functional": set(),
    "reporting": {"series", "version"},
    "metrics": {"functional"},
    "probe": {"functional", "metrics", "series"},
    "instruments": {"functional", "probe", "series"},
    "callbacks": {
        "functional",
        "instruments",
        "metrics",
        "probe",
        "reporting",
        "series",
        "version",
    },
    "cli": {"reporting", "version"},
    "__init__": {"callbacks", "probe", "version"},
}
OUTSIDE = {
    "functional": {"torch"},
    "reporting": {"numpy", "plotly", "matplotlib", "rich", "wandb", "wandb_workspaces"},
    "metrics": {"torch", "torchmetrics"},
    "probe": {"torch", "torchmetrics", "numpy", "tqdm"},
    "instruments": {"torch", "torchmetrics"},
    "callbacks": {"torch", "torchmetrics", "lightning", "numpy", "wandb", "PIL"},
    "cli": set(),
    "series": set(),
    "version": set(),
    "__init__": set(),
}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module or "")
    return found


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_imports_only_point_down(path: Path) -> None:
    layer = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for name in imports(path):
        top, _, rest = name.partition(".")
        if top == "dnc_lightning":
            target = rest.split(".")[0]
            assert target == layer or target in MAY_IMPORT[layer], f"{layer} imports {name}"
        else:
            allowed = OUTSIDE[layer] | set(sys.stdlib_module_names)
            assert top in allowed, f"{layer} imports {name}"


def test_recipes_and_tests_are_never_imported_by_the_package() -> None:
    for path in PACKAGE.rglob("*.py"):
        assert not {"recipes", "tests"} & {name.split(".")[0] for name in imports(path)}


def test_the_mathematics_needs_neither_lightning_nor_plots() -> None:
    code = (
        "import sys, dnc_lightning.functional as f; "
        "heavy = {'lightning', 'torchmetrics', 'plotly', 'wandb'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_python_files_stay_short() -> None:
    long = {
        str(path.relative_to(ROOT)): count
        for folder in ("dnc_lightning", "recipes")
        for path in (ROOT / folder).rglob("*.py")
        if (count := len(path.read_text().splitlines())) > 320
    }
    assert not long
