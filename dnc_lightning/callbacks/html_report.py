"""A page that shows the run while it trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_warn

from dnc_lightning.reporting.draw.axes import require_plotly
from dnc_lightning.reporting.html import write_report


class HtmlReport(Callback):
    """Keeps one self-contained page per `ProbeCallback`, rewritten after each of its probes.

    The page lies in the run's folder, needs no server and no network, and may be opened at any
    time: each version replaces the last in one step. It is made from the records on disk alone, on
    rank zero, and a page that cannot be written never stops the training.

    Args:
        filename: Name of the page inside the run's folder.

    Example:
        ```python
        trainer = Trainer(callbacks=[ProbeCallback(probe), HtmlReport()])
        ```
    """

    def __init__(self, filename: str = "report.html") -> None:
        self.filename = filename

    @property
    def state_key(self) -> str:
        """Tell two reports of one Trainer apart."""
        return self._generate_state_key(filename=self.filename)

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Check, before the first step, that there is something to show and the means to show it.

        Raises:
            ModuleNotFoundError: If plotly is not installed; the message names the extra.
            ValueError: If the Trainer has no `ProbeCallback`, or `filename` is not a file name.
        """
        if stage != "fit":
            return
        if self.filename == ".." or Path(self.filename).name != self.filename or not self.filename:
            raise ValueError(
                f"HtmlReport expected a plain file name, got filename={self.filename!r}: the page "
                "is written into the run's folder, pass for example 'report.html'"
            )
        if not _probes(trainer):
            raise ValueError(
                "HtmlReport shows what a ProbeCallback records, but the Trainer has none: "
                "add ProbeCallback(...) to the Trainer's callbacks"
            )
        require_plotly()
        self.path_: Path | None = None  # of the page written last
        self._shown: dict[Path, int] = {}  # run folder -> records in its page
        self._warned = False

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Show the probe before the first step, if it has run."""
        self._update(trainer)

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Show a new probe."""
        self._update(trainer)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Show a new probe."""
        self._update(trainer)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Show the last probe, if it ran before this hook."""
        self._update(trainer)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Leave a page that no longer waits for more."""
        self._finish(trainer)

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Write the page a last time, marked as finished, whatever the order of the callbacks."""
        if stage == "fit":
            self._finish(trainer)

    def _update(self, trainer: Any) -> None:
        for folder, records in _folders(trainer).items():
            if records != self._shown.get(folder, 0):
                self._write(folder, records, finished=False)

    def _finish(self, trainer: Any) -> None:
        # An exception may come before setup was through.
        for folder, records in _folders(trainer).items():
            if records and hasattr(self, "_shown"):
                self._write(folder, records, finished=True)

    def _write(self, folder: Path, records: int, *, finished: bool) -> None:
        self._shown[folder] = records
        try:
            self.path_ = write_report(folder, folder / self.filename, finished=finished)
        except Exception as error:  # the training is worth more than its picture
            if not self._warned:
                self._warned = True
                rank_zero_warn(
                    f"HtmlReport could not write {folder / self.filename} ({error}); training goes "
                    "on, and later probes will try again. The records are not affected."
                )


def _probes(trainer: Any) -> list[Any]:
    # By their attributes: a ProbeCallback may be a subclass or a wrapper of the other Lightning.
    return [
        c for c in trainer.callbacks if hasattr(c, "run_dir_") and hasattr(c, "records_written_")
    ]


def _folders(trainer: Any) -> dict[Path, int]:
    """Return run folder -> records written, on rank zero; nothing elsewhere."""
    if not trainer.is_global_zero:
        return {}
    return {
        Path(probe.run_dir_): probe.records_written_
        for probe in _probes(trainer)
        if probe.run_dir_ is not None
    }
