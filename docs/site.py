"""What the site has beside the files of this folder: pages that are made, and MathML."""

from __future__ import annotations

import ast
import hashlib
import html
import json
import os
import re
from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import latex2mathml.converter
import nbformat
from mkdocs.structure.files import File, Files
from nbconvert import MarkdownExporter
from nbconvert.preprocessors import ExecutePreprocessor

ROOT = Path(__file__).parents[1]
CACHE = ROOT / ".cache" / "tutorials"
TIMEOUT_S = 180
"""A tutorial may take so long."""

ALONE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
"""Pages that lie at the root of the repository, and their names on the site."""

WIDE = {"keys.md", "measurements.md", "peers.md", "strategies.md", "validation.md"}
"""Pages of tables, which take the room of the table of contents."""

BOX, GAP, ROW = 132, 18, 92  # pixels of the picture of the layers


def on_files(files: Files, config: Any) -> Files:
    """Add the pages at the root of the repository and the tutorials, which are run for it."""
    for source, name in ALONE.items():
        text = (ROOT / source).read_text(encoding="utf-8").replace("](docs/", "](")
        text = text.replace("](tutorials)", "](tutorials/own_module.md)")
        text = re.sub(r"\[([^]]+)\]\((CITATION\.cff|LICENSE)\)", r"`\1`", text)
        files.append(File.generated(config, name, content=text))
    for path in sorted((ROOT / "docs" / "tutorials").glob("*.ipynb")):
        body, pictures = tutorial(path)
        files.append(File.generated(config, f"tutorials/{path.stem}.md", content=body))
        for name, content in pictures.items():
            files.append(File.generated(config, f"tutorials/{name}", content=content))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Point links to the root at the pages made of it, and draw the layers."""
    if page.file.src_uri in WIDE:
        page.meta["hide"] = ["toc"]
    for source, name in ALONE.items():
        for link in (f"](../{source}", f"]({source}"):
            markdown = markdown.replace(link, f"]({name}")
    if page.file.src_uri == "theory.md":
        # What GitHub reads as a formula, "$`x`$", is one without the quotes.
        markdown = re.sub(r"\$`([^`]+)`\$", r"$\1$", markdown)
    return markdown.replace("<!-- the layers -->", layers())


def on_page_content(text: str, **_: Any) -> str:
    """Write formulas as MathML, which browsers draw without a script or a font from elsewhere."""
    return re.sub(r'<(span|div) class="arithmatex">(.*?)</\1>', _formula, text, flags=re.DOTALL)


def on_post_page(text: str, page: Any, **_: Any) -> str:
    """Let the search run without a script from elsewhere."""
    ours = "../" * page.file.src_uri.count("/") + "file_worker.js"
    return text.replace("https://unpkg.com/iframe-worker/shim", ours)


def _formula(found: re.Match[str]) -> str:
    latex = html.unescape(found[2]).strip()
    block = latex.startswith("\\[")
    latex = latex.removeprefix("\\[").removeprefix("\\(").removesuffix("\\]").removesuffix("\\)")
    latex = latex.replace("\\lVert", "\\|").replace("\\rVert", "\\|").replace("\\dots", "\\ldots")
    made = latex2mathml.converter.convert(latex.strip(), display="block" if block else "inline")
    return f'<{found[1]} class="arithmatex">{made}</{found[1]}>'


def tutorial(path: Path) -> tuple[str, dict[str, bytes]]:
    """Run a notebook, unless it ran with this source before, and return its page and pictures.

    Raises:
        CellExecutionError: A cell failed.
    """
    source = path.read_text(encoding="utf-8")
    files = [Path(__file__), *sorted((ROOT / "dnc_lightning").rglob("*.py"))]
    code = b"".join(file.read_bytes() for file in files)
    kept = CACHE / f"{path.stem}-{hashlib.sha256(source.encode() + code).hexdigest()[:16]}.json"
    if kept.exists():
        found = json.loads(kept.read_text())
    else:
        notebook = nbformat.reads(source, as_version=4)
        os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
        place = {"metadata": {"path": str(ROOT)}}
        ExecutePreprocessor(timeout=TIMEOUT_S).preprocess(notebook, place)
        for cell in notebook.cells:
            cell["outputs"] = list(filter(_told, cell.get("outputs", [])))
        body, resources = MarkdownExporter().from_notebook_node(
            notebook, {"unique_key": path.stem, "output_files_dir": f"{path.stem}_files"}
        )
        pictures = {name: content.hex() for name, content in resources["outputs"].items()}
        found = {"body": re.sub(r"\x1b\[[0-9;]*m", "", body), "pictures": pictures}
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(found))
    pictures = {name: bytes.fromhex(content) for name, content in found["pictures"].items()}
    return found["body"], pictures


def _told(output: Any) -> bool:
    """Whether an output is for the reader: no log, and no progress that is over."""
    if output.output_type == "stream":
        return bool(output.name == "stdout")
    return output.output_type != "display_data" or bool({"image/png", "text/html"} & {*output.data})


def layers() -> str:
    """Draw the packages of dnc_lightning from what their files import, the lowest below."""
    package = ROOT / "dnc_lightning"
    size, uses = Counter[str](), dict[str, set[str]]()
    for path in package.rglob("*.py"):
        layer = path.relative_to(package).parts[0]
        if layer.endswith(".py"):
            continue  # series, version: two small files at the bottom
        text = path.read_text(encoding="utf-8")
        size[layer] += len(text.splitlines())
        names = {
            node.module.split(".")[1]
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dnc_lightning.")
        }
        uses.setdefault(layer, set()).update(names - {layer})
    uses = {layer: names & set(uses) for layer, names in uses.items()}
    depth: dict[str, int] = {}
    for layer in TopologicalSorter(uses).static_order():
        depth[layer] = 1 + max((depth[below] for below in uses[layer]), default=-1)
    top = max(depth.values())
    rows = {d: sorted(name for name in depth if depth[name] == d) for d in range(top + 1)}
    width = max(len(row) for row in rows.values()) * (BOX + GAP) + 2 * GAP + 60
    place = {
        name: (width / 2 + (k - (len(row) - 1) / 2) * (BOX + GAP * 3), (top - d) * ROW + 30)
        for d, row in rows.items()
        for k, name in enumerate(row)
    }
    lines = []
    for layer, names in sorted(uses.items()):
        direct = {n for n in names if not any(n in _reach(uses, other) for other in names - {n})}
        for below in sorted(direct):
            (x, y), (u, v) = place[layer], place[below]
            lines.append(f'<path d="M{x} {y + 22}C{x} {y + 50} {u} {v - 50} {u} {v - 22}"/>')
    boxes = [
        f'<rect x="{x - BOX / 2}" y="{y - 22}" width="{BOX}" height="44" rx="6"/>'
        f'<text x="{x}" y="{y - 1}">{name}</text>'
        f'<text class="small" x="{x}" y="{y + 14}">{size[name]:,} lines</text>'
        for name, (x, y) in place.items()
    ]
    words = "; ".join(f"{layer} uses {', '.join(sorted(n)) or 'none'}" for layer, n in uses.items())
    return (
        f'<svg class="layers" viewBox="0 0 {width} {top * ROW + 60}" role="img" '
        f'aria-label="{words}">{"".join(lines + boxes)}</svg>'
    )


def _reach(uses: dict[str, set[str]], start: str) -> set[str]:
    found: set[str] = set()
    new = set(uses[start])
    while new:
        found |= new
        new = {below for name in new for below in uses[name]} - found
    return found
