"""The curve of a run that is over, from its checkpoints: another probe, other metrics or layers."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from torchmetrics import Metric
from tqdm import tqdm

from dnc_lightning.callbacks.examples import write_examples
from dnc_lightning.callbacks.recorder import Recorder
from dnc_lightning.evaluation.checkpoints import (
    build_module,
    find_checkpoints,
    load_state,
    read_checkpoint,
)
from dnc_lightning.evaluation.evaluate import Evaluation, write_page
from dnc_lightning.evaluation.loaded import as_loaded
from dnc_lightning.evaluation.session import Options, build_engine, header, lent, machine
from dnc_lightning.instruments import Instrument
from dnc_lightning.probe.encoders import EncoderLike
from dnc_lightning.probe.pooling import Pooling
from dnc_lightning.probe.probe_set import ProbeSet
from dnc_lightning.records.files import plain_parts
from dnc_lightning.records.store import RECORDS_FILE, Record, read_run


def replay(
    checkpoints: str | Path | Sequence[str | Path],
    model: Any,
    probe: ProbeSet,
    *,
    out: str | Path = "replay",
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
    weights_only: bool = True,
) -> Evaluation:
    """Probe every checkpoint of a run; the result is a run like any other.

    Its numbers are those that `ProbeCallback` recorded at the same steps with the same probe. No
    code of training runs. What is measured already is kept: a replay that was stopped goes on.
    Averages of weights that a callback kept are not replayed.

    Args:
        checkpoints: Files, or folders with any below them; see `find_checkpoints`.
        model: A module, which is copied; a class of LightningModule, made with the checkpoint's
            hyperparameters if it has any; or a callable that makes a module.
        probe: The labelled images.
        out: Folder of the records.
        layer: What to embed with, as `encoder` of ProbeCallback, by default found as there.
        pooling: As of ProbeCallback, and so the following up to `name`.
        preprocess: What training does to images between the data set and the encoder.
        normalize: L2-normalise features first.
        metrics: What to measure.
        shots: Labelled samples per class.
        ways: Classes of an episode.
        name: Of the probe.
        accelerator: As of Lightning's Fabric, and so `precision`.
        precision: "32-true", "bf16-mixed" and so on.
        weights_only: As of `torch.load`: False runs whatever code a checkpoint brings.

    Returns:
        The run; checkpoints that cannot be read or do not fit are among the problems.

    Raises:
        FileNotFoundError: no checkpoint is there.
        ValueError: a step that cannot be read, or an argument, encoder or images that cannot work.
    """
    options = Options(
        layer, pooling, preprocess, normalize, metrics, shots, ways, name, accelerator, precision
    )
    options.check(probe)
    files, problems = find_checkpoints(checkpoints, weights_only=weights_only)
    module = build_module(model, files[0].path, weights_only=weights_only)
    loaded = as_loaded(copy.deepcopy(module) if module is model else module)
    options = options.of(loaded)
    folder = Path(out).joinpath("dnc", *plain_parts(name))
    recorder, began = Recorder(), time.monotonic()
    with machine(options) as here, lent(loaded.module, here.fabric.device):
        first = read_checkpoint(files[0].path, weights_only=weights_only)
        load_state(loaded.module, first, files[0].path)
        engine = build_engine(loaded, probe, options, here)
        rank_zero_info(engine.message)
        engine.embedder.watch = lambda batches, total: batches  # the bar is over checkpoints
        done = -1
        if here.leads:
            facts = header(engine, loaded, probe, options, here)
            previous = folder if (folder / RECORDS_FILE).exists() else None
            kept = _steps(previous)
            problems += recorder.open(folder, facts, previous, max(kept, default=-1))
            if recorder.writer is None:
                raise RuntimeError(" ".join(problems))
            if previous and not recorder.anew and kept == [f.step for f in files[: len(kept)]]:
                done = kept[-1] if kept else -1
            else:
                recorder.writer.truncate_after(-1)
            write_examples(recorder.writer.folder, probe.tasks, engine.bank)
        done = int(here.processes.decide(done))
        left = [file for file in files if file.step > done]
        if len(left) < len(files):
            rank_zero_info(f"{len(files) - len(left)} checkpoints were replayed before")
        for file in tqdm(left, "Replaying", unit="checkpoint", disable=not here.leads):
            try:
                content = read_checkpoint(file.path, weights_only=weights_only)
                load_state(loaded.module, content, file.path)
            except ValueError as error:
                problems.append(f"{error} It is left out.")
                continue
            thorough = file in (files[0], files[-1])
            result = engine.probe(thorough=thorough, trained=engine.measured(thorough=thorough))
            if here.leads:
                record = Record(
                    step=file.step,
                    epoch=file.epoch,
                    time=time.monotonic() - began,
                    scalars=result.scalars,
                    uncalibrated=result.uncalibrated,
                    notes=tuple(result.notes),
                    warnings=tuple(result.warnings),
                )
                problems += recorder.write(record, result.matrices)
        recorder.close()
        if not here.leads:
            return Evaluation({}, None, tuple(problems))
        assert recorder.writer is not None
        run = read_run(recorder.writer.folder)
        runs = {loaded.name: replace(run, problems=(*run.problems, *problems))}
        return Evaluation(runs, write_page(runs, Path(out)), tuple(problems))


def _steps(folder: Path | None) -> list[int]:
    try:
        return [] if folder is None else [record.step for record in read_run(folder).records]
    except (OSError, ValueError):
        return []
