"""Installs a wheel into empty environments and tries it there: `make dist` does so.

`python -m tests.packaging.try_wheel dist/*.whl --extras "" report --pythons python3.11` makes an
environment for each extra ("" is the core alone) and each interpreter; `--lowest` takes the lowest
versions that pyproject.toml allows of what the core needs. Ends with a table, and 1 if one failed.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
SMOKE = Path(__file__).parent / "smoke.py"


def lowest() -> list[str]:
    """The lowest version of each dependency of the core, as requirements."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [re.sub(r">=([\d.]+)", r"==\1.*", need) for need in project["dependencies"]]


def attempt(archive: Path, extra: str, python: str, pinned: list[str]) -> str:
    """Install into a new environment and run the smoke test there; return what came of it."""
    with tempfile.TemporaryDirectory() as folder:
        inside = Path(folder) / "environment" / "bin" / "python"
        empty = Path(folder) / "empty"
        empty.mkdir()
        what = f"{archive.resolve()}[{extra}]" if extra else str(archive.resolve())
        steps = [
            [python, "-m", "venv", str(inside.parents[1])],
            [str(inside), "-m", "pip", "install", "--quiet", what, *pinned],
            [str(inside), str(SMOKE), extra],
        ]
        for words in steps:
            done = subprocess.run(words, cwd=empty, capture_output=True, text=True)
            if done.returncode:
                print(done.stdout[-2_000:], done.stderr[-4_000:], sep="\n", file=sys.stderr)
                return f"failed: {' '.join(words[1:4])}"
    return "works"


def main() -> int:
    """Try every combination."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("archives", type=Path, nargs="+", help="wheels or source archives")
    parser.add_argument("--extras", nargs="+", default=[""], help='"" for the core alone')
    parser.add_argument("--pythons", nargs="+", default=[sys.executable])
    parser.add_argument("--lowest", action="store_true", help="lowest versions of the core's needs")
    options = parser.parse_args()
    pinned = lowest() if options.lowest else []
    failed = False
    for python in options.pythons:
        if shutil.which(python) is None:
            print(f"{python}: not on this machine")
            continue
        for archive in options.archives:
            for extra in options.extras:
                began = time.monotonic()
                found = attempt(archive, extra, python, pinned)
                failed |= found != "works"
                print(
                    f"{Path(python).name:12} {archive.suffix:5} {extra or 'core':12} "
                    f"{'lowest' if pinned else 'newest':8} {found}  "
                    f"{time.monotonic() - began:.0f} s",
                    flush=True,
                )
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
