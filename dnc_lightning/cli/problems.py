"""What could not be done, on the standard error."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from dnc_lightning.records.schema import plain

FAILED = 2  # exit code where anything that was asked for could not be read or written


def fail(problems: Sequence[str]) -> int:
    """Print problems, a line each; return the exit code, 0 without any."""
    for problem in problems:  # they may quote names of folders and files
        print(f"dnc: {plain(' '.join(problem.split()))}", file=sys.stderr)
    return FAILED if problems else 0
