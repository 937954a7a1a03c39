"""`dnc`: tables, pages and figures of recorded runs."""

from __future__ import annotations

import argparse
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dnc_lightning.records.schema import plain
from dnc_lightning.version import __version__

FAILED = 2  # exit code where anything that was asked for could not be read or written


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
        return _fail([str(error)])


def parser() -> argparse.ArgumentParser:
    """Return the parser; each command is a function in `options.command`."""
    top = argparse.ArgumentParser(
        prog="dnc", description="Directional neural collapse of recorded runs.", allow_abbrev=False
    )
    top.add_argument("--version", action="version", version=f"dnc_lightning {__version__}")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
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

    measured = _measured()
    evaluate = commands.add_parser(
        "evaluate", parents=[measured], help="measure frozen encoders on labelled images"
    )
    evaluate.add_argument(
        "encoders",
        nargs="+",
        metavar="ENCODER",
        help="timm:NAME, torchvision:NAME, hf:NAME, hub:REPO:NAME, package:efficientnet_lite0, a "
        "checkpoint, or path.to:object",
    )
    evaluate.add_argument("--random", action="store_true", help="random weights, as a baseline")
    evaluate.add_argument("--fresh", action="store_true", help="measure again what was measured")
    evaluate.set_defaults(command=_evaluate, out=Path("evaluation"))

    replay = commands.add_parser(
        "replay", parents=[measured], help="probe every checkpoint of a run that is over"
    )
    replay.add_argument(
        "checkpoints", nargs="+", metavar="CHECKPOINT", help="files, or folders of them"
    )
    replay.set_defaults(command=_replay, out=Path("replay"))

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
    return top


def _measured() -> argparse.ArgumentParser:
    """The options of what measures encoders."""
    measured = argparse.ArgumentParser(add_help=False)
    add = measured.add_argument
    add(
        "--data",
        required=True,
        metavar="DATA",
        help="a folder of a folder of images for each class, hf:NAME:SPLIT, or path.to:object",
    )
    add("--per-class", type=int, metavar="N", help="images of each class (default 100)")
    add("--labels", nargs="+", metavar="COLUMN", help="columns of the data that are tasks")
    add("--model", metavar="PATH.TO:OBJECT", help="what a checkpoint's weights belong to")
    add("--layers", nargs="+", metavar="PATH", help='such as "backbone" or "backbone:layer3"')
    add("--pooling", choices=("auto", "cls", "mean"), help="of tokens and maps")
    add("--normalize", action="store_true", help="L2-normalise features first")
    add("--metrics", nargs="+", metavar="NAME", help="default: as of ProbeCallback")
    add("--shots", nargs="+", type=int, default=[1, 5, 10, 50, 100], metavar="M")
    add("--ways", type=int, metavar="K", help="classes of an episode (default all)")
    add("--accelerator", default="auto", help="auto, cpu, cuda or mps")
    add("--precision", default="32-true", help="32-true, bf16-mixed and so on")
    add("--unsafe", action="store_true", help="run code that checkpoints and hubs bring")
    add("--out", type=Path, metavar="DIR", help="folder of the records (default: the command's)")
    add("--open", action="store_true", help="open the page in the browser")
    return measured


def _evaluate(options: argparse.Namespace) -> int:
    from dnc_lightning.evaluation import evaluate
    from dnc_lightning.evaluation.encoders import load_encoder

    settings, probe = _settings(options)
    encoders, problems = {}, []
    for spec in dict.fromkeys(options.encoders):
        try:
            encoders[spec] = load_encoder(
                spec, model=options.model, pretrained=not options.random, unsafe=options.unsafe
            )
        except (ValueError, ModuleNotFoundError) as error:
            problems.append(str(error))
    if not encoders:
        return _fail(problems)
    return _shown(evaluate(encoders, probe, fresh=options.fresh, **settings), options, problems)


def _replay(options: argparse.Namespace) -> int:
    from dnc_lightning.evaluation import replay
    from dnc_lightning.evaluation.encoders.files import imported

    settings, probe = _settings(options)
    if options.model is None:
        raise ValueError("name what the weights belong to: --model path.to:object")
    model = imported(options.model)
    unsafe = options.unsafe
    found = replay(options.checkpoints, model, probe, weights_only=not unsafe, **settings)
    return _shown(found, options, [])


def _settings(options: argparse.Namespace) -> tuple[dict[str, Any], Any]:
    """Arguments of `evaluate` and `replay`, and the probe set."""
    from dnc_lightning.evaluation.data import load_probe

    sys.path.insert(0, "")  # as `python -m` does: objects by their paths lie below this folder
    labels = (
        options.labels if options.labels is None or len(options.labels) > 1 else options.labels[0]
    )
    probe = load_probe(options.data, per_class=options.per_class, labels=labels)
    layers = options.layers and {path: path for path in options.layers}
    names = ("out", "pooling", "normalize", "metrics", "shots", "ways", "accelerator", "precision")
    return {"layer": layers} | {name: getattr(options, name) for name in names}, probe


def _shown(found: Any, options: argparse.Namespace, problems: Sequence[str]) -> int:
    found.show()
    if found.page is not None:
        print(plain(str(found.page)))
        if options.open:
            webbrowser.open(found.page.resolve().as_uri())
    return _fail([*problems, *found.problems])


def _show(options: argparse.Namespace) -> int:
    from dnc_lightning.reporting.compare_runs import find_runs
    from dnc_lightning.reporting.optional import require
    from dnc_lightning.reporting.terminal import print_run
    from dnc_lightning.reporting.terminal_best import print_best

    require("rich")
    found = find_runs(options.runs)
    for named in found.runs:
        (print_best if options.best else print_run)(named.run, named.name)
    return _fail(found.problems)


def _report(options: argparse.Namespace) -> int:
    from dnc_lightning.reporting.compare.page import write_comparison
    from dnc_lightning.reporting.compare_runs import find_runs
    from dnc_lightning.reporting.html import write_report

    found = find_runs(options.runs, options.label)
    if not found.runs:
        return _fail(found.problems)
    if len(found.runs) == 1:
        run = found.runs[0].run
        path = write_report(run, options.out or run.folder / "report.html")
    else:
        path = write_comparison(found, options.out or "comparison.html")
    print(plain(str(path)))
    if options.open:
        webbrowser.open(path.resolve().as_uri())
    return _fail(found.problems)


def _figures(options: argparse.Namespace) -> int:
    from dnc_lightning.reporting.compare_runs import find_runs
    from dnc_lightning.reporting.paper.figures import write_figures

    found = find_runs(options.runs, options.label)
    if found.runs:
        for path in write_figures(
            found.groups, options.out, tasks=options.task, width=options.width
        ):
            print(plain(str(path)))
    return _fail(found.problems)


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
        return _fail(["not logged in to W&B, so nothing was saved: run `wandb login` first"])
    return 0


def _fail(problems: Sequence[str]) -> int:
    for problem in problems:  # a line each; they may quote names of folders and files
        print(f"dnc: {plain(' '.join(problem.split()))}", file=sys.stderr)
    return FAILED if problems else 0


if __name__ == "__main__":
    sys.exit(main())
