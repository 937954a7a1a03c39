"""Calls into code of others that may never return."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from typing import Any, TypeVar

_T = TypeVar("_T")

LOGGER_DEADLINE = 30.0
"""Seconds that a logger may take for a call before it is no longer waited for."""


class Patience:
    """Calls loggers, and calls no more those that did not return in time.

    Each call runs in a thread of its own, which a blocked one keeps: nothing else can leave a call
    that waits for a server. Calls of one logger never overlap, for after the first that is late
    there are none.
    """

    def __init__(self, seconds: float = LOGGER_DEADLINE) -> None:
        self.seconds = seconds
        self._late: list[Any] = []  # loggers

    def call(self, logger: Any, action: Callable[[], _T]) -> _T:
        """Return what `action` gives, or raise what it raises.

        Raises:
            TimeoutError: it, or an earlier call of the same logger, takes too long.
        """
        if any(one is logger for one in self._late):
            raise TimeoutError("an earlier call has not returned; it is given nothing more")
        outcome: list[Callable[[], _T]] = []
        thread = Thread(target=_run, args=(action, outcome), daemon=True)
        thread.start()
        thread.join(self.seconds)
        if not outcome:
            self._late.append(logger)
            raise TimeoutError(
                f"it has not returned for {self.seconds:g} s; it is given nothing more in this run"
            )
        return outcome[0]()


def _run(action: Callable[[], _T], outcome: list[Callable[[], _T]]) -> None:
    try:
        value = action()
    except BaseException as error:  # raised in the thread that waits
        problem = error
        outcome.append(lambda: _raise(problem))
    else:
        outcome.append(lambda: value)


def _raise(problem: BaseException) -> Any:
    raise problem
