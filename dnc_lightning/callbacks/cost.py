"""What the package takes of a run's wall time, by one clock for each probe."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Concatenate, ParamSpec, TypeVar

from dnc_lightning.callbacks.schedules import Cost

P = ParamSpec("P")
T = TypeVar("T")


class Meter:
    """The clock of everything that a probe brings with it, from the setup of a fit to its end.

    A context manager around work in the training process; blocks inside a block count once. The
    wall time that the share is taken of begins with the setup of a fit.

    Args:
        now: Returns a time in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.now = now
        self.parts: dict[str, float] = {}  # seconds that each part of a probe took the last time
        self._before = (0.0, 0.0)  # spent and elapsed in fits before this one
        self._spent = 0.0
        self._began: float | None = None
        self._entered = 0.0
        self._depth = 0

    @property
    def spent(self) -> float:
        """Seconds of all blocks, those that are not over included."""
        running = self.now() - self._entered if self._depth else 0.0
        return self._before[0] + self._spent + running

    @property
    def elapsed(self) -> float:
        """Seconds of wall time since the first block, over all fits of the run."""
        running = 0.0 if self._began is None else self.now() - self._began
        return self._before[1] + running

    def __enter__(self) -> None:
        if not self._depth:
            self._entered = self.now()
        self._depth += 1

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if not self._depth:
            self._spent += self.now() - self._entered

    def start(self) -> None:
        """Begin a fit, if that was not done."""
        if self._began is None:
            self._began = self.now()

    def add(self, part: str | None, seconds: float) -> None:
        """Count work that has just ended; inside a block it counts already.

        Args:
            part: What is done again after a later probe; None for what is not.
            seconds: That it took.
        """
        if part is not None:
            self.parts[part] = seconds
        if not self._depth and self._began is not None:
            self._spent += seconds

    def cost(self) -> Cost:
        """What all has cost until now, and what one more probe and the last one will."""
        probe, thorough = (self.parts.get(name, 0.0) for name in ("probe", "thorough probe"))
        others = sum(self.parts.values()) - probe - thorough  # pages, checkpoints, lines
        # Both may be written again, after the next probe and after the last.
        ahead = (probe or thorough) + thorough + 2 * others
        elapsed, spent = self.elapsed, self.spent
        return Cost(max(elapsed, spent), spent, ahead)

    def resume(self, spent: float, elapsed: float) -> None:
        """Go on from what the fits before this one cost and lasted; 0 for a run that begins."""
        self._before = (spent, elapsed)
        self.parts.clear()

    def stop(self) -> None:
        """End a fit: what passes until the next one is no time of the run."""
        self._before = (self.spent, self.elapsed)
        self._spent, self._began = 0.0, None
        self._entered = self.now()


def counted(
    hook: Callable[Concatenate[Any, P], T],
) -> Callable[Concatenate[Any, P], T]:
    """Count the time of a hook as a cost of the probe whose it is."""

    @functools.wraps(hook)
    def timed(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with self.meter_:
            return hook(self, *args, **kwargs)

    return timed


@contextmanager
def shared(meters: Sequence[Meter], part: str | None) -> Iterator[None]:
    """Count the time of what is done inside as a cost of some probes, in equal shares.

    Args:
        meters: Of the probes.
        part: What is done again after a later probe; None for the setup of a fit.
    """
    began = time.monotonic()
    if part is None:
        for meter in meters:
            meter.start()
    try:
        yield
    finally:
        seconds = time.monotonic() - began
        for meter in meters:
            meter.add(part, seconds / len(meters))
