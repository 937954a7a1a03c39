"""The run in the terminal: a line for each probe, two values in the bar, a table at the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from dnc_lightning.callbacks.cost import shared
from dnc_lightning.callbacks.probes import meters_of, require_probes
from dnc_lightning.records.lines import read_ends
from dnc_lightning.records.store import RECORDS_FILE, read_header, read_run
from dnc_lightning.reporting.optional import require
from dnc_lightning.reporting.terminal import live_values, print_run, probe_line


class TerminalSummary(Callback):
    """Prints a line after each probe, above the progress bar, and a table when training ends.

    The bar itself carries the latest of these values, as "dir=0.134, cert@5=0.41".

    The line reads "step 64  dir 0.134 ↓4.2x | cert@5 0.41": directional CDNV, how many times
    smaller it is than at the first probe, and the certified error of 5 labelled samples. The table
    is that of `dnc show`. Both are made from the records on disk, on rank zero, the line from the
    first one and the new ones alone, so that it takes as long after a thousand probes as after
    one. What cannot be printed never stops the training. The time counts as overhead of the probe.

    Args:
        lines: Print a line for each probe, not the table and the values in the bar alone.

    Examples:
        ```python
        trainer = Trainer(callbacks=[ProbeCallback(probe), TerminalSummary()])
        ```
    """

    def __init__(self, lines: bool = True) -> None:
        self.lines = lines

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Check, before the first step, that there is something to show and the means to show it.

        Raises:
            ModuleNotFoundError: If rich is not installed; the message names the extra.
            ValueError: If the Trainer has no `ProbeCallback`.
        """
        if stage != "fit":
            return
        self._probes = require_probes(trainer, "TerminalSummary shows what a ProbeCallback records")
        with shared(meters_of(self._probes), None):
            require("rich")
        self._shown: dict[str, int] = {}  # name of a probe -> records that have had a line
        self._warned = False
        self._finished = False

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Show a new probe; the first one too, which ran before there was a bar."""
        if not trainer.is_global_zero:
            return
        for probe in self._probes:
            if probe.records_written_ != self._shown.get(probe.name, 0):
                self._attempt(probe, self._show, trainer, probe)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Print the table of a run that is stopped."""
        self._finish(trainer)

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        """Print the table, when the last probe has run whatever the order of the callbacks."""
        self._finish(trainer)

    def _finish(self, trainer: Any) -> None:
        # An exception may come before setup was through.
        if not trainer.is_global_zero or getattr(self, "_finished", True):
            return
        self._finished = True
        for probe in self._probes:
            if probe.records_written_:
                self._attempt(probe, _print_table, probe)

    def _show(self, trainer: Any, probe: Any) -> None:
        written = probe.records_written_
        new = written - self._shown.get(probe.name, 0)
        self._shown[probe.name] = written
        bar = trainer.progress_bar_callback
        bar = bar if bar is not None and bar.is_enabled else None
        if bar is None and not self.lines:
            return
        header = read_header(probe.run_dir_)
        first, latest = read_ends(Path(probe.run_dir_) / RECORDS_FILE, new)
        if bar is not None:
            several = len(self._probes) > 1
            values = live_values(latest[-1].scalars, header)
            # Lightning keeps them until the next fit. `log(prog_bar=True)` would also put them
            # among the callback metrics.
            trainer.progress_bar_metrics.update(
                {f"{probe.name}/{k}" if several else k: words for k, words in values.items()}
            )
        for record in latest if self.lines else ():
            words = probe_line(record.scalars, first.scalars, header)
            text = f"{probe.name}  step {record.step:,}  {words}"
            if bar is not None:
                bar.print(text)
            else:
                rank_zero_info(text)

    def _attempt(self, probe: Any, work: Any, *arguments: Any) -> None:
        try:
            with shared(meters_of([probe]), "lines"):
                work(*arguments)
        except Exception as error:  # the training is worth more than its table
            if not self._warned:
                self._warned = True
                rank_zero_warn(
                    f"TerminalSummary could not print ({error}); training goes on. The records "
                    "are not affected."
                )


def _print_table(probe: Any) -> None:
    folder = Path(probe.run_dir_)
    print_run(read_run(folder), str(folder))
