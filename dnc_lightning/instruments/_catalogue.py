"""From what a user names to the instruments of a probe: built-in, registered, or given."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import partial
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from itertools import combinations
from pathlib import Path
from pkgutil import iter_modules

from torchmetrics import Metric

from dnc_lightning.instruments._torch_metric import TorchMetric
from dnc_lightning.probe.instrument import Instrument
from dnc_lightning.series import PAIR, SHOTS, Series

GROUP = "dnc_lightning.instruments"
"""Entry points of this group are instruments by name: an object, or what makes one when called."""


_cost = partial(Series, group="Cost", low=0.0, direction="lower", scope="probe")
COST = (
    _cost("seconds", "Time of a probe", "of the last probe", unit="s"),
    _cost(
        "overhead",
        "Share of probing",
        "part of the wall time so far that the package took",
        high=1.0,
    ),
)
"""What the callback measures of every probe."""


def _families() -> Iterator[Instrument]:
    """What each public module of this package calls `INSTRUMENT`, in the order of their names."""
    for module in iter_modules([str(Path(__file__).parent)]):
        if not module.name.startswith("_"):
            yield import_module(f"{__package__}.{module.name}").INSTRUMENT


BUILT_IN = {instrument.name: instrument for instrument in _families()}

DEFAULT = ("collapse", "few_shot", "guarantee", "health", "orthogonality", "variance")
"""Names of what a probe measures that names nothing."""

Given = str | Instrument | Metric


def find_instruments(metrics: Sequence[Given] | None) -> tuple[Instrument, ...]:
    """Look up names, take instruments, and wrap metrics of torchmetrics.

    Args:
        metrics: Names of `BUILT_IN` or of entry points of `GROUP`, instruments and metrics; None
            for `DEFAULT`.

    Returns:
        One instrument for each, built-in ones first.

    Raises:
        ValueError: an unknown name, something else than an instrument, one that declares nothing or
            not what it should, one given twice, or two with the same key.
    """
    if isinstance(metrics, str):
        raise ValueError(f"metrics must be a sequence, got {metrics!r}. Write [{metrics!r}].")
    points = list(entry_points(group=GROUP))  # a look at everything that is installed
    chosen = DEFAULT if metrics is None else metrics
    found = [_instrument(metric, points) for metric in chosen]
    names = [instrument.name for instrument in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"metrics name {', '.join(twice)} twice. Keep one of each.")
    for instrument in found:
        _check_declaration(instrument)
    _check_keys(found)
    order = {name: place for place, name in enumerate(BUILT_IN)}
    return tuple(sorted(found, key=lambda instrument: order.get(instrument.name, len(order))))


def declared(instruments: Sequence[Instrument]) -> list[Series]:
    """All series of a probe with these instruments, its cost last."""
    return [*(series for instrument in instruments for series in instrument.series), *COST]


def _instrument(metric: Given, points: Sequence[EntryPoint]) -> Instrument:
    if not isinstance(metric, str):
        return _checked(metric, "metrics must be names, instruments or torchmetrics.Metric objects")
    registered = [point for point in points if point.name == metric]
    makers = [*map(_maker, registered), *(["dnc_lightning"] if metric in BUILT_IN else [])]
    if len(makers) > 1:
        raise ValueError(
            f"metric {metric!r} is registered by {' and by '.join(makers)}: pass the object "
            "instead."
        )
    if not makers:
        further = ", ".join(sorted({point.name for point in points}))
        raise ValueError(
            f"metric {metric!r} is not built in; there is {', '.join(BUILT_IN)}"
            + (f", and installed {further}." if further else ".")
        )
    return _loaded(registered[0]) if registered else BUILT_IN[metric]


def _loaded(point: EntryPoint) -> Instrument:
    try:
        found = point.load()
        if isinstance(found, type) or not isinstance(found, Instrument | Metric):
            found = found()
    except Exception as error:
        raise ValueError(
            f"metric {point.name!r}, registered by {_maker(point)} as {point.value!r}, cannot be "
            f"loaded: {error!r}."
        ) from error
    return _checked(found, f"metric {point.name!r} of {_maker(point)} must be an instrument")


def _maker(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else point.value


def _checked(found: object, must: str) -> Instrument:
    if isinstance(found, Metric):
        return TorchMetric(found)
    if isinstance(found, type) or not isinstance(found, Instrument):
        given = f"the class {found.__name__}" if isinstance(found, type) else type(found).__name__
        raise ValueError(f"{must}, got {given}. An instrument has name, series and measure(bench).")
    return found


def _check_declaration(instrument: Instrument) -> None:
    """Refuse an instrument whose keys cannot be told."""
    name, series = instrument.name, list(instrument.series)
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"{type(instrument).__name__} must have a name, got {name!r}.")
    if not series or not all(isinstance(one, Series) for one in series):
        raise ValueError(
            f"series of instrument {name!r} must be of Series, at least one: got {series}."
        )
    scopes = sorted({one.scope for one in series})
    if scopes not in (["task"], ["features"], ["tasks"]):
        raise ValueError(
            f'all series of instrument {name!r} must have the scope "task", all "features" or all '
            f'"tasks": got {", ".join(scopes)}. Make two instruments.'
        )


def _check_keys(found: Sequence[Instrument]) -> None:
    every = [(instrument, series) for instrument in found for series in instrument.series]
    for (one, a), (other, b) in combinations(every, 2):
        if _collide(a, b):
            raise ValueError(
                f"instrument {one.name!r} declares {a.key!r} and {b.key!r}: the same key."
                if one is other
                else f"instruments {one.name!r} and {other.name!r} have one key: {a.key!r} and "
                f"{b.key!r}. Rename one."
            )


def _collide(a: Series, b: Series) -> bool:
    """Whether two series share a key of one scope; numbers and arrays are kept apart."""
    together = a.scope == b.scope and bool(a.axes) == bool(b.axes)
    return together and bool(pattern(a).fullmatch(b.key) or pattern(b).fullmatch(a.key))


def pattern(series: Series) -> re.Pattern[str]:
    """What the keys of a declaration match, below the prefix of its scope."""
    key = re.escape(series.key)
    for place, words in ((re.escape(SHOTS), r"\d+"), (re.escape(PAIR), "[^/]+-[^/]+")):
        key = key.replace(place, f"({words}|{place})")
    return re.compile(key)
