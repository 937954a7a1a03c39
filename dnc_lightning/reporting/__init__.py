"""From records on disk to pictures, with numpy and plotly alone."""

from dnc_lightning.records.store import Record, RecordWriter, Run, read_run

__all__ = ["Record", "RecordWriter", "Run", "read_run"]
