"""The facts of a run that its records carry."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import lightning
import torch
from lightning.pytorch import LightningModule, Trainer

from dnc_lightning.callbacks.clock import counted_in
from dnc_lightning.callbacks.identity import fingerprint
from dnc_lightning.callbacks.run_state import RunState
from dnc_lightning.functional.summary import TARGET_ERROR
from dnc_lightning.instruments import declared
from dnc_lightning.probe.engine import ProbeEngine
from dnc_lightning.probe.pooling import Pooling
from dnc_lightning.probe.probe_set import ProbeSet
from dnc_lightning.version import __version__


def run_header(callback: RunState, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
    """Describe a run that a Trainer trains, in plain JSON."""
    return header_of(
        callback.engine_,
        callback.probe,
        pooling=callback.pooling,
        precision=str(trainer.precision),
        steps=counted_in(trainer),
        model=type(pl_module).__name__,
        world_size=trainer.world_size,
    )


def header_of(
    engine: ProbeEngine,
    probe: ProbeSet,
    *,
    pooling: Pooling,
    precision: str,
    steps: str,
    model: str,
    world_size: int,
) -> dict[str, Any]:
    """Describe probe, encoders and machine in plain JSON."""
    tasks, settings, preprocess = probe.tasks, engine.settings, engine.embedder.preprocess
    return {
        "name": engine.prefix,
        "encoders": list(engine.names),
        "sources": engine.sources,
        "profiles": _profiles(engine),
        "dimensions": {name: empty.shape[1] for name, empty in engine.empty.items()},
        "layouts": {encoder.name: str(encoder.layout) for encoder in engine.embedder.encoders},
        "tasks": {name: list(task.classes) for name, task in tasks.items()},
        "prefixes": engine.prefixes,
        "probe": {
            "size": len(probe),
            "per_class": {
                name: torch.bincount(task.labels, minlength=len(task.classes)).tolist()
                for name, task in tasks.items()
            },
            "seed": probe.seed,
            "skipped": len(probe.skipped),
            "image_shape": list(engine.image_shape),
            "dtype": str(engine.image_dtype).removeprefix("torch."),
        },
        "pooling": pooling,
        "preprocess": getattr(preprocess, "__qualname__", preprocess and "given"),
        "normalize": settings.normalize,
        "precision": precision,
        "shots": list(settings.shots),
        "ways": settings.ways,
        "series": [series.to_json() for series in declared(engine.instruments)],
        "target_error": TARGET_ERROR,
        "steps": steps,
        "model": model,
        "device": str(engine.device),
        "world_size": world_size,
        "versions": {
            "dnc_lightning": __version__,
            "lightning": str(lightning.__version__),
            "torch": str(torch.__version__),
        },
        "fingerprint": fingerprint(engine, probe, preprocess),
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def _profiles(engine: ProbeEngine) -> dict[str, list[str]]:
    """Encoder whose layers are all looked at -> their names, the first that runs first."""
    encoders = engine.embedder.encoders
    found = dict.fromkeys(e.profile for e in encoders if e.profile is not None)
    return {name: [e.name for e in encoders if e.profile == name] for name in found}
