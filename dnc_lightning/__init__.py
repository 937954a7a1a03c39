"""The instrument panel of self-supervised learning."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dnc_lightning.version import __version__

if TYPE_CHECKING:
    from dnc_lightning.callbacks import (
        BestProbeCheckpoint,
        CollapseAlarm,
        HtmlReport,
        LogSpaced,
        LogSpacedCheckpoint,
        ProbeCallback,
        TerminalSummary,
    )
    from dnc_lightning.evaluation import evaluate, replay
    from dnc_lightning.probe import ProbeSet, TokenProbe, image_views, layer_output
    from dnc_lightning.records.store import read_run
    from dnc_lightning.reporting.notebook import show

__all__ = [
    "BestProbeCheckpoint",
    "CollapseAlarm",
    "HtmlReport",
    "LogSpaced",
    "LogSpacedCheckpoint",
    "ProbeCallback",
    "ProbeSet",
    "TerminalSummary",
    "TokenProbe",
    "__version__",
    "evaluate",
    "image_views",
    "layer_output",
    "read_run",
    "replay",
    "show",
]

_HOMES = {
    "BestProbeCheckpoint": "dnc_lightning.callbacks",
    "CollapseAlarm": "dnc_lightning.callbacks",
    "HtmlReport": "dnc_lightning.callbacks",
    "LogSpaced": "dnc_lightning.callbacks",
    "LogSpacedCheckpoint": "dnc_lightning.callbacks",
    "ProbeCallback": "dnc_lightning.callbacks",
    "ProbeSet": "dnc_lightning.probe",
    "TerminalSummary": "dnc_lightning.callbacks",
    "TokenProbe": "dnc_lightning.probe",
    "evaluate": "dnc_lightning.evaluation",
    "image_views": "dnc_lightning.probe",
    "layer_output": "dnc_lightning.probe",
    "read_run": "dnc_lightning.records.store",
    "show": "dnc_lightning.reporting.notebook",
    "replay": "dnc_lightning.evaluation",
}


def __getattr__(name: str) -> Any:
    """Import Lightning only when a callback is asked for: the mathematics needs torch alone."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
