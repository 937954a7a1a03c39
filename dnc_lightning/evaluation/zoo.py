"""Many encoders on many data sets, as one file names them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import product
from pathlib import Path
from typing import IO, Any

from lightning.pytorch.utilities import rank_zero_info

from dnc_lightning.evaluation.agreement import LEAST
from dnc_lightning.evaluation.data import load_probe
from dnc_lightning.evaluation.encoders import load_encoder
from dnc_lightning.evaluation.evaluate import evaluate
from dnc_lightning.evaluation.optional import require
from dnc_lightning.evaluation.study import METRICS, OUTCOMES, Study, study
from dnc_lightning.instruments import DEFAULT
from dnc_lightning.records.store import Run
from dnc_lightning.reporting.compare.numbers import numbers
from dnc_lightning.reporting.compare.page import write_comparison
from dnc_lightning.reporting.compare_runs import find_runs
from dnc_lightning.reporting.optional import installed
from dnc_lightning.reporting.paper.figures import write_figures
from dnc_lightning.reporting.read.views import views
from dnc_lightning.reporting.terminal import Row, console_of, table_of
from dnc_lightning.reporting.words import HYPHEN, bound_words, measured_words, number_words

EXAMPLE = Path(__file__).with_name("paper.yaml")
"""The seven families of arXiv:2603.03530."""

MEASURED = (*DEFAULT, "knn", "linear", "transfer")
"""What every encoder is measured by."""

SHOTS = (1, 5, 10, 20, 50, 100)


@dataclass(frozen=True)
class Zoo:
    """Encoders and data sets by names of the file's choice."""

    encoders: Mapping[str, Mapping[str, Any]]  # name -> arguments of `load_encoder`
    data: Mapping[str, Mapping[str, Any]]  # name -> arguments of `load_probe`
    ways: tuple[int | None, ...] = (None,)  # classes of an episode; None is all
    shots: tuple[int, ...] = SHOTS


@dataclass
class ZooResult:
    """What was measured."""

    runs: dict[str, dict[str, Run]]  # data set -> encoder -> its probe "test"
    missing: dict[str, str]  # encoder -> why it is left out: not to be had, or not measured
    files: list[Path] = field(default_factory=list)  # pages and figures
    study: Study | None = None  # None of fewer than four encoders

    def show(self, file: IO[str] | None = None) -> None:
        """Print one table of each data set, and the study."""
        console = console_of(file)
        for name, runs in self.runs.items():
            console.print(f"\n[bold]{name}[/]")
            console.print(table_of(_rows(runs)))
        if self.study is not None:
            self.study.show(file)


def read_zoo(path: str | Path) -> Zoo:
    """Read a zoo's file.

    ```yaml
    encoders:                       # a word as of `dnc evaluate`, or arguments of load_encoder
      DINOv2: hf:facebook/dinov2-base
      mine: {spec: run/last.ckpt, model: path.to:Module}
    data:                           # a word as of --data, or arguments of load_probe
      flowers: {spec: images/flowers, per_class: 100}
    ways: [2, all]                  # optional
    shots: [1, 5, 10]               # optional
    ```

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it does not say this; names what is wrong.
    """
    require("yaml")
    import yaml

    try:
        content = yaml.safe_load(Path(path).read_text())
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is no YAML: {error}") from error
    known = [one.name for one in fields(Zoo)]
    if not isinstance(content, dict) or not content.keys() >= {"encoders", "data"}:
        raise ValueError(f"{path} must name encoders and data; a zoo has {', '.join(known)}.")
    if unknown := content.keys() - set(known):
        raise ValueError(f"{path}: unknown {', '.join(unknown)}; a zoo has {', '.join(known)}.")
    return Zoo(
        encoders=_named(content["encoders"], "encoders", path),
        data=_named(content["data"], "data", path),
        ways=tuple(None if way == "all" else int(way) for way in content.get("ways", ["all"])),
        shots=tuple(map(int, content.get("shots", SHOTS))),
    )


