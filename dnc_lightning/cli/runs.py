"""`dnc show | watch | report | figures | wandb-workspace`: of runs that are recorded."""

from __future__ import annotations

import argparse
import contextlib
import webbrowser
from pathlib import Path
from typing import Any

from dnc_lightning.cli.problems import fail
from dnc_lightning.records.schema import plain


def add_commands(commands: Any) -> None:
    """Add those that read what is recorded."""
    runs = argparse.ArgumentParser(add_help=False)
    runs.add_argument(
        "runs",
        nargs="+",
        metavar="RUN",
        help="folder of a run's records, or any folder above several",
    )
    labelled = argparse.ArgumentParser(add_help=False)
    labelled.add_argument(
        "--label",
        nargs="+",
        metavar="NAME",
        help="one name for each RUN: what lies below it are seeds of one method",
    )

    show = commands.add_parser("show", parents=[runs], help="print a table of each run")
    show.add_argument("--best", action="store_true", help="which probe each number calls the best")
    show.set_defaults(command=_show)

    watch = commands.add_parser(
        "watch", help="show runs in the browser as they train, on this machine alone"
    )
    watch.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="of runs")
    watch.add_argument("--port", type=int, default=7006, help="0 for a free one (default 7006)")
    watch.add_argument(
        "--host", default="127.0.0.1", help="address to listen at; any but this needs a token"
    )
    watch.add_argument("--open", action="store_true", help="open it in the browser")
    watch.set_defaults(command=_watch)

    report = commands.add_parser(
        "report", parents=[runs, labelled], help="write one run's page, or compare several"
    )
    report.add_argument(
        "--out",
        type=Path,
        metavar="PATH",
        help="page to write (default report.html in the run's folder, or comparison.html here)",
    )
    report.add_argument("--open", action="store_true", help="open the page in the browser")
    report.set_defaults(command=_report)

    figures = commands.add_parser(
        "figures", parents=[runs, labelled], help="draw figures for a paper, as PDF and PNG"
    )
    figures.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to fill")
    figures.add_argument("--task", action="append", metavar="TASK", help="only this task")
    figures.add_argument(
        "--width", choices=("single", "double"), default="double", help="3.25 or 6.75 inches"
    )
    figures.set_defaults(command=_figures)

    workspace = commands.add_parser("wandb-workspace", help="lay out a W&B project like the report")
    workspace.add_argument("--project", required=True)
    workspace.add_argument("--entity", default="")
    workspace.add_argument("--name", default="Directional neural collapse", help="of the view")
    workspace.add_argument("--prefix", help="first part of the logged keys (default probe)")
    workspace.add_argument("--task", action="append", help="repeat for several (default label)")
    workspace.add_argument("--shots", type=int, default=5, help="of the errors that are shown")
    workspace.add_argument(
        "--run", type=Path, metavar="RUN", help="a run's records: lay out its tasks and series"
    )
    workspace.add_argument(
        "--dry-run", action="store_true", help="print the layout as JSON, save nothing"
    )
    workspace.set_defaults(command=_workspace)


def _show(options: argparse.Namespace) -> int:
    from dnc_lightning.reporting.compare_runs import find_runs
    from dnc_lightning.reporting.optional import require
    from dnc_lightning.reporting.terminal import print_run
    from dnc_lightning.reporting.terminal_best import print_best

    require("rich")
    found = find_runs(options.runs)
    for named in found.runs:
        (print_best if options.best else print_run)(named.run, named.name)
    return fail(found.problems)


def _watch(options: argparse.Namespace) -> int:
    from dnc_lightning.reporting.live.server import serve
    from dnc_lightning.reporting.optional import require

    require("plotly")
    with serve(options.folders, options.host, options.port) as (server, address):
        print(f"{plain(address)}  (Ctrl-C ends it)", flush=True)
        if options.open and not webbrowser.open(address):
            print("no browser was found here: open the address yourself", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()
    return 0


def _report(options: argparse.Namespace) -> int:
    from dnc_lightning.reporting.compare.page import write_comparison
    from dnc_lightning.reporting.compare_runs import find_runs
    from dnc_lightning.reporting.html import write_report

    found = find_runs(options.runs, options.label)
    if not found.runs:
        return fail(found.problems)
    if len(found.runs) == 1:
        run = found.runs[0].run
        path = write_report(run, options.out or run.folder / "report.html")
    else:
        path = write_comparison(found, options.out or "comparison.html")
    print(plain(str(path)))
    if options.open:
        webbrowser.open(path.resolve().as_uri())
    return fail(found.problems)


def _figures(options: argparse.Namespace) -> int:
    from dnc_lightning.reporting.compare_runs import find_runs
    from dnc_lightning.reporting.paper.figures import write_figures

    found = find_runs(options.runs, options.label)
    if found.runs:
        for path in write_figures(
            found.groups, options.out, tasks=options.task, width=options.width
        ):
            print(plain(str(path)))
    return fail(found.problems)


def _workspace(options: argparse.Namespace) -> int:
    from dnc_lightning.records.store import read_header
    from dnc_lightning.reporting.read.places import places
    from dnc_lightning.reporting.workspace import logged_in, workspace, workspace_json

    header = read_header(options.run) if options.run else {}
    prefix = options.prefix or header.get("name") or "probe"
    tasks = options.task or [
        place.prefix.removeprefix(f"{prefix}/").removesuffix("/")
        for place in places(header)
        if place.task is not None
    ]
    layout: Any = workspace(
        options.project,
        options.entity,
        options.name,
        prefix,
        tasks=tuple(tasks or ["label"]),
        shots=options.shots,
        header=header,
    )
    if not options.dry_run and logged_in():
        print(layout.save().url)
        return 0
    print(workspace_json(layout))
    if not options.dry_run:
        return fail(["not logged in to W&B, so nothing was saved: run `wandb login` first"])
    return 0
