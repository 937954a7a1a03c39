"""Calls into loggers, which may never return."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from typing import Any, TypeVar
from weakref import WeakSet

_T = TypeVar("_T")

LOGGER_DEADLINE = 30.0
"""Seconds that a logger may take for a call before it is no longer waited for."""

_busy: WeakSet[Any] = WeakSet()
"""Loggers that have not returned yet: a fact about each of them, whoever has called it."""


def in_time(logger: Any, action: Callable[[], _T]) -> _T:
    """Return what `action` gives, or raise what it raises, if it does so before the deadline.

    It runs in a thread of its own, which a blocked call keeps: nothing else can leave a call that
    waits for a server. Calls of one logger never overlap.

    Raises:
        TimeoutError: it takes too long, or an earlier call of the same logger still does.
    """
    if logger in _busy:
        raise TimeoutError("an earlier call has not returned; until then it is given nothing")
    outcome: list[Callable[[], _T]] = []

    def run() -> None:
        try:
            value = action()
        except BaseException as error:  # raised in the thread that waits
            problem = error
            outcome.append(lambda: _raise(problem))
        else:
            outcome.append(lambda: value)
        _busy.discard(logger)

    _busy.add(logger)
    thread = Thread(target=run, daemon=True)
    thread.start()
    thread.join(LOGGER_DEADLINE)
    if not outcome:
        raise TimeoutError(
            f"it has not returned for {LOGGER_DEADLINE:g} s; until it does it is given nothing more"
        )
    return outcome[0]()


def _raise(problem: BaseException) -> Any:
    raise problem
