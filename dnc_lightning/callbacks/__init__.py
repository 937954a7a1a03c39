"""Lightning hooks: when to probe and what to log."""

from dnc_lightning.callbacks.best_checkpoint import BestProbeCheckpoint
from dnc_lightning.callbacks.checkpoint import LogSpacedCheckpoint
from dnc_lightning.callbacks.collapse_alarm import CollapseAlarm
from dnc_lightning.callbacks.html_report import HtmlReport
from dnc_lightning.callbacks.probe_callback import ProbeCallback
from dnc_lightning.callbacks.schedules import LogSpaced, Schedule
from dnc_lightning.callbacks.terminal import TerminalSummary

__all__ = [
    "BestProbeCheckpoint",
    "CollapseAlarm",
    "HtmlReport",
    "LogSpaced",
    "LogSpacedCheckpoint",
    "ProbeCallback",
    "Schedule",
    "TerminalSummary",
]
