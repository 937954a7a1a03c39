"""A run's configuration, notes and warnings in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from dnc_lightning.records.store import Record, Run
from dnc_lightning.reporting.read.views import duration


@dataclass(frozen=True)
class Remark:
    """A note or warning, and the probes that carry it."""

    text: str
    when: str  # "step 0", "steps 0 to 80, 12 probes"


def remarks(records: Sequence[Record], kind: Literal["notes", "warnings"]) -> list[Remark]:
    """Gather the notes or the warnings of a run, each text once, in order of first appearance."""
    steps: dict[str, list[int]] = {}
    for record in records:
        for text in getattr(record, kind):
            steps.setdefault(text, []).append(record.step)
    return [Remark(text, _when(found)) for text, found in steps.items()]


def run_facts(run: Run) -> list[tuple[str, str]]:
    """Return names and values of a run's configuration, those that the header holds."""
    header = run.header
    probe = header.get("probe") or {}
    tasks = header.get("tasks") or {}
    facts: list[tuple[str, Any]] = [
        ("Model", header.get("model")),
        ("Encoder", ", ".join(header.get("encoders") or ())),
        ("Pooling", header.get("pooling")),
        ("Features", _features(header.get("normalize"))),
        (
            "Tasks",
            ", ".join(f"{task} ({len(names or ())} classes)" for task, names in tasks.items()),
        ),
        ("Probe set", _probe_set(probe)),
        ("Samples per class", _per_class(probe.get("per_class") or {})),
        ("Probe seed", probe.get("seed")),
        ("Image shape", _image(probe)),
        ("Shots", ", ".join(str(shots) for shots in header.get("shots") or ())),
        ("Ways", _ways(header)),
        ("Target error", header.get("target_error")),
        ("Precision", header.get("precision")),
        ("Device", _device(header)),
        ("Started", str(header.get("started") or "").replace("T", " ")),
        ("Training time", duration(run.records[-1].time) if run.records else None),
        ("Probes", len(run.records)),
        *((name, version) for name, version in (header.get("versions") or {}).items()),
    ]
    return [(name, str(value)) for name, value in facts if value not in (None, "")]


def _when(steps: Sequence[int]) -> str:
    if len(steps) == 1:
        return f"step {steps[0]:,}"
    return f"steps {steps[0]:,} to {steps[-1]:,}, {len(steps)} probes"


def _features(normalize: bool | None) -> str:
    return {None: "", True: "L2-normalised", False: "as the encoder gives them"}[normalize]


def _ways(header: Mapping[str, Any]) -> str:
    return str(header.get("ways") or "all classes") if "ways" in header else ""


def _probe_set(probe: Mapping[str, Any]) -> str:
    return f"{probe['size']:,} images" if "size" in probe else ""


def _per_class(counts: Mapping[str, Sequence[int]]) -> str:
    spans = {task: (min(found), max(found)) for task, found in counts.items() if found}
    words = {t: f"{low}" if low == high else f"{low} to {high}" for t, (low, high) in spans.items()}
    if len(set(words.values())) == 1:
        return next(iter(words.values()))
    return ", ".join(f"{task}: {span}" for task, span in words.items())


def _image(probe: Mapping[str, Any]) -> str:
    shape = " x ".join(str(size) for size in probe.get("image_shape") or ())
    return f"{shape} {probe.get('dtype') or ''}".strip()


def _device(header: Mapping[str, Any]) -> str:
    device, ranks = header.get("device"), header.get("world_size") or 1
    return f"{device or ''}{f', {ranks} processes' if ranks > 1 else ''}"
