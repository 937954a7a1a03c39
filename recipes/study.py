"""The command line that studies share: several runs, and a page written from their records."""

from __future__ import annotations

import argparse
import os
from pathlib import Path


def study_parser(description: str, runs: str) -> argparse.ArgumentParser:
    """A parser with the folders, how much to run, and `--page-only`.

    Args:
        description: First line of the help.
        runs: Name of the folder of the runs, below `runs/`.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--runs", type=Path, default=Path("runs") / runs)
    parser.add_argument("--out", type=Path, default=Path("docs"), help="folder of the page")
    parser.add_argument("--parallel", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--page-only", action="store_true", help="write the page from what is there"
    )
    parser.add_argument("--max-steps", type=int, help="steps of every run (default: as configured)")
    return parser
