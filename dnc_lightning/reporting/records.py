"""The older place of what `dnc_lightning.records.store` holds."""

from dnc_lightning.records.store import Record, RecordWriter, Run, read_header, read_run

__all__ = ["Record", "RecordWriter", "Run", "read_header", "read_run"]
