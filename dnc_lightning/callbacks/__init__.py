"""Lightning hooks: when to probe and what to log."""

from dnc_lightning.callbacks.html_report import HtmlReport
from dnc_lightning.callbacks.probe_callback import ProbeCallback
from dnc_lightning.callbacks.schedules import LogSpaced, Schedule

__all__ = ["HtmlReport", "LogSpaced", "ProbeCallback", "Schedule"]
