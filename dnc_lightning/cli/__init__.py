"""`dnc`: tables, pages and figures of runs, and of encoders that are not in training."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from dnc_lightning.cli import encoders, runs
from dnc_lightning.cli.problems import FAILED, fail
from dnc_lightning.version import __version__

__all__ = ["FAILED", "main", "parser"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: Words after `dnc`; default those of this process.

    Returns:
        0, or 2 if something could not be read or written; the standard error then says what.
    """
    options = parser().parse_args(argv)
    try:
        return int(options.command(options))
    except (FileNotFoundError, ModuleNotFoundError, ValueError, OSError) as error:
        return fail([str(error)])


def parser() -> argparse.ArgumentParser:
    """Return the parser; each command is a function in `options.command`."""
    top = argparse.ArgumentParser(
        prog="dnc", description="Directional neural collapse of recorded runs.", allow_abbrev=False
    )
    top.add_argument("--version", action="version", version=f"dnc_lightning {__version__}")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    runs.add_commands(commands)
    encoders.add_commands(commands)
    return top
