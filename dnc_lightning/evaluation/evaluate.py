"""A frozen encoder's numbers, with the same records, page and comparison as a training run."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn
from torchmetrics import Metric

from dnc_lightning.callbacks.examples import write_examples
from dnc_lightning.callbacks.identity import code_of, pixels_of, short_hash
from dnc_lightning.callbacks.recorder import Recorder
from dnc_lightning.evaluation.loaded import LoadedEncoder, as_loaded
from dnc_lightning.evaluation.session import (
    Machine,
    Options,
    build_engine,
    header,
    images_of,
    lent,
    machine,
)
from dnc_lightning.instruments import Instrument, find_instruments
from dnc_lightning.probe.encoders import EncoderLike
from dnc_lightning.probe.pooling import Pooling
from dnc_lightning.probe.probe_set import ProbeSet
from dnc_lightning.records.files import plain_parts
from dnc_lightning.records.store import Record, Run, read_header, read_run
from dnc_lightning.reporting.compare.page import write_comparison
from dnc_lightning.reporting.compare_runs import find_runs
from dnc_lightning.reporting.html import write_report
from dnc_lightning.reporting.notebook import show
from dnc_lightning.reporting.optional import installed
from dnc_lightning.version import __version__


@dataclass(frozen=True)
class Evaluation:
    """What was found, on the first process; the others have none of it."""

    runs: Mapping[str, Run]  # encoder -> its records, as of a training run
    page: Path | None  # the report of one encoder, the comparison of several
    problems: tuple[str, ...] = ()  # encoders that could not be measured, in words

    def scalars(self, name: str | None = None) -> Mapping[str, float]:
        """The numbers of the last probe of an encoder, by default the only one.

        Raises:
            ValueError: there are several, and none was named.
        """
        if name is None and len(self.runs) != 1:
            raise ValueError(f"name one of the encoders {', '.join(self.runs)}.")
        return self.runs[next(iter(self.runs)) if name is None else name].records[-1].scalars

    def show(self) -> None:
        """Print a table of each and, in a notebook, draw them side by side."""
        if self.runs:
            show(*self.runs.values())


def evaluate(
    encoder: Any,
    probe: ProbeSet,
    *,
    out: str | Path = "evaluation",
    layer: EncoderLike | Mapping[str, EncoderLike] | None = None,
    pooling: Pooling | None = None,
    preprocess: Callable[[Any, Tensor], Tensor] | None = None,
    normalize: bool = False,
    metrics: Sequence[str | Instrument | Metric] | None = None,
    shots: Sequence[int] = (1, 5, 10, 50, 100),
    ways: int | None = None,
    name: str = "probe",
    accelerator: str = "auto",
    precision: str = "32-true",
    fresh: bool = False,
    page: bool = True,
) -> Evaluation:
    """Measure frozen encoders on a labelled probe set, as a thorough probe of training does.

    Each encoder's records lie in a folder of its own below `out`, like those of a run: `dnc show`,
    `report` and `figures` read them. An encoder that was measured before with these weights,
    images and settings is not measured again. Under torchrun each process embeds a part of the
    images, with the numbers of one.

    Args:
        encoder: A module, a callable `images [N, C, H, W] -> features`, what `load_encoder` gives,
            or several: name -> any of these.
        probe: The labelled images. One without a transform takes each encoder's own preprocessing,
            where it brings one.
        out: Folder of the records.
        layer: What to embed with, as `encoder` of ProbeCallback; default what a module returns.
        pooling: As of ProbeCallback; default the encoder's own, else "auto".
        preprocess: As of ProbeCallback, and so the following up to `name`.
        normalize: L2-normalise features first.
        metrics: What to measure.
        shots: Labelled samples per class.
        ways: Classes of an episode.
        name: Of the probe.
        accelerator: "auto", "cpu", "cuda", "mps": as of Lightning's Fabric.
        precision: "32-true", "bf16-mixed", "16-mixed" and so on, as of Lightning's Fabric.
        fresh: Measure again what was measured before.
        page: Write a page; False where one of many encoders will be written later.

    Raises:
        ValueError: an argument out of range, an encoder or images that cannot work; of several
            encoders only where none works, else it is among the problems.

    Examples:
        ```python
        found = evaluate(torchvision.models.resnet18(), ProbeSet(dataset, per_class=100))
        found.show()
        ```
    """
    several = isinstance(encoder, Mapping)
    given = encoder if isinstance(encoder, Mapping) else {None: encoder}
    if not given:
        raise ValueError("evaluate needs an encoder, got an empty mapping.")
    options = Options(
        layer, pooling, preprocess, normalize, metrics, shots, ways, name, accelerator, precision
    )
    options.check(probe)
    runs: dict[str, Run] = {}
    problems: list[str] = []
    with machine(options) as here:
        for key, value in given.items():
            try:
                loaded = as_loaded(value, key)
                found = _one(loaded, probe, options.of(loaded), Path(out), here, fresh=fresh)
            except (ValueError, RuntimeError) as error:
                if not several:
                    raise
                problems.append(f"{key}: {error}")
                rank_zero_info(problems[-1])
                continue
            if found is not None:
                runs[loaded.name] = found
        if several and len(problems) == len(given):
            raise ValueError(f"no encoder could be measured. {' '.join(problems)}")
        written = write_page(runs, Path(out)) if here.leads and page else None
    return Evaluation(runs, written, tuple(problems))


def _one(
    loaded: LoadedEncoder,
    probe: ProbeSet,
    options: Options,
    out: Path,
    machine: Machine,
    *,
    fresh: bool,
) -> Run | None:
    """Measure one encoder, or read what was measured before; None on other processes."""
    images, remark = images_of(loaded, probe)
    identity = _identity(loaded, images, options)
    folder = out.joinpath(*plain_parts(loaded.name), "dnc", *plain_parts(options.name))
    known = None if fresh else _measured_before(folder, identity)
    if machine.processes.decide(float(known is not None)):
        rank_zero_info(f"{loaded.name}: measured before, see {folder}")
        return known if machine.leads else None
    with lent(loaded.module, machine.fabric.device):
        began = time.monotonic()
        engine = build_engine(loaded, images, options, machine)
        rank_zero_info(engine.message)
        result = engine.probe(thorough=True, trained=engine.measured(thorough=True))
    if not machine.leads:
        return None
    seconds = time.monotonic() - began
    result.scalars[f"{options.name}/seconds"] = seconds
    recorder = Recorder()
    facts = header(engine, loaded, images, options, machine) | {"evaluation": identity}
    record = Record(
        step=0,
        epoch=0,
        time=seconds,
        scalars=result.scalars,
        uncalibrated=result.uncalibrated,
        notes=tuple(filter(None, (loaded.statement, remark, *result.notes))),
        warnings=tuple(result.warnings),
    )
    problems = recorder.open(folder, facts, None, -1)
    problems += recorder.write(record, result.matrices)
    recorder.close()
    if problems or recorder.writer is None:
        raise RuntimeError(" ".join(problems))
    write_examples(recorder.writer.folder, images.tasks, engine.bank)
    return read_run(recorder.writer.folder)


def write_page(runs: Mapping[str, Run], out: Path) -> Path | None:
    """The report of one run, the comparison of several; None without plotly or runs."""
    if not runs or not installed("plotly"):
        return None
    if len(runs) == 1:
        (run,) = runs.values()
        return write_report(run, run.folder / "report.html")
    found = find_runs([run.folder for run in runs.values()], list(runs))
    return write_comparison(found, out / "comparison.html")


def _measured_before(folder: Path, identity: Mapping[str, Any]) -> Run | None:
    with suppress(OSError, ValueError):
        if read_header(folder).get("evaluation") == identity and (run := read_run(folder)).records:
            return run
    return None


def _identity(loaded: LoadedEncoder, probe: ProbeSet, options: Options) -> dict[str, Any]:
    """What the numbers depend on, in plain JSON, from what is known before images are decoded."""
    called, encoder = getattr(loaded.module, "function", None), options.encoder
    layers = encoder.items() if isinstance(encoder, Mapping) else [("", encoder)]
    return {
        "weights": checksum(loaded.module),
        "code": code_of(called or type(loaded.module).forward),
        "statement": loaded.statement,
        "layers": [[k, code_of(v) if callable(v) else v] for k, v in layers],
        "pooling": options.pooling,
        "preprocess": options.preprocess and code_of(options.preprocess),
        "normalize": options.normalize,
        "metrics": [instrument.name for instrument in find_instruments(options.metrics)],
        "shots": list(options.shots),
        "ways": options.ways,
        "precision": options.precision,
        "samples": short_hash(probe.indices.tolist()),
        "labels": {name: short_hash(task.labels.tolist()) for name, task in probe.tasks.items()},
        "images": pixels_of(probe),
        "dnc_lightning": __version__,
    }


def checksum(module: nn.Module) -> str:
    """A short hash of all parameters and buffers of a module, bit by bit."""
    found = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        if isinstance(tensor, Tensor):
            found.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
            bits = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
            found.update(bits.numpy().data)
    return found.hexdigest()[:12]
