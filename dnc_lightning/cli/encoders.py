"""`dnc evaluate | replay | zoo | study`: of encoders that are not in training."""

from __future__ import annotations

import argparse
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dnc_lightning.cli.problems import fail
from dnc_lightning.records.schema import plain


def add_commands(commands: Any) -> None:
    """Add those that measure encoders."""
    evaluate = commands.add_parser("evaluate", help="measure frozen encoders on labelled images")
    _add_measured(evaluate, out="evaluation")
    evaluate.add_argument(
        "encoders",
        nargs="+",
        metavar="ENCODER",
        help="timm:NAME, torchvision:NAME, hf:NAME, hub:REPO:NAME, package:efficientnet_lite0, a "
        "checkpoint, or path.to:object",
    )
    evaluate.add_argument("--random", action="store_true", help="random weights, as a baseline")
    evaluate.add_argument("--fresh", action="store_true", help="measure again what was measured")
    evaluate.set_defaults(command=_evaluate)

    replay = commands.add_parser("replay", help="probe every checkpoint of a run that is over")
    _add_measured(replay, out="replay")
    replay.add_argument(
        "checkpoints", nargs="+", metavar="CHECKPOINT", help="files, or folders of them"
    )
    replay.set_defaults(command=_replay)

    zoo = commands.add_parser("zoo", help="measure many encoders on many data sets, by a file")
    zoo.add_argument(
        "file",
        metavar="FILE",
        help='YAML with encoders and data, or "paper": the paper\'s families',
    )
    _add_machine(zoo, out="zoo")
    zoo.add_argument("--fresh", action="store_true", help="measure again what was measured")
    zoo.set_defaults(command=_zoo)

    study = commands.add_parser(
        "study", help="which number says which encoder errs least, over a zoo's encoders"
    )
    study.add_argument(
        "folders", nargs="+", metavar="FOLDER", help="one data set's, with a folder an encoder"
    )
    study.add_argument("--out", type=Path, metavar="DIR", help="where to write study.csv")
    study.set_defaults(command=_study)


def _add_measured(parser: argparse.ArgumentParser, out: str) -> None:
    """The options of what measures encoders."""
    add = parser.add_argument
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
    _add_machine(parser, out)


def _add_machine(parser: argparse.ArgumentParser, out: str) -> None:
    """The options of where and how to run, and where to write."""
    add = parser.add_argument
    add("--accelerator", default="auto", help="auto, cpu, cuda or mps")
    add("--precision", default="32-true", help="32-true, bf16-mixed and so on")
    add("--unsafe", action="store_true", help="run code that checkpoints and hubs bring")
    add(
        "--out",
        type=Path,
        default=Path(out),
        metavar="DIR",
        help=f"folder of the records (default {out})",
    )
    add("--open", action="store_true", help="open the page in the browser")


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
        return fail(problems)
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
    return fail([*problems, *found.problems])


def _zoo(options: argparse.Namespace) -> int:
    from dnc_lightning.evaluation.zoo import EXAMPLE, read_zoo, run_zoo

    sys.path.insert(0, "")
    found = run_zoo(
        read_zoo(EXAMPLE if options.file == "paper" else options.file),
        options.out,
        accelerator=options.accelerator,
        precision=options.precision,
        unsafe=options.unsafe,
        fresh=options.fresh,
    )
    found.show()
    for path in found.files:
        if path.suffix != ".png":  # beside its PDF
            print(plain(str(path)))
    if options.open and found.files:
        webbrowser.open(found.files[0].resolve().as_uri())
    return fail([f"{name} is left out: {problem}" for name, problem in found.missing.items()])


def _study(options: argparse.Namespace) -> int:
    from dnc_lightning.evaluation.study import study

    found = study(options.folders)
    found.show()
    if options.out is not None:
        print(plain(str(found.write(options.out))))
    return fail(found.problems)
