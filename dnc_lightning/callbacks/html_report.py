"""A page that shows the run while it trains."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_warn

from dnc_lightning.callbacks.cost import shared
from dnc_lightning.callbacks.probes import meters_of, require_probes
from dnc_lightning.reporting.html import write_report
from dnc_lightning.reporting.optional import require

PROMPT = 10
"""Pages of a run that are written right after their probe, however long that takes."""

PATIENCE = 20
"""Later ones wait until this many times as long as the last one took has passed since then."""


@dataclass
class Page:
    """What was last written of a run."""

    records: int = 0  # in it
    count: int = 0  # versions
    finished: bool = False
    due: float = 0.0  # by the monotonic clock, of the next version

    def written(self, records: int, began: float, *, finished: bool) -> None:
        """Take down a version whose writing began then and ends now."""
        now = time.monotonic()
        self.records, self.finished, self.count = records, finished, self.count + 1
        self.due = 0.0 if self.count < PROMPT else now + PATIENCE * (now - began)


class HtmlReport(Callback):
    """Keeps one self-contained page per `ProbeCallback`, rewritten after its probes.

    The page lies in the run's folder, needs no server and no network, and may be opened at any
    time: each version replaces the last in one step. It is made from the records on disk alone, on
    rank zero, and a page that cannot be written never stops the training.

    A page takes longer the more probes it shows. The first ten follow their probes at once; then
    one is written when twenty times as long has passed as the last one took, so that pages take at
    most a twentieth of the time of training however many probes there are. What was left out then
    is in the next one. At the end, or when training is stopped, the page is always written.
    The time counts as overhead of the probe whose page it is.

    Args:
        filename: Name of the page inside the run's folder.

    Examples:
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
        self._probes = require_probes(trainer, "HtmlReport shows what a ProbeCallback records")
        with shared(meters_of(self._probes), None):
            require("plotly")
        self.path_: Path | None = None  # of the page written last
        self._pages: dict[Path, Page] = {}  # by run folder
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

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Leave a page that no longer waits for more."""
        self._finish(trainer)

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        """Write the page a last time, marked as finished, whatever the order of the callbacks."""
        self._finish(trainer)

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """The same for a probe that came later still."""
        if stage == "fit":
            self._finish(trainer)

    def _update(self, trainer: Any) -> None:
        if not trainer.is_global_zero:
            return
        for probe in self._probes:
            if not (records := probe.records_written_):
                continue
            page = self._page(probe)
            if records != page.records and time.monotonic() >= page.due:
                self._write(probe, page, finished=False)

    def _finish(self, trainer: Any) -> None:
        # An exception may come before setup was through.
        if not trainer.is_global_zero or not hasattr(self, "_pages"):
            return
        for probe in self._probes:
            page = self._page(probe)
            if probe.records_written_ > (page.records if page.finished else 0):
                self._write(probe, page, finished=True)

    def _page(self, probe: Any) -> Page:
        return self._pages.setdefault(probe.run_dir_, Page())

    def _write(self, probe: Any, page: Page, *, finished: bool) -> None:
        began, folder = time.monotonic(), Path(probe.run_dir_)
        try:
            with shared(meters_of([probe]), "page"):
                self.path_ = write_report(folder, folder / self.filename, finished=finished)
        except Exception as error:  # the training is worth more than its picture
            if not self._warned:
                self._warned = True
                rank_zero_warn(
                    f"HtmlReport could not write {folder / self.filename} ({error}); training goes "
                    "on, and later probes will try again. The records are not affected."
                )
        page.written(probe.records_written_, began, finished=finished)