def run_zoo(
    zoo: Zoo,
    out: str | Path = "zoo",
    *,
    accelerator: str = "auto",
    precision: str = "32-true",
    unsafe: bool = False,
    fresh: bool = False,
) -> ZooResult:
    """Measure every encoder on every data set, one encoder in memory at a time.

    The images of a data set are split into two halves: the probe "train" gives the numbers, the
    probe "test" the errors that they are compared with. What is there already is not measured
    again. Encoders that cannot be had are named at the start, and left out.

    Args:
        zoo: From `read_zoo`.
        out: Folder; each data set has one of its own below it.
        accelerator: As of `evaluate`, and so the following.
        precision: "32-true", "bf16-mixed" and so on.
        unsafe: Run code that checkpoints and hubs bring.
        fresh: Measure again what was measured before.

    Raises:
        ValueError: no encoder can be had, or data that cannot be loaded.
    """
    missing = _missing(zoo, unsafe=unsafe)
    for name, problem in missing.items():
        rank_zero_info(f"{name} is left out: {problem}")
    if len(missing) == len(zoo.encoders):
        raise ValueError("no encoder of the zoo can be had.")
    halves = {
        name: dict(zip((METRICS, OUTCOMES), load_probe(**given).halves(), strict=True))
        for name, given in zoo.data.items()
    }
    found = ZooResult({name: {} for name in zoo.data}, missing)
    for encoder, given in zoo.encoders.items():
        if encoder in missing:
            continue
        loaded = load_encoder(**given, unsafe=unsafe, name=encoder)
        try:
            for name, half, way in product(halves, (METRICS, OUTCOMES), zoo.ways):
                measured = evaluate(
                    loaded,
                    halves[name][half],
                    out=Path(out) / name,
                    metrics=MEASURED,
                    shots=zoo.shots,
                    ways=way,
                    name=_probe(half, way, zoo),
                    accelerator=accelerator,
                    precision=precision,
                    fresh=fresh,
                    page=False,
                )
                if half == OUTCOMES and way == zoo.ways[0]:
                    found.runs[name] |= measured.runs
        except (ValueError, RuntimeError) as error:  # the others go on
            missing[encoder] = str(error)
            for runs in found.runs.values():
                runs.pop(encoder, None)
    if not any(found.runs.values()):  # of other processes than the first, or nothing worked
        return found
    _pages(found, zoo, Path(out))
    measured_all = [encoder for encoder in zoo.encoders if encoder not in missing]
    if len(measured_all) >= LEAST:
        found.study = study([Path(out) / name for name in zoo.data], only=measured_all)
        found.files.append(found.study.write(Path(out)))
    return found


def _probe(half: str, way: int | None, zoo: Zoo) -> str:
    """The first number of ways has the plain name, which the study reads."""
    return half if way == zoo.ways[0] else f"{half}-{way or 'all'}-ways"


def _missing(zoo: Zoo, *, unsafe: bool) -> dict[str, str]:
    """Encoder -> why it cannot be loaded. Each is let go at once: they may not fit together."""
    found: dict[str, str] = {}
    for name, given in zoo.encoders.items():
        try:
            load_encoder(**given, unsafe=unsafe)
        except (ValueError, ModuleNotFoundError, OSError) as error:
            found[name] = str(error)
    return found


def _pages(found: ZooResult, zoo: Zoo, out: Path) -> None:
    """For each data set and number of ways a comparison and the figures of a paper."""
    for name, runs in found.runs.items():
        for way in zoo.ways:
            probe = _probe(OUTCOMES, way, zoo)
            folders = [run.folder.with_name(probe) for run in runs.values()]
            there = find_runs(folders, list(runs))
            end = probe.removeprefix(OUTCOMES)
            if len(folders) > 1 and installed("plotly"):
                page = write_comparison(there, out / name / f"comparison{end}.html")
                found.files.append(page)
            if installed("matplotlib"):
                found.files += write_figures(there.groups, out / name / f"figures{end}")


def _named(given: Any, what: str, path: str | Path) -> dict[str, dict[str, Any]]:
    if not isinstance(given, dict) or not given:
        raise ValueError(f"{path}: {what} must map names to words, got {given!r}.")
    found = {}
    for name, value in given.items():
        entry = {"spec": value} if isinstance(value, str) else value
        if not isinstance(entry, dict) or "spec" not in entry:
            raise ValueError(
                f"{path}: {what}, {name}: a word or arguments with spec, got {value!r}."
            )
        found[str(name)] = entry
    return found


def _rows(runs: Mapping[str, Run]) -> Iterator[Row]:
    for encoder, run in runs.items():
        for view in views(run):
            row = numbers(run, view)
            m = row.middle
            yield [
                ("Encoder", encoder),
                ("task", view.task),
                ("dir. CDNV", number_words(row.directional_cdnv.last)),
                ("CDNV", number_words(row.cdnv.last)),
                *_at(row, m),
            ]


def _at(row: Any, m: int) -> Sequence[tuple[str, str]]:
    if m < 0:
        return [("error@m", HYPHEN), ("cert@m", HYPHEN)]
    return [
        (f"error@{row.shots[m]}", measured_words(row.error[m], row.error_se[m])),
        (f"cert@{row.shots[m]}", bound_words(row.certificate[m])),
    ]
